"""The sample world for style transfer: landscapes like photos, and pictures in the way of paintings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visiontl.kit.example import once
from visiontl.kit.world import PAINTINGS, painting, photo
from visiontl.kit.written import jpeg, put, put_image

PHOTOS, HELD_OUT, NEW = 40, 8, 4
SIZE = (256, 192)  # width and height of a photo in pixels


def folders(folder: Path) -> dict[str, Any]:
    """FOLDER/photos/00.jpg, 40 landscapes of 256 x 192 px, FOLDER/held_out with 8 for val, FOLDER/new with 4 others,
    and FOLDER/paintings/{strokes,waves,shards}.png of 256 px, all three to be learned."""
    made = once(folder, make)
    return {"data": {"photos": [str(made / "photos")], "val": [str(made / "held_out")], "styles": styles(made, 3)}}


def file(folder: Path) -> dict[str, Any]:
    """The same, with one painting named as a file."""
    made = once(folder, make)
    return {"data": {"photos": [str(made / "photos")], "val": [str(made / "held_out")], "styles": styles(made, 1)}}


def adain(folder: Path) -> dict[str, Any]:
    """The same, for a decoder of any painting: it learns from three, and is judged on the fourth, FOLDER/paintings/
    dots.png."""
    made = once(folder, make)
    data = {"photos": [str(made / "photos")], "val": [str(made / "held_out")], "styles": styles(made, 3)}
    return {"data": {**data, "val_styles": styles(made, 4)[3:]}, "way": "adain"}


def styles(made: Path, number: int) -> list[str]:
    return [str(made / f"paintings/{name}.png") for name in PAINTINGS[:number]]


def make(place: Path) -> None:
    for name in PAINTINGS:
        put_image(place / f"paintings/{name}.png", painting(name))
    numbers = iter(range(PHOTOS + HELD_OUT + NEW))
    for kind, count in {"photos": PHOTOS, "held_out": HELD_OUT, "new": NEW}.items():
        for number in range(count):
            put(place / f"{kind}/landscape_{number:02d}.jpg", jpeg(photo(next(numbers), SIZE)))
