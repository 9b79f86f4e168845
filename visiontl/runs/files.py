"""Files of a run that are read and written as text. Imports no torch."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from visiontl.errors import CheckpointError, refused_by_disk, room_at

METRICS = "metrics.jsonl"
LARGEST = 2**53  # of a whole number; beyond it a float cannot tell one from the next


@contextmanager
def writing(folder: Path, then: str) -> Iterator[None]:
    """Within the block a disk that takes no more ends in a CheckpointError: the folder, why, how many bytes are free,
    and what to do then."""
    try:
        yield
    except Exception as error:
        if (why := refused_by_disk(error)) is None:
            raise
        raise CheckpointError(f"{folder} cannot be written to: {why}, {room_at(folder)}; {then}") from error


def read_lines(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a run's numbers, and how many whole lines are none: not what a kill cut off at the end."""
    path, records, lost = folder / METRICS, list[dict[str, Any]](), 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():  # a pipe would be waited for
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and _is_record(record):
            records.append(record)
        else:
            lost += line.endswith(b"\n")
    return records, lost


def _is_record(found: dict[str, Any]) -> bool:
    """Whether a run writes such a line: its step, of which kind it is, names that are text, and numbers that fit a
    float."""
    step, kind = found.get("step"), found.get("kind")
    numbers = all(type(value) is not int or abs(value) < LARGEST for value in found.values())
    halves = any("\ud800" <= char <= "\udfff" for name in found for char in name)  # of pairs, which no font can draw
    return type(step) is int and step >= 0 and isinstance(kind, str) and numbers and not halves


def read_text(path: Path) -> str:
    """A plain file, or a link to one. Raises OSError for a pipe, which would be waited for, and for a device, which may
    have no end; ValueError for what is not UTF-8."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError("it is no plain file")
        return file.read().decode("utf-8")


def write_text(path: Path, text: str) -> None:
    """A file that is whole or not there."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("x", encoding="utf-8", errors="backslashreplace") as file:  # names need not be UTF-8
            file.write(text)  # "x" goes through no link
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
