"""A small data set of drawn shapes with their masks, so that everything can be tried where there is no data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

IMAGES = {"train": 24, "val": 8, "test": 8}
CLASSES = ("ground", "disc", "square")
SEED = 50
IGNORED = 255


def example(folder: Path) -> str:
    """Draws FOLDER/shapes: 40 images of 56 to 80 pixels with discs and squares, palette masks in which the outlines
    are ignored, and classes.txt; returns FOLDER/shapes. The same pixels every time; a folder that is there is kept;
    never half a set."""
    return str(once(Path(folder) / "shapes", make))


def make(place: Path) -> None:
    (place / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    for part, (split, count) in enumerate(IMAGES.items()):
        for kind in ("images", "masks"):
            (place / kind / split).mkdir(parents=True)
        for number in range(count):
            picture, mask = drawn(np.random.default_rng([SEED, part, number]))
            picture.save(place / "images" / split / f"{number:03d}.png")
            mask.save(place / "masks" / split / f"{number:03d}.png")


def drawn(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A noisy ground with one to three bright shapes, and a palette mask of it."""
    width, height = (int(side) for side in rng.integers(56, 81, 2))
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(20, 100, 3)))
    mask = Image.new("P", (width, height), 0)
    mask.putpalette([0, 0, 0, 220, 60, 60, 60, 110, 230, *[255] * 3 * 253])  # whole: else Pillow packs it to 2 bits
    pens = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for _ in range(int(rng.integers(1, 4))):
        side, label = int(rng.integers(18, 36)), int(rng.integers(1, 3))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        box = (left, top, left + side - 1, top + side - 1)
        low, high = ((150, 256), (40, 90)) if label == 1 else ((40, 90), (150, 256))  # discs are warm, squares cold
        color = tuple(int(rng.integers(*one)) for one in (low, (120, 180), high))
        for pen, fill, outline in ((pens[0], color, color), (pens[1], label, IGNORED)):
            (pen.ellipse if label == 1 else pen.rectangle)(box, fill=fill, outline=outline)
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask
