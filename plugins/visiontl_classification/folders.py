"""Class folders, with or without train, val and test folders above them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from visiontl.kit.folders import opened
from visiontl.kit.images import open_image
from visiontl.kit.labels import FolderLayout, read_labeled
from visiontl_classification.listing import Item, Listing

ASK = (
    " Say task.data.format=classes (the outer folders are the classes), inner (the folder that a picture lies in is "
    "one), or splits (train, val, test)"
)
LAYOUTS: Mapping[str, FolderLayout] = {"auto": "auto", "splits": "splits", "classes": "labels", "inner": "inner"}


@dataclass(frozen=True)
class Files:
    """Image files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        return open_image(Path(self.root) / name)


def folder_listing(folder: str, layout: str) -> Listing:
    """layout: auto | splits | classes | inner. Class ids are the folder names in plain sorted order (of code points);
    a class folder is read with all folders below it; what is passed over is counted."""
    folders = opened(folder, instead="give a folder of class folders, or a .csv file")
    found = read_labeled(folders, LAYOUTS[layout], ask=ASK)
    parts = {
        split: [Item(name, (label,)) for label, names in part.items() for name in names]
        for split, part in found.parts.items()
    }
    return Listing(Files(folders.base), parts, found.labels(), found.notes, folders.base, "the folder is empty")
