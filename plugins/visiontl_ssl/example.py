"""Drawn photos without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from visiontl.kit.example import once

PHOTOS = 40
SEED = 20


def example(folder: Path) -> str:
    """Draws FOLDER/unlabeled: 40 pictures of 64 to 96 pixels, each of other discs on another ground; returns it."""
    return str(once(Path(folder) / "unlabeled", make))


def make(place: Path) -> None:
    for number in range(PHOTOS):
        rng = np.random.default_rng([SEED, number])
        width, height = (int(side) for side in rng.integers(64, 97, 2))
        y, x = np.mgrid[0:height, 0:width]
        pixels = np.broadcast_to(rng.uniform(0, 255, 3), (height, width, 3)).copy()  # (H, W, 3)
        for _ in range(4):
            top, left, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(6, 24)
            pixels[(y - top) ** 2 + (x - left) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        pixels += rng.normal(0, 8, pixels.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:02}.png")
