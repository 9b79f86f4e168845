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
    return {"data": read(folder, "paintings")}


def file(folder: Path) -> dict[str, Any]:
    """The same, with one painting named as a file."""
    return {"data": read(folder, "paintings/strokes.png")}


def adain(folder: Path) -> dict[str, Any]:
    """The same, for a decoder of any painting: it learns from three and is judged on FOLDER/unseen/dots.png."""
    return {"data": {**read(folder, "paintings"), "val_styles": str(folder / "unseen")}, "way": "adain"}


def read(folder: Path, styles: str) -> dict[str, str]:
    made = once(folder, make)
    return {"photos": str(made / "photos"), "val": str(made / "held_out"), "styles": str(made / styles)}


def make(place: Path) -> None:
    for number, name in enumerate(PAINTINGS):
        put_image(place / ("paintings" if number < 3 else "unseen") / f"{name}.png", painting(name))
    numbers = iter(range(PHOTOS + HELD_OUT + NEW))
    for kind, count in {"photos": PHOTOS, "held_out": HELD_OUT, "new": NEW}.items():
        for number in range(count):
            put(place / f"{kind}/landscape_{number:02d}.jpg", jpeg(photo(next(numbers), SIZE)))
