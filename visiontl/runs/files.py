"""Files of a run that are read and written as text. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def read_lines(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The records of a run's numbers, and how many whole lines are none: not what a kill cut off at the end."""
    path, records, lost = folder / METRICS, list[dict[str, Any]](), 0
    for line in path.read_bytes().splitlines(keepends=True) if path.is_file() else ():  # a pipe would be waited for
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        step = record.get("step") if isinstance(record, dict) else None
        if isinstance(record, dict) and type(step) is int and step >= 0 and isinstance(record.get("kind"), str):
            records.append(record)
        else:
            lost += line.endswith(b"\n")
    return records, lost


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
