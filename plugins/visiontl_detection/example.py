"""A small data set of drawn shapes with their boxes, so that everything can be tried where there is no data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.example import once

IMAGES = {"train": 24, "val": 8, "test": 8}
CLASSES = ("disc", "square")
SEED = 40
LARGEST = 3  # objects per image


def example(folder: Path) -> str:
    """Draws FOLDER/objects: 40 images of 72 to 96 pixels with up to 3 discs and squares, and COCO JSON; returns
    FOLDER/objects. The same pixels every time; a folder that is there is kept; never half a set."""
    return str(once(Path(folder) / "objects", make))


def make(place: Path) -> None:
    (place / "annotations").mkdir()
    for part, (split, count) in enumerate(IMAGES.items()):
        (place / "images" / split).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            name = f"{number:03d}.png"
            picture, boxes = drawn(np.random.default_rng([SEED, part, number]))
            picture.save(place / "images" / split / name)
            images.append({"id": number, "file_name": name, "width": picture.width, "height": picture.height})
            for label, (x1, y1, x2, y2) in boxes:
                size = (x2 - x1, y2 - y1)
                one = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0}
                annotations.append({**one, "bbox": [x1, y1, *size], "area": size[0] * size[1]})
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
        found: dict[str, Any] = {"images": images, "annotations": annotations, "categories": categories}
        (place / "annotations" / f"{split}.json").write_text(json.dumps(found), encoding="utf-8")


def drawn(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int]]]]:
    """A noisy ground with bright shapes that do not touch, and (class, box x1 y1 x2 y2) of each."""
    width, height = (int(side) for side in rng.integers(72, 97, 2))
    image = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(20, 110, 3)))
    pen = ImageDraw.Draw(image)
    boxes: list[tuple[int, tuple[int, int, int, int]]] = []
    for _ in range(int(rng.integers(1, LARGEST + 1))):
        side, label = int(rng.integers(16, 36)), int(rng.integers(len(CLASSES)))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        box = (left, top, left + side, top + side)
        if any(box[0] < x2 and x1 < box[2] and box[1] < y2 and y1 < box[3] for _, (x1, y1, x2, y2) in boxes):
            continue
        shape = (left, top, left + side - 1, top + side - 1)  # Pillow draws the last pixel too
        color = tuple(int(v) for v in rng.integers(150, 256, 3))
        pen.ellipse(shape, fill=color) if label == 0 else pen.rectangle(shape, fill=color)
        boxes.append((label, box))
    noisy = np.asarray(image, dtype=np.float64) + rng.normal(0, 8, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), boxes
