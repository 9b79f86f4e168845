"""Class folders, with or without train, val and test folders above them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from visiontl import DataError
from visiontl.kit.images import is_image, open_image
from visiontl.kit.words import count, did_you_mean
from visiontl_classification.listing import WHOLE, Item, Listing, some

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Files:
    """Image files below a folder."""

    root: str

    def open(self, name: str) -> Image.Image:
        return open_image(Path(self.root) / name)


def folder_listing(folder: str, layout: str) -> Listing:
    """layout: auto | splits | classes. Class ids are the folder names in plain sorted order (of code points);
    a class folder is read with all folders below it; hidden files and what is no picture is counted."""
    root = Path(folder).expanduser()
    if not root.exists():
        raise DataError(f"task.data.folder: {root}: no such folder{_nearby(root)}")
    if not root.is_dir():
        raise DataError(f"task.data.folder: {root}: is a file; give a folder of class folders, or a .csv file")
    strays: list[str] = []
    notes: list[str] = []
    given = _split_folders(root, layout, strays, notes)
    if given:
        parts = {split: _class_folders(root / name, root, strays) for split, name in given.items()}
        strays += _loose_files(root)
    else:
        parts = {WHOLE: _class_folders(root, root, strays)}
    if strays:
        notes.append(
            f"{root}: skipped what is no picture in a class folder ({count(len(strays), 'name')}): {some(strays)}"
        )
    ids = sorted({item for part in parts.values() for item in part})
    return Listing(
        images=Files(str(root)),
        parts={
            split: [Item(name, (label,)) for label, names in part.items() for name in names]
            for split, part in parts.items()
        },
        classes=ids,
        notes=notes,
        where=str(root),
    )


def _split_folders(root: Path, layout: str, strays: list[str], notes: list[str]) -> dict[str, str]:
    """{"train": "train", "val": "valid"} where the folder holds splits, else {}."""
    if layout == "classes":
        return {}
    folders = _folders(root)
    found: dict[str, str] = {}
    for name in folders:
        split = SPLITS.get(name.lower())
        if split in found:
            raise DataError(f"{root}: {found[split]} and {name} both mean {split}; keep one of the two")
        if split is not None:
            found[split] = name
    others = [name for name in folders if name not in found.values()]
    if layout == "splits" and not found:
        raise DataError(
            f"{root}: format: splits expects folders named train, val, test; found {some(folders) or 'none'}"
        )
    if layout == "auto":
        deep = [split for split, name in found.items() if _folders(root / name)]
        if not deep and others:  # vehicles: bus, car, train
            return {}
        if others and len(found) == 1:
            raise DataError(
                f"{root}: {next(iter(found.values()))} holds folders and stands beside {some(others)}: "
                "a split or a class? "
                "Say task.data.format=splits or task.data.format=classes"
            )
    if "test" in found and len(found) > 1 and not _folders(root / found["test"]):
        pictures = count(len(_loose_files(root / found["test"])), "file")
        notes.append(f"{root / found['test']}: {pictures} without class folders, so without labels; not used")
        del found["test"]
    strays += [name + "/" for name in others]
    return found


def _class_folders(folder: Path, root: Path, strays: list[str]) -> dict[str, list[str]]:
    """class id -> the names, relative to the root, of its images."""
    labels = _folders(folder)
    loose = _loose_files(folder)
    if not labels:
        pictures = sum(is_image(Path(name)) for name in loose)
        have = f"{count(pictures, 'picture')} but no class folders" if pictures else "no class folders"
        raise DataError(
            f"{folder}: holds {have}; expected one folder per class (FOLDER/ants/1.jpg), or a .csv file "
            "with the "
            "columns path and label"
        )
    strays += [(folder / name).relative_to(root).as_posix() for name in loose]
    return {label: _pictures(folder / label, root, strays) for label in labels}


def _pictures(folder: Path, root: Path, strays: list[str]) -> list[str]:
    names, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        strays += [f"{Path(place, name).relative_to(root).as_posix()}/" for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(place, name)
            (names if is_image(path) else strays).append(path.relative_to(root).as_posix())
    return sorted(names)


def _folders(folder: Path) -> list[str]:
    # os.path.isdir: a link to itself is no folder, where DirEntry.is_dir raises
    return sorted(e.name for e in os.scandir(folder) if os.path.isdir(e.path) and not e.name.startswith("."))


def _loose_files(folder: Path) -> list[str]:
    """Files, and folders that are hidden."""
    return sorted(e.name for e in os.scandir(folder) if not os.path.isdir(e.path) or e.name.startswith("."))


def _nearby(path: Path) -> str:
    parent = path.parent
    if not parent.is_dir():
        return f" (nor is there {parent})"
    return did_you_mean(path.name, _folders(parent))
