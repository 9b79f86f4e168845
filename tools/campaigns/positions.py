"""Tables of positions at other image sizes, compared with timm's own loading: one architecture (the smallest) of every
kind that timm has, at two squares and a rectangle.

    python tools/campaigns/positions.py [--only PATTERN] [--page]

Goes on where it was stopped: every row is kept in docs/results/positions.jsonl. --page writes the page alone.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch

from visiontl import Weights, plugins
from visiontl.backbones import catalog, positions
from visiontl.backbones.timm import meta_body, quiet
from visiontl.backbones.weights import make_backbone
from visiontl.errors import VisionTLError, first_line

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
ROWS, PAGE = RESULTS / "positions.jsonl", RESULTS / "positions.md"
LARGEST = 150e6  # parameters of an architecture that is tried
TOLERANCE = 1e-6

MEANING = {
    "same": "loaded, and every table equals what timm's own loading gives",
    "own": "timm's own loading raises; loaded with tables resized as timm resizes others of their kind",
    "forward": "the body takes any size and resizes its table, or cuts its windows, in each pass; loaded as it is",
    "refused": "what is loaded does not fit and cannot be resized: refused, as timm's own loading raises",
    "refused here": "refused, though timm's own loading takes it",
    "no such size": "the architecture is not made for that size",
    "different": "loaded with other values than timm's",
}


def kinds() -> dict[str, str]:
    """{kind (module of timm and the first word of its names): its smallest architecture with tables of positions}."""
    found: dict[str, tuple[float, str]] = {}
    for name, row in catalog.read().rows.items():
        library, _, arch = name.partition("/")
        if library != "timm" or row.problem or not row.params or row.params > LARGEST:
            continue
        module = timm.models._registry._model_to_module[arch]
        kind = f"{module} {re.split(r'[^a-z]', arch)[0]}"
        found[kind] = min(found.get(kind, (LARGEST, "")), (row.params, arch))
    return {kind: arch for kind, (_, arch) in sorted(found.items())}


def sizes(arch: str) -> list[tuple[int, int]]:
    side = (catalog.read().rows[f"timm/{arch}"].size or (224, 224))[0]
    step = 96 if arch.startswith("crossvit") else 32  # patches of 12 and of 16 pixels
    small, large = (step * round(side * ratio / step) for ratio in (0.72, 1.28))
    return [(small, small), (large, large), (small, large)]


def tables(arch: str, small: int, large: int) -> list[str]:
    """Names of the tensors whose shape depends on the image size. Empty where the architecture takes no size."""
    try:
        one, other = (meta_body(arch, {"num_classes": 0, "img_size": side}).state_dict() for side in (small, large))
    except Exception:  # no such argument, or no such size
        try:
            state = meta_body(arch, {"num_classes": 0}).state_dict()
        except Exception:
            return []
        return [name for name in state if positions.NAMES.search(name) and state[name].is_floating_point()]
    return [name for name in one if one[name].shape != other[name].shape]


def source(arch: str, names: list[str]) -> dict[str, torch.Tensor]:
    """A state dict of the architecture at its own size, with random tables."""
    torch.manual_seed(0)
    with quiet():
        model: Any = timm.create_model(arch, num_classes=0)
    for name, tensor in model.state_dict().items():
        if name in names:
            torch.nn.init.normal_(tensor)
    return model.state_dict()


def compared(arch: str, state: dict[str, torch.Tensor], size: tuple[int, int]) -> dict[str, Any]:
    entry, _ = plugins.backbone_entry(f"timm/{arch}")
    given = replace(entry, weights=(Weights("made"),), spec=None, state=lambda tag: dict(state))
    backbone: Any = None
    ours, said = None, ""
    try:
        backbone, report = make_backbone(given, "made", image_size=size)
        ours = backbone.body.state_dict()
        said = next((note for note in report.notes if "resized" in note), "")
    except VisionTLError as error:
        said = first_line(error)
        if "takes images" in said or "was asked for" in said:
            return {"outcome": "no such size", "said": said[:160]}
    overlay = {"state_dict": {k: v.clone() for k, v in state.items()}, "num_classes": 0}
    model: Any = None
    theirs, raised = None, ""
    try:
        with quiet(), torch.no_grad():
            model = timm.create_model(
                arch, num_classes=0, img_size=size, pretrained=True, pretrained_cfg_overlay=overlay
            )
        theirs = model.state_dict()
    except Exception as error:
        raised = first_line(error)
    row: dict[str, Any] = {"said": said[:160], "timm": raised[:160]}
    if ours is None:
        return {"outcome": "refused" if theirs is None else "refused here", **row}
    changed = [name for name in ours if name in state and ours[name].shape != state[name].shape]
    if not changed and (theirs is None or any(theirs[k].shape != ours[k].shape for k in ours if k in theirs)):
        if theirs is not None:  # does the body that resizes in each pass give what timm's own one gives?
            image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
            with torch.no_grad():
                own = backbone.eval()(image, pooled=True).pooled
                other = model.eval().forward_head(model.forward_features(backbone.normalize(image)), pre_logits=True)
            row["embedding"] = float((own - other).abs().max() / other.abs().max())
        return {"outcome": "forward", **row}
    if theirs is None:
        return {"outcome": "own", "tables": len(changed), **row}
    gaps = [float((ours[k].float() - theirs[k].float()).abs().max()) for k in ours if k in theirs and ours[k].numel()]
    gap = max(gaps, default=0.0)
    return {"outcome": "same" if gap <= TOLERANCE else "different", "tables": len(changed), "difference": gap, **row}


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.exists() else []


def work(only: str) -> Iterator[dict[str, Any]]:
    done = {(row["kind"], tuple(row["size"])) for row in rows() if row["outcome"] != "no tables"}
    without = {row["kind"] for row in rows() if row["outcome"] == "no tables"}
    for kind, arch in kinds().items():
        wanted = [size for size in sizes(arch) if (kind, size) not in done]
        if not fnmatch.fnmatch(kind, only) or kind in without or not wanted:
            continue
        small, large = sizes(arch)[0][0], sizes(arch)[1][0]
        names = tables(arch, small, large)
        if not names:
            yield {"kind": kind, "architecture": arch, "size": [], "outcome": "no tables"}
            continue
        state = source(arch, names)
        for size in wanted:
            yield {"kind": kind, "architecture": arch, "size": list(size), **compared(arch, state, size)}


def page() -> str:
    found = sorted(rows(), key=lambda row: (row["kind"], row["size"]))
    kept = [row for row in found if row["outcome"] != "no tables"]
    untried = len(kinds().keys() - {row["kind"] for row in found})
    counts = {name: sum(row["outcome"] == name for row in kept) for name in MEANING}
    lines = [
        "# Tables of positions at other image sizes",
        "",
        "The smallest architecture (below 150 million parameters) of every kind that timm has, with random weights",
        "and random tables of its own size, loaded at two squares and a rectangle by visiontl, and by",
        f"`timm.create_model(..., img_size=..., pretrained=True)`. {len({row['kind'] for row in kept})} kinds have",
        f"tables of positions, {len(found) - len(kept)} have none, {untried} were not tried. timm {timm.__version__},",
        "`python tools/campaigns/positions.py`.",
        "",
        "| outcome | rows | what it means |",
        "|---|---|---|",
        *(f"| {name} | {counts[name]} | {text} |" for name, text in MEANING.items()),
        "",
        "Where the body resizes in each pass, its embedding of a random image is compared with that of timm's model",
        "made for the size (relative to the largest value). It is another one where timm's model cuts smaller windows",
        "for the size (Swin; here windows stay and maps are padded), where the size is no multiple of the",
        "patch (EVA02, 14 pixels: here padded, there cut), and for FlexiViT, whose files timm resizes",
        "bilinearly, but bicubically in a pass.",
        "",
        "| kind (module, names) | architecture | H x W | outcome | tables changed | largest difference | words |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in kept:
        gap = f"{row['difference']:.1e}" if "difference" in row else ""
        gap = f"{row['embedding']:.1e} of the embedding" if "embedding" in row else gap
        said = row.get("said", "").replace("|", "/") if row["outcome"] not in ("same", "forward") else ""
        height, width = row["size"]
        lines.append(
            f"| {row['kind']} | {row['architecture']} | {height} x {width} | {row['outcome']} "
            f"| {row.get('tables', '')} | {gap} | {said} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of kinds")
    parser.add_argument("--page", action="store_true", help="write the page from the rows that are there")
    given = parser.parse_args()
    if not given.page:
        for row in work(given.only):
            with ROWS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
