"""Tables of text: comma, semicolon or tab, UTF-8, with all mistakes told at once. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from visiontl.errors import DataError
from visiontl.kit.absent import instead
from visiontl.kit.cells import unmarked
from visiontl.kit.folders import LONGEST, Folders, near, other_forms, read_text
from visiontl.kit.names import compared
from visiontl.kit.splits import WHOLE, split_of
from visiontl.kit.words import count, did_you_mean, plural, refusal, some, told

MOST = 1 << 30  # bytes of a table
DELIMITERS = ",;\t"

T = TypeVar("T")
Row = tuple[int, Sequence[str]]  # (line from 1, its cells)
Record = tuple[int, Mapping[str, str]]  # (line from 1, {column: cell})


@dataclass(frozen=True)
class Table:
    """What `read_table` read.

    columns: those of the wanted ones that are there. records: rows of the right length, cells without blanks at
    their ends. problems: a sentence for each other row, to be raised by whoever checks what the cells say.
    """

    columns: Sequence[str]
    records: Sequence[Record]
    problems: Sequence[str]


@dataclass(frozen=True)
class Listed(Generic[T]):
    """What a table says of files.

    base: the folder of all names. parts: split, or WHOLE, -> {name: what its row says},
    in the order of the rows. repeated: names whose rows stand there again, left out. notes: on names that were found
    under another form.
    """

    base: str
    parts: Mapping[str, Mapping[str, T]]
    repeated: Sequence[str]
    notes: Sequence[str] = ()


def read_rows(path: Path) -> list[Row]:
    """All rows that are not blank, cells without the mark of `cells.marked`. The first line tells the delimiter. Raises
    DataError naming the file."""
    text = read_text(path, MOST)
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [unmarked(cell.strip()) for cell in row]) for row in reader]
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table (line {reader.line_num}: {error})") from None
    return [(line, row) for line, row in rows if any(row)]


def read_table(path: Path, needed: Sequence[str], also: Sequence[str] = ()) -> Table:
    """The needed columns, and those of `also` that are there, in any order and in capitals or not; others are ignored.

    Raises DataError where the file cannot be read, or lacks a needed column.
    """
    rows = read_rows(path)
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    forms = [compared(cell) for cell in header]
    for column in needed:
        if compared(column) not in forms:
            raise DataError(
                f"{path}: the first line has no column {column!r}; expected {','.join(needed)}"
                f"{''.join(f'[,{name}]' for name in also)}, found {some(header, 20) or 'nothing'}"
                f"{did_you_mean(column, header)}"
            )
    places = {column: forms.index(compared(column)) for column in (*needed, *also) if compared(column) in forms}
    twice = [column for column in places if forms.count(compared(column)) > 1]
    if twice:
        raise DataError(f"{path}: the first line has the column {twice[0]!r} twice; remove one of the two")
    records: list[Record] = []
    problems: list[str] = []
    for line, row in rows[1:]:
        if len(row) == len(header):
            records.append((line, {column: row[place] for column, place in places.items()}))
        else:
            problems.append(
                f"line {line} has {count(len(row), 'cell')}, the header {len(header)}; put text that contains the "
                "delimiter in quotes"
            )
    return Table(list(places), records, problems)


def read_listing(
    table: str,
    root: str | None,
    needed: Sequence[str],
    also: Sequence[str],
    meaning: Callable[[Mapping[str, str]], T],
) -> Listed[T]:
    """A table of files: the column path, perhaps split, those needed and those of `also` that are there, which
    `meaning` makes something of; it raises ValueError, saying why, for cells that mean nothing.

    Paths start from `root` (null: the table's own folder) and stay inside it as they are written; absolute ones may
    lead into it. A row that says the same of a file again is left out. Raises DataError with all mistakes and their
    lines.
    """
    path = Path(table).expanduser()
    base = Path(root).expanduser() if root is not None else path.parent
    if "\0" in table or not path.is_file():
        raise DataError(f"task.data.csv: {told(path)}: no such file{near(table)}")
    if not base.is_dir():
        raise DataError(f"task.data.root: {base}: no such folder")
    read = read_table(path, ("path", *needed), ("split", *also))
    folders = Folders(str(base))
    problems = list(read.problems)
    missing: list[str] = []
    hint = ""
    others: list[str] = []
    first: dict[str, tuple[int, str, T]] = {}
    repeated: list[str] = []
    for line, cells in read.records:
        try:
            name = _named(folders, cells["path"], not problems)
            split = _split(cells["split"]) if "split" in cells else WHOLE
            said = meaning(cells)
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        real = folders.found(name)
        if real is None:
            hint = hint if missing else instead(folders, name)
            missing.append(f"{told(cells['path'])} (line {line})")
            continue
        if real != name:
            others.append(name)
            name = real
        if name not in first:
            first[name] = line, split, said
        elif first[name][1:] == (split, said):
            repeated.append(name)
        else:
            problems.append(f"line {line}: {told(name)} stands on line {first[name][0]} already, with other cells")
    if missing:
        problems.append(f"{count(len(missing), 'file')} not found below {base}: {some(missing)}{hint}")
    if problems:
        raise refusal(path, problems)
    if not first:
        raise DataError(f"{path}: the table has a header and no rows")
    parts: dict[str, dict[str, T]] = {}
    for name, (_, split, said) in first.items():
        parts.setdefault(split, {})[name] = said
    return Listed(str(base), parts, repeated, other_forms(path, others))


def _named(folders: Folders, path: str, hints: bool) -> str:
    """hints: whether to look for what a path that lies outside may have meant."""
    if not path:
        raise ValueError("no path")
    try:
        return folders.within(path)
    except ValueError as error:
        raise ValueError(f"{error}{instead(folders, path) if hints and len(path) < LONGEST else ''}") from None


def _split(cell: str) -> str:
    split = split_of(cell)
    if split is None:
        raise ValueError(f"split {told(cell)!r} is none of train, val, test")
    return split


def repeated_lines(table: str, names: Sequence[str]) -> list[str]:
    """A note on rows that were left out, or none."""
    number = len(names)
    return [f"{table}: {number:,} repeated {plural(number, 'line')} left out: {some(names)}"] if names else []
