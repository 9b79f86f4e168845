"""One step of every segmentation decoder on backbones of many families, and the table of what came of it.

    python tools/decoders.py --out docs/results                    all pairs, some minutes on two cores
    python tools/decoders.py --out docs/results --only 'fpn timm/*'    these again ("decoder backbone"); others stay

Random weights, two pictures of noise. A pair is sound when one batch gives logits of the right shape and a finite loss,
when every parameter that the loss reads gets a gradient and moves, and when a picture of another shape is decided in
evaluation. A pair that cannot work must say so in words, with another that can.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args

import torch
from visiontl_segmentation.config import DECODERS, SMALLEST

from visiontl import Backbone, BackboneError, plugins

CLASSES = 3
SIDE = 64  # pixels; more where a decoder or a backbone needs it
# name -> (what stands for, settings of its build)
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "timm/resnet10t": ("ResNet", {}),
    "timm/resnet10t at stride 16": ("ResNet, dilated", {"output_stride": 16}),
    "timm/mobilenetv3_small_050": ("MobileNetV3", {}),
    "timm/efficientnet_lite0": ("EfficientNet", {}),
    "timm/regnetx_002 at stride 8": ("RegNet, dilated", {"output_stride": 8}),
    "timm/convnext_atto": ("ConvNeXt: from stride 4 on", {}),
    "timm/swin_s3_tiny_224": ("Swin: from stride 4 on", {}),
    "timm/pvt_v2_b0": ("PVTv2: from stride 4 on", {}),
    "timm/hrnet_w18_small": ("HRNet", {}),
    "timm/vit_tiny_patch16_224": ("ViT: one stride", {"image_size": (64, 64)}),
    "timm/vit_small_patch14_dinov2": ("DINOv2: patches of 14", {"image_size": (70, 70)}),
    "timm/levit_128s": ("LeViT: from stride 16 on", {"image_size": (224, 224)}),
    "timm/hiera_tiny_224": ("Hiera: one image size", {"image_size": (224, 224)}),
    "torchvision/mobilenet_v2": ("MobileNetV2", {}),
    "torchvision/squeezenet1_1": ("SqueezeNet: up to stride 16", {}),
    "torchvision/vgg11": ("VGG: from stride 1 on", {}),
    "torchvision/inception_v3": ("Inception: without padding", {"image_size": (128, 128)}),
    "visiontl/tiny": ("bundled", {}),
}


@dataclass(frozen=True)
class Result:
    """outcome: ok | refused | FAILED. said: the refusal, or what is wrong. parameters: of decoder and head."""

    decoder: str
    backbone: str
    outcome: str
    said: str = ""
    logits: str = ""
    parameters: int = 0
    seconds: float = 0.0


def made(name: str, decoder: str) -> Backbone:
    entry, _ = plugins.backbone_entry(name.partition(" ")[0])
    settings = {"image_size": (SIDE, SIDE), **BACKBONES.get(name, ("", {}))[1]}
    least = SMALLEST.get(decoder, 0)
    return entry.build(**{**settings, "image_size": tuple(max(side, least) for side in settings["image_size"])})


def one_step(decoder: str, name: str) -> Result:
    """Build the pair, train one step, evaluate one picture."""
    began = time.perf_counter()
    torch.manual_seed(0)
    try:
        backbone = made(name, decoder)
        problems, logits, parameters = tried(decoder, backbone)
    except BackboneError as error:
        return Result(decoder, name, "refused", str(error))
    except Exception as error:
        return Result(decoder, name, "FAILED", f"{type(error).__name__}: {error}"[:300])
    seconds = round(time.perf_counter() - began, 2)
    return Result(decoder, name, "FAILED" if problems else "ok", "; ".join(problems), logits, parameters, seconds)


def tried(decoder: str, backbone: Backbone) -> tuple[list[str], str, int]:
    from visiontl_segmentation.config import SegmentationConfig
    from visiontl_segmentation.losses import loss
    from visiontl_segmentation.model import model
    from visiontl_segmentation.pixels import decided

    cfg = SegmentationConfig.model_validate({"data": ".", "decoder": decoder})
    meta = {"classes": [str(k) for k in range(CLASSES)], "counts": [1] * CLASSES}
    net = model(cfg, backbone, meta)
    height, width = (-(-side // 32) * 32 for side in backbone.spec.size)
    if backbone.spec.sizing == "fixed":
        height, width = backbone.spec.size
    batch = {
        "image": torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8),
        "mask": torch.randint(0, CLASSES, (2, height, width), dtype=torch.uint8),
    }
    problems = []
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.train()
    logits = net(batch)["logits"]
    if tuple(logits.shape) != (2, CLASSES, height, width):
        problems.append(f"logits of shape {tuple(logits.shape)}")
    value = loss(cfg, {"logits": logits}, batch, meta)["loss"]
    value.backward()
    if not torch.isfinite(value):
        problems.append(f"a loss of {float(value)}")
    own = {n: p for n, p in net.named_parameters() if not n.startswith("decode.backbone.")}
    without = [n for n, p in own.items() if p.grad is None and p.numel()]
    if without:
        problems.append(f"no gradient for {len(without)} parameters such as {without[0]}")
    if not any(p.grad is not None and bool(p.grad.any()) for p in backbone.parameters()):
        problems.append("no gradient reaches the backbone")
    optimizer.step()
    net.eval()
    other = (height, width) if backbone.spec.sizing == "fixed" else (height + 32, width)
    with torch.no_grad():
        found = net({"image": torch.randint(0, 256, (1, 3, *other), dtype=torch.uint8)})
    shown = (other[0] - 9, other[1] - 5)
    mask = decided(found["logits"][0], tuple(found["extent"][0].tolist()), shown, (50, 71))
    if tuple(mask.shape) != (50, 71) or int(mask.max()) >= CLASSES:
        problems.append("evaluation decides no mask of the photo's size")
    return problems, "x".join(map(str, found["logits"].shape[2:])), sum(p.numel() for p in own.values())


def page(results: Sequence[Result]) -> str:
    """Markdown: decoders down, backbones across, then the refusals in words."""
    names = list(dict.fromkeys(result.backbone for result in results))
    decoders = list(dict.fromkeys(result.decoder for result in results))
    by_pair = {(result.decoder, result.backbone): result for result in results}
    counts = {outcome: sum(r.outcome == outcome for r in results) for outcome in ("ok", "refused", "FAILED")}
    lines = [
        "# Decoders on backbones",
        "",
        " ".join((__doc__ or "").split("\n\n")[2].split()),
        "",
        f"{counts['ok']} of {len(results)} pairs are sound, {counts['refused']} are refused, "
        f"{counts['FAILED']} failed. "
        "In a cell: millions of parameters of decoder and head; - for a refused pair.",
        "",
        "| backbone | what | " + " | ".join(decoders) + " |",
        "| --- | --- | " + " | ".join("---" for _ in decoders) + " |",
    ]
    for name in names:
        cells = [cell(by_pair.get((decoder, name))) for decoder in decoders]
        lines.append(f"| {name} | {BACKBONES.get(name, ('', {}))[0]} | " + " | ".join(cells) + " |")
    refused = [result for result in results if result.outcome != "ok"]
    if refused:
        lines += ["", "What is said:", ""]
        lines += [f"- {result.decoder}: {result.said}" for result in refused]
    lines += [
        "",
        f"torch {torch.__version__}, CPU, {date.today().isoformat()}. Command: `python tools/decoders.py`",
        "",
    ]
    return "\n".join(lines)


def cell(result: Result | None) -> str:
    if result is None:
        return ""
    return {"ok": f"{result.parameters / 1e6:.2f}", "refused": "-"}.get(result.outcome, "FAILED")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a folder for decoders.md and .jsonl; without it only printed")
    parser.add_argument("--only", default="*", help="pattern on 'decoder backbone'")
    options = parser.parse_args()
    log = options.out / "decoders.jsonl" if options.out else None
    known = [Result(**json.loads(line)) for line in log.read_text().splitlines()] if log and log.exists() else []
    by_pair = {(result.decoder, result.backbone): result for result in known}
    for name in BACKBONES:
        for decoder in get_args(DECODERS):
            if fnmatch.fnmatchcase(f"{decoder} {name}", options.only):
                last = by_pair[decoder, name] = one_step(decoder, name)
                print(f"{last.outcome:8}{decoder:15}{name:32}{last.logits:9}{last.seconds:6}  {last.said}", flush=True)
    pairs = [(decoder, name) for name in BACKBONES for decoder in get_args(DECODERS)]
    results = [by_pair[pair] for pair in pairs if pair in by_pair]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "decoders.md").write_text(page(results), encoding="utf-8")
        records = "".join(json.dumps(asdict(result)) + "\n" for result in results)
        (options.out / "decoders.jsonl").write_text(records, encoding="utf-8")
    return 1 if any(result.outcome == "FAILED" for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
