"""A small set of drawn shapes with a label and a mask each, some without one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

IMAGES = {"train": 16, "val": 8, "test": 8}
SHAPES = ("disc", "square")
SEED = 60


def example(folder: Path) -> dict[str, str]:
    """Draws FOLDER/several: 32 pictures of 64 x 64 pixels with a disc or a square, of which every fourth of train has a
    mask and no label, and four more a label and no mask; {task: its data}. The same pixels every time; a folder that
    is there is kept."""
    place = once(Path(folder) / "several", make)
    return {"classification": str(place / "labels.csv"), "segmentation": str(place / "shapes")}


def make(place: Path) -> None:
    shapes = place / "shapes"
    lines = ["path,label,split"]
    for part, (split, count) in enumerate(IMAGES.items()):
        for kind in ("images", "masks"):
            (shapes / kind / split).mkdir(parents=True)
        for number in range(count):
            picture, mask, label = drawn(np.random.default_rng([SEED, part, number]), number % 2)
            picture.save(shapes / "images" / split / f"{number:03d}.png")
            mask.save(shapes / "masks" / split / f"{number:03d}.png")
            if split != "train" or number % 4:
                lines.append(f"shapes/images/{split}/{number:03d}.png,{label},{split}")
    (shapes / "classes.txt").write_text("\n".join(("ground", *SHAPES)) + "\n", encoding="utf-8")
    (place / "unmasked").mkdir()
    for number in range(4):
        picture, _, label = drawn(np.random.default_rng([SEED, 9, number]), number % 2)
        picture.save(place / "unmasked" / f"{number:03d}.png")
        lines.append(f"unmasked/{number:03d}.png,{label},train")
    (place / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def drawn(rng: np.random.Generator, shape: int) -> tuple[Image.Image, Image.Image, str]:
    """A dark, noisy ground with one bright disc (0) or square (1), its palette mask, and its name."""
    side = 64
    image = Image.new("RGB", (side, side), tuple(int(v) for v in rng.integers(20, 100, 3)))
    mask = Image.new("P", (side, side), 0)
    mask.putpalette([0, 0, 0, 220, 60, 60, 60, 110, 230, *[255] * 3 * 253])
    size = int(rng.integers(20, 36))
    left, top = (int(v) for v in rng.integers(0, side - size, 2))
    low, high = ((150, 256), (40, 90)) if shape == 0 else ((40, 90), (150, 256))  # discs are warm, squares cold
    color = tuple(int(rng.integers(*one)) for one in (low, (120, 180), high))
    for pen, fill in ((ImageDraw.Draw(image), color), (ImageDraw.Draw(mask), shape + 1)):
        (pen.ellipse if shape == 0 else pen.rectangle)((left, top, left + size - 1, top + size - 1), fill=fill)
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 8, (side, side, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), mask, SHAPES[shape]
