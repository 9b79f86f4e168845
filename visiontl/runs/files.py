"""Files of a run that are read and written as text. Imports no torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """All whole lines of a run; one cut off by a kill, or that no run wrote, is passed over."""
    path, records = folder / METRICS, list[dict[str, Any]]()
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int) and "kind" in record:
            records.append(record)
    return records


def write_text(path: Path, text: str) -> None:
    """A file that is whole or not there."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
