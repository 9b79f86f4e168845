"""A CSV of paths and labels: a label or several in one cell, or a column of 0 and 1 for each class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.tables import read_listing, read_rows, repeated_lines
from visiontl.kit.words import count, plural, some, told
from visiontl_classification.config import ClassificationConfig
from visiontl_classification.folders import Files
from visiontl_classification.listing import Item, Listing

SEPARATORS = "|;,/+&\t "  # what people write between labels
FLAGS = {"1": True, "1.0": True, "true": True, "yes": True, "0": False, "0.0": False, "false": False, "no": False}

Labels = tuple[str, ...]


def table_listing(cfg: ClassificationConfig) -> Listing:
    """Columns path, label and optionally split, as `kit.tables.read_listing` reads them; or, in place of label, those
    that `data.columns` names. Class ids are the labels, in sorted order, or these columns in theirs.

    Raises DataError too where labels are written with another separator than the config's.
    """
    source, several = cfg.data, cfg.labels == "multi"
    table, separator = source.csv or "", source.separator
    if source.columns is None:
        needed, meaning = ["label"], in_one_cell(separator if several else None)
    else:
        needed, meaning = source.columns, in_columns(source.columns, several)
    try:
        found = read_listing(table, source.root, needed, (), meaning)
    except DataError as error:
        if source.columns is None and "no column 'label'" in str(error):
            raise DataError(f"{error}{flagged_columns(table)}") from None
        raise
    parts = {split: [Item(name, ids) for name, ids in part.items()] for split, part in found.parts.items()}
    rows = [item.classes for items in parts.values() for item in items]
    notes = [*repeated_lines(table, found.repeated), *found.notes]
    if source.columns is None:
        notes += other_separator(table, rows, separator, several, "separator" in source.model_fields_set)
    bare = [item.name for items in parts.values() for item in items if not item.classes]
    if bare:
        notes.append(f"{table}: {count(len(bare), 'image')} without any label, kept as such: {some(bare)}")
    ids = source.columns or sorted({label for labels in rows for label in labels})
    return Listing(Files(found.base), parts, ids, notes, table)


def in_one_cell(separator: str | None) -> Callable[[Mapping[str, str]], Labels]:
    """separator: between the labels of one image; None where it has one."""

    def labels(cells: Mapping[str, str]) -> Labels:
        if separator is not None:
            return parted(cells["label"], separator)
        if not cells["label"]:
            raise ValueError(f"no label for {told(cells['path'])}")
        return (cells["label"],)

    return labels


def parted(cell: str, separator: str) -> Labels:
    return tuple(sorted({part.strip() for part in cell.split(separator)} - {""}))


def flagged_columns(table: str) -> str:
    """What to do where a table has columns of 0 and 1 and no labels, as the end of a sentence."""
    (_, header), *rows = read_rows(Path(table).expanduser())
    flagged = [
        column
        for place, column in enumerate(header)
        if rows and all(len(row) == len(header) and row[place].lower() in FLAGS for _, row in rows[:100])
    ]
    if len(flagged) < 2:
        return ""
    return f"; its columns of 0 and 1 can be the classes: task.data.columns=[{', '.join(map(told, flagged))}]"


def in_columns(columns: Sequence[str], several: bool) -> Callable[[Mapping[str, str]], Labels]:
    """columns: one for each class, with 1 where an image shows it, else 0."""

    def labels(cells: Mapping[str, str]) -> Labels:
        odd = [column for column in columns if cells[column].lower() not in FLAGS]
        if odd:
            given = repr(told(cells[odd[0]])) if cells[odd[0]] else "empty"
            raise ValueError(f"{told(odd[0])} is {given}; expected 0 or 1")
        chosen = tuple(column for column in columns if FLAGS[cells[column].lower()])
        if not several and len(chosen) != 1:
            have = f"{len(chosen)} of {count(len(columns), 'column')} {plural(len(chosen), 'is')} 1 ({some(chosen)})"
            have = have if chosen else f"none of {count(len(columns), 'column')} is 1"
            raise ValueError(f"{have}; one is right, or task.labels=multi")
        return chosen

    return labels


def other_separator(table: str, rows: Sequence[Labels], separator: str, several: bool, given: bool) -> list[str]:
    """A note, or DataError, where labels look like several ones with another separator than ours.

    It is another's where no image has two labels, some cells hold it, and its parts stand in other cells too. given:
    whether the config names the separator, so that somebody has thought of it.
    """
    if any(len(labels) > 1 for labels in rows):
        return []
    cells = [label for labels in rows for label in labels]
    candidates = [sign for sign in SEPARATORS if sign != separator] if several else [separator]
    for sign in candidates:
        joined = [cell for cell in dict.fromkeys(cells) if len(parted(cell, sign)) > 1]
        if not joined or not recurring(cells, joined, sign):
            continue
        what = f"{count(len(joined), 'label')} look like several with {sign!r} between them: {some(joined, 3)}"
        if not several:
            return [f"{table}: {what}; each is taken for one class (task.labels=multi reads them as several)"]
        if given:
            return [f"{table}: {what}; with task.data.separator {separator!r}, each is taken for one class"]
        raise DataError(
            f"{table}: no image has two labels with task.data.separator {separator!r}, but {what}; set "
            f"task.data.separator={sign!r}, or {separator!r} where each is one class"
        )
    return []


def recurring(cells: Iterable[str], joined: Sequence[str], sign: str) -> bool:
    """Whether most parts of the joined labels stand in other labels too, as those of one name (New York) do not."""
    number = Counter(part for cell in set(cells) for part in parted(cell, sign))
    parts = [part for cell in joined for part in parted(cell, sign)]
    return 2 * sum(number[part] > 1 for part in parts) > len(parts)
