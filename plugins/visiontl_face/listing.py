"""What a source of face images offers: files with their identities, as folders or a table state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from visiontl import DataError
from visiontl.kit.folders import opened, passed_over
from visiontl.kit.labels import FolderLayout, read_labeled
from visiontl.kit.splits import WHOLE
from visiontl.kit.tables import read_listing, repeated_lines
from visiontl.kit.words import told

ASK = (
    " Say task.data.format=identities (the outer folders are people), inner (the folder that an image lies in is a "
    "person), or splits (train, val, test)"
)
LAYOUTS: Mapping[str, FolderLayout] = {"auto": "auto", "splits": "splits", "identities": "labels", "inner": "inner"}


@dataclass(frozen=True)
class Item:
    """name: path relative to the root, with forward slashes. identity: "" where nothing tells it. group: for scores per
    group, "" where there is none."""

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


def folder_listing(folder: str, layout: str = "auto", ask: str = ASK) -> Listing:
    """ROOT/person/1.jpg, or ROOT/{train,val,test}/person/1.jpg; folders inside a person's are read too.

    layout: auto | splits | identities | inner. ask: as `kit.labels.read_labeled` takes it."""
    folders = opened(folder, instead="give a folder of identities' folders, or a .csv file")
    found = read_labeled(folders, LAYOUTS[layout], noun="identity", ask=ask)
    parts = {
        split: [Item(name, person) for person, names in people.items() for name in names]
        for split, people in found.parts.items()
    }
    if not any(parts.values()):
        raise DataError(f"{folders.base}: holds no pictures in folders; expected a folder per identity, or a .csv file")
    return Listing(Path(folders.base), parts, found.notes, folders.base)


def nameless_listing(folder: str) -> Listing:
    """All pictures below a folder, of nobody; its folders mean nothing."""
    folders = opened(folder, instead="give a folder of images, or a .csv file")
    found = folders.pictures()
    if not found.pictures:
        raise DataError(f"{folders.base}: holds no pictures")
    items = [Item(name, "") for name in found.pictures]
    return Listing(Path(folders.base), {WHOLE: items}, passed_over(folders.base, found.passed), folders.base)


def has_people(folder: str) -> bool:
    """Whether some picture lies in a folder of its own, which may be a person's."""
    return any("/" in name for name in opened(folder).pictures().pictures)


def table_listing(table: str, root: str | None, identities: bool) -> Listing:
    """Columns path, identity and optionally split and group, as `kit.tables.read_listing` reads them. identities: false
    where the column may be absent or empty."""

    def person(cells: Mapping[str, str]) -> tuple[str, str]:
        if identities and not cells["identity"]:
            raise ValueError(f"no identity for {told(cells['path'])}")
        return cells["identity"] if identities else "", cells.get("group", "")

    found = read_listing(table, root, ("identity",) if identities else (), ("group",), person)
    parts = {
        split: sorted((Item(name, *said) for name, said in part.items()), key=lambda item: item.name)
        for split, part in found.parts.items()
    }
    return Listing(Path(found.base), parts, [*repeated_lines(table, found.repeated), *found.notes], table)
