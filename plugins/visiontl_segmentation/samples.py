"""The sample world for segmentation: creatures on grounds with their masks, in every format that the task reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl.kit.drawing import distinct_colors
from visiontl.kit.example import once
from visiontl.kit.world import KINDS, Scene, crowd
from visiontl.kit.written import jpeg, put, put_image

IMAGES = {"train": 60, "val": 20, "test": 20}
NEW = 8  # in no split
SIZE = (256, 192)  # width and height in pixels
CLASSES = ("ground", *KINDS)
COLORS = ((0, 0, 0), *distinct_colors(len(KINDS), (230, 60, 60)))


def index(folder: Path) -> dict[str, Any]:
    """FOLDER/scenes/images/{train,val,test}/00.jpg and masks/{train,val,test}/00.png of class indices, with
    classes.txt: 100 pictures of 256 x 192 px with one to three creatures each; FOLDER/new/scene_0.jpg ..."""
    return {"data": in_folders(folder, Image.fromarray, {"classes.txt": lines(CLASSES)})}


def palette(folder: Path) -> dict[str, Any]:
    """The same, the indices with a palette."""
    return {"data": in_folders(folder, with_palette, {"classes.txt": lines(CLASSES)})}


def color(folder: Path) -> dict[str, Any]:
    """The same, masks in colors that class_dict.csv names."""

    def colored(labels: np.ndarray) -> Image.Image:
        return Image.fromarray(np.array(COLORS, np.uint8)[labels])

    table = "name,r,g,b\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in zip(CLASSES, COLORS, strict=True))
    return {"data": in_folders(folder, colored, {"class_dict.csv": table})}


def binary(folder: Path) -> dict[str, Any]:
    """The same, masks of 0 and 255: any creature, or none."""

    def black_and_white(labels: np.ndarray) -> Image.Image:
        return Image.fromarray(np.where(labels > 0, 255, 0).astype(np.uint8))

    return {"data": in_folders(folder, black_and_white, {})}


def coco(folder: Path) -> dict[str, Any]:
    """FOLDER/scenes/annotations/{train,val,test}.json with a run-length code for each creature; images/ as above."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            images, annotations = [], []
            for number in range(count):
                scene = drawn(split, number)
                put(place / f"scenes/images/{split}/{number:02d}.jpg", jpeg(scene.image))
                name = {"file_name": f"{number:02d}.jpg", "width": SIZE[0], "height": SIZE[1]}
                images.append({"id": number, **name})
                for thing in scene.things:
                    x1, y1, x2, y2 = thing.box
                    one = {"id": len(annotations) + 1, "image_id": number, "category_id": CLASSES.index(thing.kind)}
                    code = {"size": [SIZE[1], SIZE[0]], "counts": runs(thing.mask)}
                    more = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(thing.mask.sum()), "iscrowd": 0}
                    annotations.append({**one, "segmentation": code, **more})
            categories = [{"id": id, "name": name} for id, name in enumerate(CLASSES) if id]
            content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
            put(place / f"scenes/annotations/{split}.json", content)
        write_new(place)

    return {"data": {"folder": str(once(folder, make) / "scenes"), "background": "ground"}}


def voc(folder: Path) -> dict[str, Any]:
    """The same pictures as FOLDER/scenes/JPEGImages with SegmentationClass/*.png and
    ImageSets/Segmentation/{train,val,test}.txt."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            stems = [f"{split}_{number:02d}" for number in range(count)]
            for number, stem in enumerate(stems):
                scene = drawn(split, number)
                put(place / f"scenes/JPEGImages/{stem}.jpg", jpeg(scene.image))
                put_image(place / f"scenes/SegmentationClass/{stem}.png", with_palette(scene.labels()))
            put(place / f"scenes/ImageSets/Segmentation/{split}.txt", lines(stems))
        put(place / "scenes/classes.txt", lines(CLASSES))
        write_new(place)

    return {"data": str(once(folder, make) / "scenes")}


def in_folders(folder: Path, mask: Callable[[np.ndarray], Image.Image], beside: dict[str, str]) -> str:
    """mask: labels (H, W) uint8 -> what is saved. beside: {file: text}."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            for number in range(count):
                scene = drawn(split, number)
                put(place / f"scenes/images/{split}/{number:02d}.jpg", jpeg(scene.image))
                put_image(place / f"scenes/masks/{split}/{number:02d}.png", mask(scene.labels()))
        for name, text in beside.items():
            put(place / "scenes" / name, text)
        write_new(place)

    return str(once(folder, make) / "scenes")


@cache
def drawn(split: str, number: int) -> Scene:
    return crowd((*IMAGES, "new").index(split), number, 3, SIZE)


def with_palette(labels: np.ndarray) -> Image.Image:
    mask = Image.fromarray(labels)
    mask.putpalette([value for color in COLORS for value in color] + [255] * 3 * (256 - len(COLORS)))
    return mask


def runs(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed run-length code: lengths of 0 and 1 in turn, down the columns, beginning with 0."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = [0, *(int(edge) for edge in edges), len(flat)]
    counts = [after - before for before, after in pairwise(ends)]
    return [0, *counts] if flat[0] else counts


def lines(words: tuple[str, ...] | list[str]) -> str:
    return "\n".join(words) + "\n"


def write_new(place: Path) -> None:
    for number in range(NEW):
        put(place / f"new/scene_{number}.jpg", jpeg(drawn("new", number).image))
