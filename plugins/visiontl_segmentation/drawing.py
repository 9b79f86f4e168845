"""Masks on photos, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from visiontl.kit.drawing import RIGHT, WHITE, WRONG, Color, enlargement, tinted, with_legend
from visiontl.kit.strips import strips
from visiontl_segmentation.masks import IGNORED
from visiontl_segmentation.pixels import counted
from visiontl_segmentation.written import class_indices


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The photo under the colors of its predicted classes, with a legend beside it; small photos are enlarged.

    The background keeps the photo's colors. prediction: {"mask": image of the photo's size, as `mask_image` makes it}.
    """
    mask = class_indices(prediction["mask"], meta)
    factor = enlargement(image)
    photo = image if image.mode == "RGB" else image.convert("RGB")
    if factor > 1:
        photo = photo.resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
        mask = mask.repeat(factor, 0).repeat(factor, 1)
    return with_legend(overlay(photo, mask, meta), entries(mask, meta))


def overlay(photo: Image.Image, mask: np.ndarray, meta: Mapping[str, Any]) -> Image.Image:
    """RGB photo and its (H, W) mask -> the photo tinted; background and ignored pixels are left as they are."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(meta["colors"])] = meta["colors"]
    background = IGNORED if meta["background"] is None else meta["background"]
    made = Image.new("RGB", photo.size)
    for top, part in strips(photo):
        inside = mask[top : top + part.height]
        made.paste(tinted(part, table[inside], (inside != IGNORED) & (inside != background)), (0, top))
    return made


def verdict(photo: Image.Image, guess: np.ndarray, truth: np.ndarray) -> Image.Image:
    """Where a guess is right (blue), wrong (orange), and not judged (as the photo is)."""
    colors = np.where((guess == truth)[..., None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    return tinted(photo, colors, truth != IGNORED)


def entries(mask: np.ndarray, meta: Mapping[str, Any], other: np.ndarray | None = None) -> list[tuple[Color, str]]:
    """For a legend: color, and name with its share of the pixels, of each class that is there, the largest first, then
    the ignored pixels. other: a mask whose classes are listed too, without a share where `mask` has none of them."""
    counts = counted(mask)
    there = counts > 0 if other is None else (counts > 0) | (counted(other) > 0)
    listed = []
    for k in np.argsort(-counts[: len(meta["classes"])], kind="stable").tolist():
        if there[k]:
            share = f"{counts[k] / mask.size:.1%}" if counts[k] else "-"
            color = WHITE if k == meta["background"] else tuple(meta["colors"][k])
            listed.append((color, f"{meta['classes'][k]}  {share}"))
    if counts[IGNORED]:
        listed.append((WHITE, f"(ignored)  {counts[IGNORED] / mask.size:.1%}"))
    return listed
