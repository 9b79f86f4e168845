"""A CSV of paths and labels."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from visiontl import DataError
from visiontl.kit.words import count, did_you_mean
from visiontl_classification.folders import SPLITS, Files
from visiontl_classification.listing import WHOLE, Item, Listing, some

COLUMNS = ("path", "label", "split")
LONGEST = 4096  # characters of a path, Linux's limit


def table_listing(table: str, root: str | None, separator: str | None) -> Listing:
    """Columns path, label and optionally split, in any order; others are ignored. Comma, semicolon or tab.

    separator: between the labels of one image, None for single-label. Paths are relative to `root` (the
    table's own folder) and must stay inside it, links included. Class ids are the labels, in sorted order.
    """
    path = Path(table).expanduser()
    base = Path(root).expanduser() if root is not None else path.parent
    if not path.is_file():
        raise DataError(f"task.data.csv: {path}: no such file")
    if not base.is_dir():
        raise DataError(f"task.data.root: {base}: no such folder")
    header, records = _read(path)
    problems: list[str] = []
    missing: list[str] = []
    first: dict[str, tuple[int, tuple[str, ...], str]] = {}
    repeated: list[str] = []
    inside = os.path.join(os.path.realpath(base), "")
    for line, record in records:
        name = os.path.normpath(record["path"]).replace(os.sep, "/") if record["path"] else ""
        if not name:
            problems.append(f"line {line}: no path")
            continue
        if "\0" in name or len(name) > LONGEST:
            problems.append(f"line {line}: no file can have the path {name[:40]!r}... of {len(name):,} characters")
            continue
        if os.path.isabs(name) or name.split("/")[0] == "..":
            problems.append(f"line {line}: {record['path']!r} leaves the folder {base}; paths must stay inside it")
            continue
        real = os.path.realpath(base / name)
        if not real.startswith(inside):
            problems.append(f"line {line}: {record['path']!r} is a link that leads out of the folder {base}")
            continue
        if not os.path.isfile(real):
            missing.append(f"{record['path']} (line {line})")
            continue
        labels = _labels(record["label"], separator)
        if separator is None and not labels:
            problems.append(f"line {line}: no label for {name}")
            continue
        split = record.get("split", "")
        if "split" in header:
            if split.lower() not in SPLITS:
                problems.append(f"line {line}: split {split!r} is none of train, val, test")
                continue
            split = SPLITS[split.lower()]
        if name in first:
            before, known, part = first[name]
            if (known, part) != (labels, split):
                problems.append(f"line {line}: {name} stands on line {before} with another label or split")
            else:
                repeated.append(name)
            continue
        first[name] = (line, labels, split)
    if missing:
        problems.append(f"{count(len(missing), 'file')} not found below {base}: {some(missing)}")
    if problems:
        raise DataError(f"{path}: " + (problems[0] if len(problems) == 1 else _many(problems)))
    if not first:
        raise DataError(f"{path}: the table has a header and no rows")
    parts: dict[str, list[Item]] = {}
    for name, (_, labels, split) in first.items():
        parts.setdefault(split or WHOLE, []).append(Item(name, labels))
    notes = []
    if repeated:
        notes.append(f"{path}: {count(len(repeated), 'repeated line')} left out: {some(repeated)}")
    if separator is not None:
        bare = [name for name, (_, labels, _) in first.items() if not labels]
        if bare:
            notes.append(f"{path}: {count(len(bare), 'image')} without any label, kept as such: {some(bare)}")
    ids = sorted({label for _, labels, _ in first.values() for label in labels})
    return Listing(Files(str(base)), parts, ids, notes, str(path))


def _read(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(",;\t", key=head.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            for column in COLUMNS[:2]:
                if column not in header:
                    raise DataError(
                        f"{path}: the first line has no column {column!r}; expected path,label or "
                        "path,label,split, "
                        f"found {', '.join(header) or 'nothing'}{did_you_mean(column, header)}"
                    )
            places = {column: header.index(column) for column in COLUMNS if column in header}
            records = []
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: line {reader.line_num} has {count(len(row), 'cell')}, the header "
                        f"{len(header)}; "
                        "put text that contains the delimiter in quotes"
                    )
                records.append((reader.line_num, {column: row[i].strip() for column, i in places.items()}))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table ({error})") from None
    return header, records


def _labels(cell: str, separator: str | None) -> tuple[str, ...]:
    if separator is None:
        return (cell,) if cell else ()
    return tuple(sorted({part.strip() for part in cell.split(separator)} - {""}))


def _many(problems: list[str]) -> str:
    shown = "".join(f"\n  - {line}" for line in problems[:10])
    return f"{len(problems)} errors" + shown + ("\n  - ..." if len(problems) > 10 else "")
