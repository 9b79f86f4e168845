"""What a data source offers: names of images with their class ids, as the folders or the table state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image


class Images(Protocol):
    """Opens an image of the source by its name. Must pickle."""

    def open(self, name: str) -> Image.Image: ...


@dataclass(frozen=True)
class Item:
    """name: what the source calls the image. classes: its class ids, as written (one for single-label)."""

    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """parts: train, val, test, or WHOLE alone. classes: the class ids, in the order of the logits. bare: what is said
    of a class without an image."""

    images: Images
    parts: Mapping[str, Sequence[Item]]
    classes: Sequence[str]
    notes: Sequence[str]
    where: str
    bare: str = "no image has it"
