"""Small detection sets in each format, written from one description, without any code of the plugin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from visiontl_detection.config import DataConfig, DetectionConfig

Box = tuple[str, float, float, float, float]  # class, x1, y1, x2, y2


@dataclass(frozen=True)
class Photo:
    """A photo to be: (width, height) and its boxes."""

    size: tuple[int, int] = (64, 48)
    boxes: Sequence[Box] = field(default=(("cat", 4, 8, 20, 24), ("dog", 32, 12, 60, 40)))


Splits = Mapping[str, Mapping[str, Photo]]  # split -> name without extension -> photo

CLASSES = ("cat", "dog")
SPLITS: Splits = {
    "train": {
        "a": Photo(),
        "b": Photo((40, 80), (("dog", 0, 0, 40, 80), ("cat", 10.5, 20.25, 30, 36.75))),
        "c": Photo((64, 48), ()),
    },
    "val": {"d": Photo((64, 48), (("cat", 1, 2, 3, 40), ("dog", 8, 8, 16, 16)))},
    "test": {"e": Photo((32, 32), (("dog", 16, 16, 32, 32),))},
}


def picture(path: Path, size: tuple[int, int] = (64, 48), seed: int = 0, orientation: int | None = None) -> Path:
    """A picture of noise, (width, height) as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    extra: dict[str, Any] = {}
    if orientation is not None:
        extra["exif"] = Image.Exif()
        extra["exif"][0x0112] = orientation
    image.save(path, **extra)
    return path


def pictures(root: Path, splits: Splits, place: str) -> None:
    """place: the folder, in which {split} stands for the split."""
    for split, photos in splits.items():
        for seed, (name, photo) in enumerate(photos.items()):
            picture(root / place.format(split=split) / f"{name}.png", photo.size, seed)


def coco_content(photos: Mapping[str, Photo], categories: Mapping[str, int]) -> dict[str, Any]:
    images, annotations = [], []
    for number, (name, photo) in enumerate(photos.items(), start=100):
        images.append({"id": number, "file_name": f"{name}.png", "width": photo.size[0], "height": photo.size[1]})
        for label, x1, y1, x2, y2 in photo.boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": categories[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    named = [{"id": number, "name": name} for name, number in categories.items()]
    return {"images": images, "annotations": annotations, "categories": named}


def coco(
    root: Path,
    splits: Splits = SPLITS,
    file: str = "annotations/{split}.json",
    place: str = "images",
    categories: Mapping[str, int] | None = None,
) -> Path:
    pictures(root, splits, place)
    for split, photos in splits.items():
        content = coco_content(photos, categories or {"cat": 1, "dog": 2})
        write(root / file.format(split=split), json.dumps(content))
    return root


def voc_xml(name: str, photo: Photo, difficult: int = 0) -> str:
    objects = "".join(
        f"<object><name>{label}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2 in photo.boxes
    )
    size = f"<size><width>{photo.size[0]}</width><height>{photo.size[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.png</filename>{size}{objects}</annotation>"


def voc(root: Path, splits: Splits = SPLITS, lists: bool = True, difficult: int = 0) -> Path:
    pictures(root, splits, "JPEGImages")
    for split, photos in splits.items():
        for name, photo in photos.items():
            write(root / f"Annotations/{name}.xml", voc_xml(name, photo, difficult))
        if lists:
            write(root / f"ImageSets/Main/{split}.txt", "".join(f"{name}\n" for name in photos))
    return root


def yolo_lines(photo: Photo, classes: Sequence[str] = CLASSES) -> str:
    width, height = photo.size
    return "".join(
        f"{classes.index(label)} {(x1 + x2) / 2 / width!r} {(y1 + y2) / 2 / height!r} "
        f"{(x2 - x1) / width!r} {(y2 - y1) / height!r}\n"
        for label, x1, y1, x2, y2 in photo.boxes
    )


def yolo(root: Path, splits: Splits = SPLITS, settings: str | None = None) -> Path:
    pictures(root, splits, "images/{split}")
    for split, photos in splits.items():
        for name, photo in photos.items():
            write(root / f"labels/{split}/{name}.txt", yolo_lines(photo))
    keys = "".join(f"{split}: images/{split}\n" for split in splits)
    write(root / "data.yaml", settings if settings is not None else f"{keys}names: [cat, dog]\nnc: 2\n")
    return root


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source(folder: Path, **keys: Any) -> DataConfig:
    return DataConfig.model_validate({"folder": str(folder), **keys})


def config(folder: Path, **keys: Any) -> DetectionConfig:
    return DetectionConfig.model_validate({"data": str(folder), **keys})
