"""What each image of a split adds to its scores, one line an image: `images-val.csv` beside the report.

A run keeps the plain numbers of the task's rows alone (a truth, a class number and a count are whole numbers, and no
measures), so the file stays small. `visiontl compare` reads it: a score that is the mean of one of its columns has a
noise that can be told."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from visiontl.kit.cells import marked, unmarked
from visiontl.report.compared import Answers
from visiontl.runs.files import read_text, write_text


def images_file(folder: Path, split: str) -> Path:
    return folder / f"images-{split}.csv"


def write_images(folder: Path, split: str, names: Sequence[str], rows: Sequence[Any]) -> None:
    """The file of a split, whole or not there: `file`, and a column for each name under which rows hold a truth value
    (1, 0) or a fraction. Nothing is written where no row holds one. rows: as the task made them, in id order."""
    found = [measures(row) for row in rows]
    columns = list(dict.fromkeys(name for one in found for name in one))
    if not columns:
        return
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["file", *columns])
    lines.writerows(
        [marked(str(name)), *(one.get(column, "") for column in columns)]
        for name, one in zip(names, found, strict=True)
    )
    write_text(images_file(folder, split), text.getvalue())


def measures(row: Any) -> dict[str, float | int]:
    """The truth values (as 1 and 0) and finite fractions of a row."""
    found: dict[str, float | int] = {}
    for key, value in cast(Mapping[Any, Any], row).items() if isinstance(row, Mapping) else ():
        if key == "file":
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, bool):
            found[str(key)] = int(value)
        elif isinstance(value, float) and math.isfinite(value):
            found[str(key)] = value
    return found


def read_images(folder: Path, split: str) -> Answers | None:
    """What `write_images` wrote; None where there is no such file. Raises ValueError for one that is damaged."""
    path = images_file(folder, split)
    try:
        lines = list(csv.reader(io.StringIO(read_text(path), newline="")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read ({error})") from None
    if not lines or lines[0][:1] != ["file"] or any(len(line) != len(lines[0]) for line in lines):
        raise ValueError(
            f"{path} is no table of images: its lines differ in length, or the column `file` is not the first"
        )
    try:
        numbers = np.array([[float(text) if text else math.nan for text in line[1:]] for line in lines[1:]])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    numbers = numbers.reshape(len(lines) - 1, len(lines[0]) - 1)
    columns = {name: numbers[:, i] for i, name in enumerate(lines[0][1:])}
    return Answers(files=[unmarked(line[0]) for line in lines[1:]], columns=columns)
