"""The sample world for classification: one creature to a picture, in every format that the task reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from visiontl.kit.example import once
from visiontl.kit.world import KINDS, scene
from visiontl.kit.written import jpeg, put, put_table

IMAGES = {"train": 40, "val": 10, "test": 15}  # of each kind
NEW = 2  # of each kind, in no split
SEVERAL = {"train": 120, "val": 30, "test": 45}  # pictures with one to three kinds
SIDE = 224  # pixels
SEEDS = {"train": 1, "val": 2, "test": 3, "new": 4, "several": 5}


def folders(folder: Path) -> dict[str, Any]:
    """FOLDER/photos/{train,val,test}/KIND/00.jpg, 240, 60 and 90 pictures of 224 px, and FOLDER/new/KIND_0.jpg."""

    def make(place: Path) -> None:
        for split, kind, number, content in one_each():
            put(place / "photos" / split / kind / f"{number:02d}.jpg", content)
        write_new(place)

    return {"data": str(once(folder, make) / "photos")}


def table(folder: Path) -> dict[str, Any]:
    """FOLDER/photos.csv with path, label and split, its pictures in FOLDER/photos."""

    def make(place: Path) -> None:
        rows = []
        for index, (split, kind, _, content) in enumerate(one_each()):
            name = f"photos/{index:03d}.jpg"
            put(place / name, content)
            rows.append([name, kind, split])
        put_table(place / "photos.csv", ["path", "label", "split"], rows)
        write_new(place)

    return {"data": str(once(folder, make) / "photos.csv")}


def multi(folder: Path) -> dict[str, Any]:
    """FOLDER/photos.csv with the kinds of each picture in one cell, `fish|snail`: one to three of them."""

    def make(place: Path) -> None:
        rows = []
        for split, name, kinds, content in several():
            put(place / name, content)
            rows.append([name, "|".join(kinds), split])
        put_table(place / "photos.csv", ["path", "label", "split"], rows)
        write_new(place)

    return {"data": str(once(folder, make) / "photos.csv"), "labels": "multi"}


def columns(folder: Path) -> dict[str, Any]:
    """FOLDER/photos.csv with a column of 0 and 1 for each kind, of the same pictures."""

    def make(place: Path) -> None:
        rows = []
        for split, name, kinds, content in several():
            put(place / name, content)
            rows.append([name, *(str(int(kind in kinds)) for kind in KINDS), split])
        put_table(place / "photos.csv", ["path", *KINDS, "split"], rows)
        write_new(place)

    return {"data": {"csv": str(once(folder, make) / "photos.csv"), "columns": list(KINDS)}, "labels": "multi"}


@lru_cache(maxsize=1)
def one_each() -> Sequence[tuple[str, str, int, bytes]]:
    """(split, kind, number within both, the file's content) of each picture with one creature."""
    return [
        (split, kind, number, jpeg(scene([SEEDS[split], index, number], [kind], (SIDE, SIDE)).image))
        for split, count in IMAGES.items()
        for index, kind in enumerate(KINDS)
        for number in range(count)
    ]


@lru_cache(maxsize=1)
def several() -> Sequence[tuple[str, str, tuple[str, ...], bytes]]:
    """(split, name, the kinds that are seen, the file's content) of each picture with up to three creatures."""
    made = []
    for split, count in SEVERAL.items():
        for number in range(count):
            chosen = [KINDS[(number * 7 + step * step) % len(KINDS)] for step in range(1 + number % 3)]
            drawn = scene([SEEDS["several"], SEEDS[split], number], chosen, (SIDE, SIDE))
            seen = tuple(sorted({thing.kind for thing in drawn.things}))
            made.append((split, f"photos/{len(made):03d}.jpg", seen, jpeg(drawn.image)))
    return made


def write_new(place: Path) -> None:
    for index, kind in enumerate(KINDS):
        for number in range(NEW):
            picture = scene([SEEDS["new"], index, number], [kind], (SIDE, SIDE)).image
            put(place / "new" / f"{kind}_{number}.jpg", jpeg(picture))
