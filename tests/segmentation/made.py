"""Small segmentation sets in each layout, written without any code of the plugin."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from visiontl_segmentation.config import DataConfig, SegmentationConfig

SPLITS: Mapping[str, Sequence[str]] = {"train": ("a", "b", "c"), "val": ("d",), "test": ("e",)}
SIZE = (12, 16)  # (height, width)
COLORS = {"ground": (0, 0, 0), "cat": (200, 30, 30), "dog": (30, 30, 200)}


def truth(name: str, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8: class 0, a block of 1, a block of 2, and a line of 255. Another one for each name."""
    mask = np.zeros(size, dtype=np.uint8)
    shift = ord(name[0]) % 3
    mask[1 + shift : 5 + shift, 2:6] = 1
    mask[4:9, 9 + shift : 12 + shift] = 2
    mask[-1] = 255
    return mask


def picture(path: Path, size: tuple[int, int] = SIZE, seed: int = 0, orientation: int | None = None) -> Path:
    """A picture of noise, (height, width) as stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    extra: dict[str, Any] = {}
    if orientation is not None:
        extra["exif"] = Image.Exif()
        extra["exif"][0x0112] = orientation
    image.save(path, **extra)
    return path


def index_mask(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(mask)


def palette_mask(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([part for k in range(256) for part in (k * 7 % 256, k * 31 % 256, k * 77 % 256)])
    return image


def color_mask(mask: np.ndarray) -> Image.Image:
    colors = np.array([*COLORS.values()], dtype=np.uint8)
    return Image.fromarray(colors[np.where(mask == 255, 0, mask)])


def binary_mask(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(((mask == 1) | (mask == 2)).astype(np.uint8) * 255)


def folders(
    root: Path,
    kind: Callable[[np.ndarray], Image.Image] = index_mask,
    place: str = "{kind}/{split}",
    names: str | None = "ground\ncat\ndog\n",
    splits: Mapping[str, Sequence[str]] = SPLITS,
    suffix: str = "",
) -> Path:
    """place: where images and masks of a split are."""
    for split, stems in splits.items():
        for seed, stem in enumerate(stems):
            picture(root / place.format(kind="images", split=split) / f"{stem}.png", seed=seed)
            file = root / place.format(kind="masks", split=split) / f"{stem}{suffix}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            kind(truth(stem)).save(file)
    if names is not None:
        (root / "classes.txt").write_text(names)
    return root


def voc(root: Path, splits: Mapping[str, Sequence[str]] = SPLITS, lists: bool = True) -> Path:
    for split, stems in splits.items():
        for seed, stem in enumerate(stems):
            picture(root / f"JPEGImages/{stem}.jpg", seed=seed)
            file = root / f"SegmentationClass/{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            palette_mask(truth(stem)).save(file)
        if lists:
            write(root / f"ImageSets/Segmentation/{split}.txt", "".join(f"{stem}\n" for stem in stems))
    return root


def rectangle(x1: float, y1: float, x2: float, y2: float) -> list[list[float]]:
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def coco_content(stems: Sequence[str]) -> dict[str, Any]:
    """Two images: polygons in one, an uncompressed and a compressed run-length code in the other."""
    from pycocotools import mask as coding

    height, width = SIZE
    images, annotations = [], []
    for number, stem in enumerate(stems, start=7):
        images.append({"id": number, "file_name": f"{stem}.png", "height": height, "width": width})
        if number % 2:
            shapes: list[Any] = [rectangle(2, 1, 10, 9), rectangle(4, 3, 6, 5)]
        else:
            whole = np.asfortranarray((truth(stem) == 1).astype(np.uint8))
            code = coding.encode(whole)
            shapes = [{"size": [height, width], "counts": code["counts"].decode()}]
            shapes.append({"size": [height, width], "counts": [3, 5, height * width - 8]})
        for label, shape in zip((20, 10), shapes, strict=True):
            id = len(annotations) + 1
            annotations.append(
                {"id": id, "image_id": number, "category_id": label, "segmentation": shape, "iscrowd": 0, "area": 1.0}
            )
    categories = [{"id": 10, "name": "cat"}, {"id": 20, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def coco(root: Path, splits: Mapping[str, Sequence[str]] = SPLITS) -> Path:
    for split, stems in splits.items():
        for seed, stem in enumerate(stems):
            picture(root / f"images/{stem}.png", seed=seed)
        write(root / f"annotations/{split}.json", json.dumps(coco_content(stems)))
    return root


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def source(folder: Path, **keys: Any) -> DataConfig:
    return DataConfig.model_validate({"folder": str(folder), **keys})


def config(folder: Path, task: Mapping[str, Any] | None = None, **keys: Any) -> SegmentationConfig:
    return SegmentationConfig.model_validate({"data": {"folder": str(folder), **keys}, **(task or {})})
