"""From the logits of a coarse grid to a class for each pixel of the photo, and the picture that says it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

Size = tuple[int, int]  # (height, width)
BAND = 1 << 20  # logits that are held at full size at once


def decided(logits: np.ndarray, canvas: Size, extent: Size, photo: Size) -> np.ndarray:
    """logits (K, h, w) of an image of `canvas` pixels, of which `extent`, at the upper left, is the photo -> (H, W)
    uint8 class of each pixel of the photo, as if all logits were resized bilinearly (centers of pixels at halves)."""
    classes, height, width = logits.shape
    rows = centers(photo[0], extent[0] / canvas[0] * height, height)
    columns = centers(photo[1], extent[1] / canvas[1] * width, width)
    made = np.empty(photo, dtype=np.uint8)
    step = max(1, BAND // (classes * photo[1]))
    for top in range(0, photo[0], step):
        low, high, part = (one[top : top + step] for one in rows)
        first, last = int(low[0]), int(high[-1]) + 1
        wide = between(logits[:, first:last], columns, axis=2)  # (K, n, W)
        band = between(wide, (low - first, high - first, part), axis=1)  # (K, rows, W)
        made[top : top + step] = band.argmax(0)
    return made


def centers(count: int, span: float, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `count` pixels over the first `span` of `cells` cells: the cells before and after its center, and the
    share of the second."""
    place = ((np.arange(count) + 0.5) * (span / count) - 0.5).clip(0, cells - 1)
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, cells - 1), (place - low).astype(np.float32)


def between(values: np.ndarray, places: tuple[np.ndarray, np.ndarray, np.ndarray], axis: int) -> np.ndarray:
    """Linear interpolation along one of the last two axes."""
    low, high, part = places
    if np.array_equal(low, np.arange(values.shape[axis])) and not part.any():
        return values
    part = part[:, None] if axis == 1 else part
    before = values.take(low, axis)
    return before + (values.take(high, axis) - before) * part


def painted(found: np.ndarray, answer: Mapping[str, Any]) -> Image.Image:
    """(H, W) uint8 class numbers -> a picture with the value that stands for each."""
    mode = answer["mode"]
    table = np.array(answer["values"], dtype=np.uint16 if mode == "I;16" else np.uint8)
    image = Image.fromarray(table[found])
    if mode == "P":
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette(answer.get("palette") or [])
    return image
