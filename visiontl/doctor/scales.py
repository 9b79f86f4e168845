"""How large a task shows a photo to its model, measured on a picture whose every place is known by its color."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

LEAST = 3  # pixels of a slope


def enlargement(prepare: Callable[[Image.Image], dict[str, Any]], size: tuple[int, int]) -> float | None:
    """How many times a photo of (H, W) is enlarged by what prepares it, the lesser of across and down; below 1 where it
    is shrunk. Padding and cropping change nothing. None where the sample has no image, or too little of one."""
    height, width = size
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    pixels = np.stack([across, down, np.full_like(across, 128)], axis=-1).round().astype(np.uint8)
    try:
        shown = np.asarray(prepare(Image.fromarray(pixels))["image"])  # (3, h, w)
        red, green = (shown[channel].astype(np.float64) for channel in (0, 1))
    except Exception:  # a stranger's task raises what it likes; the rest of the data was looked at
        return None
    if shown.dtype != np.uint8:
        red, green = red * 255, green * 255  # of 0..1
    slopes = (_slope(red), _slope(green.T))
    whole = (255 / max(width - 1, 1), 255 / max(height - 1, 1))
    if None in slopes:
        return None
    return min(before / after for before, after in zip(whole, slopes, strict=True) if after)


def _slope(lines: np.ndarray) -> float | None:
    """Gray levels a pixel along the lines, from where a picture begins to where it ends: padding is flat, and the ends
    of the ramp too."""
    ramp = (lines > 8) & (lines < 247)
    fullest = np.flatnonzero(ramp.sum(axis=1) == ramp.sum(axis=1).max())
    row = fullest[len(fullest) // 2]
    places = np.flatnonzero(ramp[row])
    if len(places) < LEAST:
        return None
    places = places[len(places) // 8 : len(places) - len(places) // 8]  # blurred at the ends
    slope = float(np.polyfit(places, lines[row, places], 1)[0])
    return slope if slope > 0 else None
