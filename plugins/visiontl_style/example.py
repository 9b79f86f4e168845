"""A few drawn photos and style pictures, so that everything can be tried where there is no data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

PHOTOS = 28
SEED = 30


def example(folder: Path) -> dict[str, Any]:
    """Draws FOLDER/scenes/photos/*.png (28 of 72 to 96 px) and FOLDER/scenes/styles/{waves,dots}.png (96 px) and
    returns the value of task.data. The same pixels every time; a folder that is there is kept; never half a set."""
    made = once(Path(folder) / "scenes", make)
    return {"photos": [str(made / "photos")], "styles": [str(made / "styles")], "val_fraction": 0.2}


def make(place: Path) -> None:
    (place / "photos").mkdir()
    (place / "styles").mkdir()
    for number in range(PHOTOS):
        scene(np.random.default_rng([SEED, number])).save(place / f"photos/{number:02d}.png")
    waves().save(place / "styles/waves.png")
    dots().save(place / "styles/dots.png")


def scene(rng: np.random.Generator) -> Image.Image:
    """A sky, a ground, and a house or a tree or two."""
    width, height = (int(side) for side in rng.integers(72, 97, 2))
    sky, ground = (rng.integers(low, high, 3) for low, high in ((120, 250), (40, 160)))
    horizon = height * rng.uniform(0.4, 0.7)
    y = np.arange(height)[:, None, None]
    pixels = np.where(y < horizon, sky - 0.3 * y, ground) + rng.normal(0, 6, (height, width, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 4))):
        x, size = rng.uniform(5, width - 15), rng.uniform(10, 28)
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            pen.rectangle((x, horizon - size, x + size, horizon + 4), fill=color)
            pen.polygon(
                [(x, horizon - size), (x + size, horizon - size), (x + size / 2, horizon - 1.5 * size)], "brown"
            )
        else:
            pen.rectangle((x + size / 2 - 2, horizon - size, x + size / 2 + 2, horizon + 4), fill="saddlebrown")
            pen.ellipse((x, horizon - 1.6 * size, x + size, horizon - 0.6 * size), fill=color)
    return image


def waves() -> Image.Image:
    y, x = np.mgrid[0:96, 0:96]
    phase = np.sin(y / 4 + 3 * np.sin(x / 14)) * 0.5 + 0.5  # (96, 96)
    pixels = phase[..., None] * np.array([240, 220, 120]) + (1 - phase[..., None]) * np.array([20, 50, 140])
    return Image.fromarray(pixels.astype(np.uint8))


def dots() -> Image.Image:
    image = Image.new("RGB", (96, 96), (250, 235, 215))
    pen, rng = ImageDraw.Draw(image), np.random.default_rng(SEED)
    for i in range(240):
        angle, radius = rng.uniform(0, 2 * math.pi), 3 + rng.uniform(0, 2)
        x, y = (96 * rng.random() + 2 * math.cos(angle), 96 * rng.random() + 2 * math.sin(angle))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), ["crimson", "teal", "black", "orange"][i % 4])
    return image
