"""Stylized pictures, however they were made, measured with any backbone: one that nothing was optimized for is an
independent judge."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import visiontl
from visiontl import ConfigError, DataError
from visiontl.kit.images import open_image, to_tensor
from visiontl.kit.words import did_you_mean
from visiontl_style.commands import JudgeOptions
from visiontl_style.formulas import (
    PERIODS,
    checkerboard,
    energy_by_period,
    flatness,
    gram,
    gram_distance,
    ripple,
    statistics,
    total_variation,
)
from visiontl_style.loss_network import LossNetwork
from visiontl_style.model import PERIOD
from visiontl_style.optimize import judge_of
from visiontl_style.pictures import open_style, pictures_in, sized, to_pil
from visiontl_style.scores import LEAST_ENERGY
from visiontl_style.views import square


@dataclass(frozen=True)
class Measured:
    """style, root: {layer: distance / that of the plain photos}, squared and not. content: root mean squared difference
    of features / that of unrelated photos. right_photo, right_photo_raw: share of results whose nearest photo, by
    instance-normalized and by raw features, is their own. right_painting, plain_painting: share of results, and of the
    photos themselves, whose nearest painting is the style. total_variation: / the photos'; ripple:
    the same where the photos are flat. energy: at each of PERIODS / the photos'. checkerboard, plain_checkerboard:
    levels of 255."""

    count: int
    paintings: int
    style: dict[str, float]
    root: dict[str, float]
    content: dict[str, float]
    right_photo: dict[str, float]
    right_photo_raw: dict[str, float]
    right_painting: float
    plain_painting: float
    total_variation: float
    ripple: float
    energy: list[float]
    checkerboard: float
    plain_checkerboard: float


@torch.no_grad()
def measure(
    judge: LossNetwork, photos: Sequence[Tensor], results: Sequence[Tensor], style: Tensor, paintings: Sequence[Tensor]
) -> Measured:
    """photos, results: (1, 3, S, S) 0..1 in the same order, two or more; style, paintings: (1, 3, h, w)."""
    layers = judge.layers
    seen = [[judge(one, layers.judged) for one in group] for group in (photos, results)]
    matrices = [[{name: gram(one[name]) for name in layers.style} for one in group] for group in seen]
    styles = [judge(one, tuple(layers.style)) for one in (style, *paintings)]
    canvases = [{name: gram(one[name]) for name in layers.style} for one in styles]
    distance, root, content, right, raw = {}, {}, {}, {}, {}
    for name in layers.style:
        plain, made = (torch.cat([gram_distance(one[name], canvases[0][name]) for one in group]) for group in matrices)
        distance[name] = float(made.mean() / plain.mean())
        root[name] = float(made.sqrt().mean() / plain.sqrt().mean())
    for name in layers.content:
        given, found = (torch.cat([one[name].float() for one in group]) for group in seen)  # (N, C, h, w)
        raw[name], between = nearest(found, given)
        own, others = between.diagonal(), between_photos(given)
        content[name] = float((own.mean() / others.mean()).sqrt())
        right[name], _ = nearest(normalized(found), normalized(given))
    flat = [flatness(photo) for photo in photos]
    return Measured(
        count=len(photos),
        paintings=len(canvases),
        style=distance,
        root=root,
        content=content,
        right_photo=right,
        right_photo_raw=raw,
        right_painting=share_nearest(matrices[1], canvases),
        plain_painting=share_nearest(matrices[0], canvases),
        total_variation=float(sum(map(total_variation, results)) / sum(map(total_variation, photos))),
        ripple=float(sum(map(ripple, results, flat)) / sum(map(ripple, photos, flat))),
        energy=(energy_of(results) / energy_of(photos).clamp(min=LEAST_ENERGY)).tolist(),
        checkerboard=float(torch.cat([checkerboard(one, PERIOD) for one in results]).mean()),
        plain_checkerboard=float(torch.cat([checkerboard(one, PERIOD) for one in photos]).mean()),
    )


def energy_of(pictures: Sequence[Tensor]) -> Tensor:
    """(periods,), the mean over pictures."""
    return torch.cat([energy_by_period(one) for one in pictures]).mean(0)


def normalized(features: Tensor) -> Tensor:
    """Without the mean and deviation of each channel, which the style changes."""
    mean, deviation = statistics(features)
    return (features - mean) / deviation


def nearest(found: Tensor, given: Tensor) -> tuple[float, Tensor]:
    """(share of `found` whose nearest of `given` has its own place, (N, N) squared distances)."""
    squares = torch.cdist(found.flatten(1).double(), given.flatten(1).double()).square()
    return float((squares.argmin(1) == torch.arange(len(found), device=found.device)).double().mean()), squares


def between_photos(given: Tensor) -> Tensor:
    """Squared distances of all pairs of different photos."""
    squares = torch.cdist(given.flatten(1).double(), given.flatten(1).double()).square()
    return squares[~torch.eye(len(given), dtype=torch.bool, device=given.device)]


def share_nearest(pictures: Sequence[dict[str, Tensor]], canvases: Sequence[dict[str, Tensor]]) -> float:
    """Share of pictures for which the first canvas is the nearest by Gram matrices of unit norm."""

    def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return sum(float((one[n] / one[n].norm() - other[n] / other[n].norm()).square().sum()) for n in one)

    hits = [min(range(len(canvases)), key=lambda i: apart(one, canvases[i])) == 0 for one in pictures]
    return sum(hits) / len(hits)


def matched(photos: Sequence[str], folder: Path) -> list[tuple[str, str]]:
    """(photo, its result): a result has its photo's name. Raises DataError where fewer than two match."""
    if not photos:
        raise DataError("no photos are named; the results of these photos are matched by their names")
    results, _ = pictures_in([str(folder)], "RESULTS")
    by_name = {Path(result).stem: result for result in results if "previews" not in Path(result).parts}
    files, _ = pictures_in(photos, "PHOTO")
    pairs = [(photo, by_name[Path(photo).stem]) for photo in files if Path(photo).stem in by_name]
    if not pairs:
        raise DataError(
            f"{folder}: none of its {len(by_name)} pictures has the name of one of the {len(files)} photos; results "
            "are matched by name, as `visiontl predict` and `visiontl style optimize` write them"
        )
    return pairs


def held_out(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    """(photo, photo) of those named, or of the run's val split."""
    files = list(arguments.photos)
    if not files:
        listed = arguments.results / "splits" / "val.txt"
        if not listed.is_file():
            raise DataError(f"{arguments.results}: a run without val photos; name some after it")
        # not splitlines, which also ends a line at characters that names may hold
        try:
            lines = listed.read_text(encoding="utf-8").split("\n")
            files = [str(json.loads(line)) for line in lines if line]
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{listed}: is not what a run writes ({error}); name some photos after the run") from None
    photos, _ = pictures_in(files, "PHOTO")
    return [(photo, photo) for photo in photos]


def painted(run: Path, photos: Sequence[Tensor], style: str) -> list[Tensor]:
    """The photos, (1, 3, S, S) 0..1 each, painted by a run: with adain like the picture, else in its only style, or
    in the one of its styles that has the picture's name. Raises ConfigError where there is none of that name."""
    predictor = visiontl.load(run)
    cfg: Any = predictor.built.resolved.cfg
    names, name = [known["name"] for known in predictor.meta["styles"]], Path(style).stem
    if cfg.way == "adain":
        options = {"style": style}
    elif len(names) == 1 or name in names:
        options = {"style": name if name in names else names[0]}
    else:
        raise ConfigError(
            f"style={style}: {run} paints {', '.join(names)}, and which of them is judged goes by the picture's name"
            f"{did_you_mean(name, names)}"
        )
    found = predictor.predict([to_pil(photo[0]) for photo in photos], **options)
    return [to_tensor(one["stylized"])[None].float() / 255 for one in found]


def command(arguments: argparse.Namespace) -> int:
    """`visiontl style judge`"""
    options: JudgeOptions = arguments.options
    trained = (arguments.results / "model").is_dir()
    pairs = held_out(arguments) if trained else matched(arguments.photos, arguments.results)
    if len(pairs) < 2:
        raise DataError(
            f"{arguments.results}: 1 result; 2 or more are needed, because unrelated photos are compared too"
        )
    judge = judge_of(options)
    device = next(judge.buffers()).device
    files, _ = pictures_in(options.paintings, "paintings") if options.paintings else ([], [])
    files = [file for file in files if Path(file).resolve() != Path(options.style).resolve()]

    def shown(image: Image.Image) -> Tensor:
        return square(image, options.size)["image"][None].float() / 255

    def canvas(file: str) -> Tensor:
        return to_tensor(sized(open_style(file, "style")[0], options.style_size))[None].to(device).float() / 255

    photos = [shown(open_image(photo)) for photo, _ in pairs]
    if trained:
        results = painted(arguments.results, photos, options.style)
    else:
        results = [shown(open_image(result)) for _, result in pairs]
    photos, results = ([one.to(device) for one in group] for group in (photos, results))
    found = measure(judge, photos, results, canvas(options.style), [canvas(file) for file in files])
    text = table(found, options.backbone, options.size)
    print(text, end="")
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")
    return 0


def table(found: Measured, backbone: str, size: int) -> str:
    """As Markdown."""
    mean = {name: sum(values.values()) / len(values) for name, values in (("style", found.style), ("root", found.root))}
    rows = [
        ("style distance, squared, of the plain photos' (mean of layers)", f"{mean['style']:.3f}"),
        *((f"  {name}", f"{value:.3f}") for name, value in found.style.items()),
        ("style distance, not squared", f"{mean['root']:.3f}"),
        *((f"content distance at {n}, of that between unrelated photos", f"{v:.3f}") for n, v in found.content.items()),
        *(
            (f"right photo found among {found.count}, {n}, instance-normalized", f"{v:.1%}")
            for n, v in found.right_photo.items()
        ),
        *((f"right photo found among {found.count}, {n}, raw", f"{v:.1%}") for n, v in found.right_photo_raw.items()),
        ("total variation, of the photos'", f"{found.total_variation:.2f}"),
        ("ripple: the same where the photos are flat", f"{found.ripple:.2f}"),
        (
            f"energy at periods of {', '.join(map(str, PERIODS))} pixels, of the photos'",
            ", ".join(f"{value:.2f}" for value in found.energy),
        ),
        ("checkerboard, levels of 255 (the photos')", f"{found.checkerboard:.2f} ({found.plain_checkerboard:.2f})"),
    ]
    if found.paintings > 1:
        of = f"{found.right_painting:.1%} (plain photos {found.plain_painting:.1%})"
        rows.append((f"right painting found among {found.paintings}", of))
    head = f"| {found.count} photos at {size} px, judged by {backbone} | |\n| --- | --- |\n"
    return head + "".join(f"| {name} | {value} |\n" for name, value in rows)
