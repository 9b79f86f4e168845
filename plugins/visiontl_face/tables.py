"""Small tables of text: comma, semicolon or tab."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.words import count, did_you_mean

Record = tuple[int, dict[str, str]]  # (line, {column: cell})


def read_table(path: Path, needed: Sequence[str], also: Sequence[str] = ()) -> tuple[list[str], list[Record]]:
    """(the columns that are there, the rows). Other columns are ignored. Raises DataError naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            delimiter = max(",;\t", key=head.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [cell.strip().lower() for cell in next(reader, [])]
            for column in needed:
                if column not in header:
                    raise DataError(
                        f"{path}: the first line has no column {column!r}; expected {','.join(needed)}"
                        f"{''.join(f'[,{name}]' for name in also)}, found {', '.join(header) or 'nothing'}"
                        f"{did_you_mean(column, header)}"
                    )
            places = {column: header.index(column) for column in (*needed, *also) if column in header}
            records = []
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: line {reader.line_num} has {count(len(row), 'cell')}, the header {len(header)}; put "
                        "text that contains the delimiter in quotes"
                    )
                records.append((reader.line_num, {column: row[i].strip() for column, i in places.items()}))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a readable table ({error})") from None
    return list(places), records
