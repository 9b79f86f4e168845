"""A CSV of paths and labels."""

from __future__ import annotations

from collections.abc import Mapping

from visiontl.kit.tables import read_listing, repeated_lines
from visiontl.kit.words import count, some, told
from visiontl_classification.folders import Files
from visiontl_classification.listing import Item, Listing


def table_listing(table: str, root: str | None, separator: str | None) -> Listing:
    """Columns path, label and optionally split, as `kit.tables.read_listing` reads them.

    separator: between the labels of one image, None for single-label. Class ids are the labels, in sorted order.
    """

    def labels(cells: Mapping[str, str]) -> tuple[str, ...]:
        if separator is not None:
            return tuple(sorted({part.strip() for part in cells["label"].split(separator)} - {""}))
        if not cells["label"]:
            raise ValueError(f"no label for {told(cells['path'])}")
        return (cells["label"],)

    found = read_listing(table, root, ("label",), (), labels)
    parts = {split: [Item(name, ids) for name, ids in part.items()] for split, part in found.parts.items()}
    notes = repeated_lines(table, found.repeated)
    bare = [item.name for items in parts.values() for item in items if not item.classes]
    if bare:
        notes.append(f"{table}: {count(len(bare), 'image')} without any label, kept as such: {some(bare)}")
    ids = sorted({label for items in parts.values() for item in items for label in item.classes})
    return Listing(Files(found.base), parts, ids, notes, table)
