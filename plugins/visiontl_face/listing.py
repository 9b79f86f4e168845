"""What a source of face images offers: files with their identities, as folders or a table state them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontl import DataError
from visiontl.kit.images import is_image
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_face.tables import read_table

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
WHOLE = "whole"  # the part of a source that comes without splits


@dataclass(frozen=True)
class Item:
    """name: path relative to the root, with forward slashes. group: for scores per group, "" where there is none."""

    name: str
    identity: str
    group: str = ""


@dataclass(frozen=True)
class Listing:
    """parts: train, val, test, or WHOLE alone, each in the order of the names."""

    root: Path
    parts: Mapping[str, Sequence[Item]]
    notes: Sequence[str]
    where: str


def folder_listing(folder: str) -> Listing:
    """ROOT/person/1.jpg, or ROOT/{train,val,test}/person/1.jpg; folders inside a person's are read too."""
    root = Path(folder).expanduser()
    if not root.exists():
        names = [path.name for path in root.parent.iterdir()] if root.parent.is_dir() else []
        raise DataError(f"task.data.folder: {root}: no such folder{did_you_mean(root.name, names)}")
    if not root.is_dir():
        raise DataError(f"task.data.folder: {root}: is a file; give a folder of identities' folders, or a .csv file")
    strays: list[str] = []
    folders = _folders(root)
    given: dict[str, str] = {}
    for name in folders:
        split = SPLITS.get(name.lower())
        if split is not None and _folders(root / name):
            if split in given:
                raise DataError(f"{root}: {given[split]} and {name} both mean {split}; keep one of the two")
            given[split] = name
    if given:
        parts = {split: _people(root / name, root, strays) for split, name in given.items()}
        strays += [f"{name}/" for name in folders if name not in given.values()]
    else:
        parts = {WHOLE: _people(root, root, strays)}
    if not any(parts.values()):
        pictures = sum(is_image(path) for path in root.iterdir())
        have = f"{count(pictures, 'picture')} but no identities' folders" if pictures else "no pictures in folders"
        raise DataError(f"{root}: holds {have}; expected a folder per identity (FOLDER/anna/1.jpg), or a .csv file")
    notes = [f"{root}: {count(len(strays), 'name')} that are no pictures left out: {some(strays)}"] if strays else []
    return Listing(root, parts, notes, str(root))


def _people(folder: Path, root: Path, strays: list[str]) -> list[Item]:
    items = []
    for person in _folders(folder):
        for file in sorted(_files(folder / person)):
            name = file.relative_to(root).as_posix()
            if is_image(file):
                items.append(Item(name, person))
            else:
                strays.append(name)
    return items


def _files(folder: Path) -> list[Path]:
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link back to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in files]
    return found


def _folders(folder: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(folder) if os.path.isdir(e.path) and not e.name.startswith("."))


def table_listing(table: str, root: str | None) -> Listing:
    """Columns path, identity and optionally split and group. Paths are relative to `root` (the table's own folder) and
    must stay inside it, links included."""
    path = Path(table).expanduser()
    base = Path(root).expanduser() if root is not None else path.parent
    if not path.is_file():
        raise DataError(f"task.data.csv: {path}: no such file")
    if not base.is_dir():
        raise DataError(f"task.data.root: {base}: no such folder")
    header, records = read_table(path, ("path", "identity"), ("split", "group"))
    problems: list[str] = []
    missing: list[str] = []
    lines: dict[str, int] = {}
    parts: dict[str, list[Item]] = {}
    inside = os.path.join(os.path.realpath(base), "")
    for line, record in records:
        name, problem = _inside(record["path"], base, inside)
        split = SPLITS.get(record.get("split", "").lower(), "") if "split" in header else WHOLE
        if problem:
            problems.append(f"line {line}: {problem}")
        elif not record["identity"]:
            problems.append(f"line {line}: no identity for {told(name)}")
        elif not split:
            problems.append(f"line {line}: split {told(record.get('split'))!r} is none of train, val, test")
        elif name in lines:
            problems.append(f"line {line}: {told(name)} stands on line {lines[name]} already")
        elif not (base / name).is_file():
            missing.append(f"{told(name)} (line {line})")
        else:
            lines[name] = line
            parts.setdefault(split, []).append(Item(name, record["identity"], record.get("group", "")))
    if missing:
        problems.append(f"{count(len(missing), 'file')} not found below {base}: {some(missing)}")
    if problems:
        raise refusal(path, problems)
    if not parts:
        raise DataError(f"{path}: the table has a header and no rows")
    found = {split: sorted(items, key=lambda item: item.name) for split, items in parts.items()}
    return Listing(base, found, [], str(path))


def _inside(text: str, base: Path, inside: str) -> tuple[str, str]:
    """(the path as a name below the base, what is wrong with it)."""
    if not text:
        return "", "no path"
    if "\0" in text or len(text) > 4096:  # Linux's limit
        return "", f"no file can have the path {told(text)!r}"
    name = os.path.normpath(text).replace(os.sep, "/")
    if os.path.isabs(name) or name.split("/")[0] == "..":
        return "", f"{told(text)!r} leaves the folder {base}; paths must stay inside it"
    if not os.path.realpath(base / name).startswith(inside):
        return "", f"{told(text)!r} is a link that leads out of the folder {base}"
    return name, ""
