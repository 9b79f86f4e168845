"""The sample world for detection: creatures on grounds with their boxes, in every format that the task reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from visiontl.kit.example import once
from visiontl.kit.world import KINDS, Box, crowd
from visiontl.kit.written import jpeg, put

IMAGES = {"train": 60, "val": 20, "test": 20}
NEW = 8  # in no split
WIDTH, HEIGHT = 256, 192  # pixels

Boxed = tuple[str, Box]  # kind; x1 y1 x2 y2 in pixels


def coco(folder: Path) -> dict[str, Any]:
    """FOLDER/scenes/annotations/{train,val,test}.json and images/{train,val,test}/00.jpg, 100 pictures of 256 x 192 px
    with one to four creatures each; FOLDER/new/scene_0.jpg ..."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            images, annotations = [], []
            for number in range(count):
                content, boxes = drawn(split, number)
                put(place / f"scenes/images/{split}/{number:02d}.jpg", content)
                images.append({"id": number, "file_name": f"{number:02d}.jpg", "width": WIDTH, "height": HEIGHT})
                for kind, (x1, y1, x2, y2) in boxes:
                    one = {"id": len(annotations) + 1, "image_id": number, "category_id": 1 + KINDS.index(kind)}
                    size = (x2 - x1, y2 - y1)
                    annotations.append({**one, "bbox": [x1, y1, *size], "area": size[0] * size[1], "iscrowd": 0})
            categories = [{"id": 1 + index, "name": kind} for index, kind in enumerate(KINDS)]
            content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
            put(place / f"scenes/annotations/{split}.json", content)
        write_new(place)

    return {"data": str(once(folder, make) / "scenes")}


def voc(folder: Path) -> dict[str, Any]:
    """The same pictures as FOLDER/scenes/JPEGImages with Annotations/*.xml and ImageSets/Main/{train,val,test}.txt."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            stems = [f"{split}_{number:02d}" for number in range(count)]
            for number, stem in enumerate(stems):
                content, boxes = drawn(split, number)
                put(place / f"scenes/JPEGImages/{stem}.jpg", content)
                put(place / f"scenes/Annotations/{stem}.xml", xml(stem, boxes))
            put(place / f"scenes/ImageSets/Main/{split}.txt", "\n".join(stems) + "\n")
        write_new(place)

    return {"data": str(once(folder, make) / "scenes")}


def yolo(folder: Path) -> dict[str, Any]:
    """The same pictures as FOLDER/scenes/data.yaml with images/ and labels/, {train,val,test} in both."""

    def make(place: Path) -> None:
        for split, count in IMAGES.items():
            for number in range(count):
                content, boxes = drawn(split, number)
                put(place / f"scenes/images/{split}/{number:02d}.jpg", content)
                put(place / f"scenes/labels/{split}/{number:02d}.txt", "".join(map(line, boxes)))
        splits = "".join(f"{split}: images/{split}\n" for split in IMAGES)
        names = "".join(f"  {index}: {kind}\n" for index, kind in enumerate(KINDS))
        put(place / "scenes/data.yaml", f"path: .\n{splits}names:\n{names}")
        write_new(place)

    return {"data": str(once(folder, make) / "scenes")}


@cache
def drawn(split: str, number: int) -> tuple[bytes, Sequence[Boxed]]:
    """The content of a .jpg file, and the boxes in it."""
    made = crowd((*IMAGES, "new").index(split), number, size=(WIDTH, HEIGHT))
    return jpeg(made.image), [(thing.kind, thing.box) for thing in made.things]


def xml(stem: str, boxes: Sequence[Boxed]) -> str:
    """Edges from 0, as annotation tools write them."""
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for kind, (x1, y1, x2, y2) in boxes
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation>\n<filename>{stem}.jpg</filename>\n{size}\n{objects}</annotation>\n"


def line(box: Boxed) -> str:
    """Class, middle and size, as shares of the picture; eight digits are finer than a thousandth of a pixel."""
    kind, (x1, y1, x2, y2) = box
    middle = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT
    size = (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
    return f"{KINDS.index(kind)} {middle[0]:.8f} {middle[1]:.8f} {size[0]:.8f} {size[1]:.8f}\n"


def write_new(place: Path) -> None:
    for number in range(NEW):
        put(place / f"new/scene_{number}.jpg", drawn("new", number)[0])
