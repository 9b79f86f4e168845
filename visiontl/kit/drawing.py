"""Colors for drawing many classes, such as the eye tells apart. Imports no torch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

GRAY, DARK, LIGHT = 30, 35, 92  # CIELAB: least chroma, least and most lightness (of 100) of a color that is drawn


@lru_cache(maxsize=16)
def distinct_colors(number: int, first: tuple[int, int, int], levels: int = 12) -> tuple[tuple[int, int, int], ...]:
    """This many sRGB colors (0..255), each as far as can be in CIELAB (its Euclidean distance) from all before it.

    They are taken from a grid of `levels` values a channel; grays, very dark and very light ones are left out.
    first: what to begin with; the nearest one of the grid is taken. Raises ValueError where the grid holds fewer.
    """
    steps = np.linspace(0, 255, levels).round()
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)  # (levels ** 3, 3)
    lab = cielab(rgb)
    usable = (np.hypot(lab[:, 1], lab[:, 2]) > GRAY) & (lab[:, 0] > DARK) & (lab[:, 0] < LIGHT)
    rgb, lab = rgb[usable], lab[usable]
    if not 0 < number <= len(rgb):
        raise ValueError(f"{number} colors asked of {len(rgb)} on a grid of {levels} levels; take more levels")
    chosen = [int(((rgb - first) ** 2).sum(1).argmin())]
    distance = np.full(len(rgb), np.inf)  # squared, to the nearest chosen one
    while len(chosen) < number:
        distance = np.minimum(distance, ((lab - lab[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb[chosen])


def cielab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB 0..255 (IEC 61966-2-1) -> (N, 3) CIELAB under D65 (CIE 15:2004, section 8.2.1)."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / (0.9505, 1.0, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
