"""A small data set of drawn shapes, so that everything can be tried where there is no data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

IMAGES = {"train": 40, "val": 15, "test": 15}  # per class
SEED = 20
# Corners, and the radius of the circle around the shape relative to that of a disc of the same area: only the
# outline tells the shapes apart, not their size.
CORNERS = {
    "circle": (0, 1.0),
    "square": (4, math.sqrt(math.pi / 2)),
    "triangle": (3, math.sqrt(4 * math.pi / (3 * math.sqrt(3)))),
}


def example(folder: Path) -> str:
    """Draws FOLDER/shapes/{train,val,test}/{circle,square,triangle}/*.png (210 images of 64 to 96 px) and
    returns FOLDER/shapes. The same pixels every time; a folder that is there is kept; never half a set."""
    return str(once(Path(folder) / "shapes", make))


def make(place: Path) -> None:
    for part, (split, count) in enumerate(IMAGES.items()):
        for label, shape in enumerate(CORNERS):
            inside = place / split / shape
            inside.mkdir(parents=True)
            for number in range(count):
                picture(shape, np.random.default_rng([SEED, part, label, number])).save(inside / f"{number:03d}.png")


def picture(shape: str, rng: np.random.Generator) -> Image.Image:
    """A bright shape of any size, color and place, a little turned, on a dark, noisy ground with strokes."""
    width, height = (int(side) for side in rng.integers(64, 97, 2))
    ground = rng.integers(20, 120, 3).astype(np.float64)  # RGB 0..255
    ink = rng.integers(140, 256, 3)
    slope = rng.normal(0, 15, (2, 3))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    pixels = ground + y[..., None] * slope[0] + x[..., None] * slope[1]  # (H, W, 3)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    fine = image.resize((width * 4, height * 4))  # drawn large and shrunk: smooth edges
    pen = ImageDraw.Draw(fine)
    for _ in range(3):
        points = [(int(rng.integers(width * 4)), int(rng.integers(height * 4))) for _ in range(2)]
        pen.line(points, fill=tuple(int(v) for v in rng.integers(0, 256, 3)), width=6)
    corners, reach = CORNERS[shape]
    radius = rng.uniform(0.18, 0.3) * min(width, height) * reach
    room = min(width, height) / 2 - radius  # inside the square that a center crop keeps
    center = width / 2 + rng.uniform(-room, room), height / 2 + rng.uniform(-room, room)
    turn = rng.uniform(-0.3, 0.3) + (math.pi / 4 if corners == 4 else -math.pi / 2)
    color = tuple(int(v) for v in ink)
    if corners == 0:
        left, top, right, bottom = (
            4 * v for v in (center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius)
        )
        pen.ellipse((left, top, right, bottom), fill=color)
    else:
        angles = [turn + 2 * math.pi * k / corners for k in range(corners)]
        pen.polygon(
            [(4 * (center[0] + radius * math.cos(a)), 4 * (center[1] + radius * math.sin(a))) for a in angles],
            fill=color,
        )
    small = np.asarray(fine.resize((width, height), Image.Resampling.LANCZOS), dtype=np.float64)
    noisy = small + rng.normal(0, 10, small.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
