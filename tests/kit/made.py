"""Tiny pictures for the tests of the kit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (6, 4), seed: int = 0) -> Path:
    """Writes a picture of noise, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def pictures(root: Path, names: Iterable[str]) -> Path:
    for seed, name in enumerate(names):
        picture(root / name, seed=seed)
    return root
