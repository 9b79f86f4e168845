"""Class folders, with or without train, val and test folders above them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from visiontl.kit.folders import opened
from visiontl.kit.images import open_image
from visiontl.kit.labels import read_labeled
from visiontl_classification.listing import Item, Listing

ASK = " Say task.data.format=splits or task.data.format=classes"


@dataclass(frozen=True)
class Files:
    """Image files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        return open_image(Path(self.root) / name)


def folder_listing(folder: str, layout: str) -> Listing:
    """layout: auto | splits | classes. Class ids are the folder names in plain sorted order (of code points);
    a class folder is read with all folders below it; what is passed over is counted."""
    folders = opened(folder, instead="give a folder of class folders, or a .csv file")
    found = read_labeled(folders, "labels" if layout == "classes" else "splits" if layout == "splits" else "auto",
                         ask=ASK)  # fmt: skip
    parts = {
        split: [Item(name, (label,)) for label, names in part.items() for name in names]
        for split, part in found.parts.items()
    }
    return Listing(Files(folders.base), parts, found.labels(), found.notes, folders.base)
