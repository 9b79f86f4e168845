"""What the report shows: photos with their results, distances by layer and by style, and what a picture takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import DataError, Figure, Pictures, Table
from visiontl.kit.charts import file_of
from visiontl.kit.drawing import enlarged, panels
from visiontl.kit.words import told
from visiontl_style.config import StyleConfig
from visiontl_style.formulas import PERIODS, energy_by_period
from visiontl_style.pictures import as_picture, decoded
from visiontl_style.scores import LEAST_ENERGY, by_layer, relative_energy, score

SIDE = 320  # pixels of each of the three pictures of a photo
STYLES = 16  # whose mean is drawn


def fitted(picture: Image.Image) -> Image.Image:
    """An RGB copy of at most SIDE pixels; of a small one each pixel is repeated."""
    shown, _ = enlarged(picture, SIDE)
    shown.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return shown


def preview(
    cfg: StyleConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], image: Callable[[int], Image.Image]
) -> Pictures:
    """A picture for each of the first photos: the photo, the painting whose style it takes, and the result."""
    items: list[tuple[str, Image.Image]] = []
    for id, row in enumerate(rows):
        if "picture" not in row:
            continue
        style = meta["styles"][row["number"]]
        parts = [
            ("style", fitted(as_picture(style["png"]))),
            ("result", fitted(Image.fromarray(row["picture"].transpose(1, 2, 0)))),
        ]
        with suppress(DataError):  # moved or damaged since it was read
            parts.insert(0, ("photo", fitted(in_square(image(id)))))
        words = ": ".join(filter(None, [file_of(image, id), f"in the style of {told(style['name'])}"]))
        items.append((words, panels(parts, columns=len(parts))))
    return Pictures("Photo, style, result", items)


def in_square(photo: Image.Image) -> Image.Image:
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return photo.crop((left, top, left + side, top + side))


def report(
    cfg: StyleConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], image: Callable[[int], Image.Image]
) -> list[Any]:
    """image: id -> photo; row number i is the image with id i."""
    scores = score(cfg, rows, meta)
    layers = scores["style_distance_by_layer"]
    items: list[Any] = []
    shown = preview(cfg, rows, meta, image)
    if shown.items:
        items.append(shown)
    items.append(
        Figure(
            "Style distance by layer",
            partial(draw_layers, rows=rows, names=list(layers)),
            "Squared Gram distance of each result / that of its photo. 1: as far from the style as the photo was.",
            (2 + 0.9 * len(layers), 4.0),
        )
    )
    items.append(
        Figure(
            "Energy by period",
            partial(draw_energy, rows=rows, styles=[style["png"] for style in meta["styles"]]),
            "Energy of the brightness that repeats every so many pixels / that of the photos. A peak that the style "
            "does not have is a mesh or a lattice.",
            (6.0, 3.6),
        )
    )
    if "style_distance_by_style" in scores:
        lines = [(name, f"{value:.3f}") for name, value in scores["style_distance_by_style"].items()]
        items.append(Table("Style distance by style", ("style", "distance"), lines))
    milliseconds = np.array([row["milliseconds"] for row in rows])
    line = [f"{value:.1f}" for value in (np.median(milliseconds), milliseconds.min(), milliseconds.max())]
    caption = f"For {cfg.size} x {cfg.size} pixels, in batches, on the device of this run."
    items.append(Table("Milliseconds per picture", ("median", "least", "most"), [line], caption))
    return items


def draw_layers(axes: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    style, plain = by_layer(rows, "style"), by_layer(rows, "plain_style")
    axes.boxplot(list((style / np.maximum(plain, 1e-9)).T), showfliers=False)
    axes.set_xticks(range(1, len(names) + 1), names, rotation=30, ha="right")
    axes.axhline(1, color="gray", linestyle="--", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("relative to the photo")


def draw_energy(axes: Any, rows: Sequence[Mapping[str, Any]], styles: Sequence[str]) -> None:
    """styles: base64 PNG each; of many the first STYLES."""
    photos = np.maximum(np.array([row["plain_energy"] for row in rows]).mean(0), LEAST_ENERGY)
    painted = [energy_by_period(decoded(png)[None].float() / 255)[0].numpy() for png in styles[:STYLES]]
    axes.plot(PERIODS, relative_energy(rows), marker="o", label="results")
    axes.plot(PERIODS, np.mean(painted, axis=0) / photos, linestyle=":", label="the style itself")
    axes.axhline(1, color="gray", linestyle="--", linewidth=1, label="photos")
    axes.set_xticks(PERIODS)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("period in pixels")
    axes.set_ylabel("relative to the photos")
    axes.legend()
