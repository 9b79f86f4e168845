"""What a task has read of its data, kept with the run: going on and evaluating do not read it again. Imports no torch.

The core says where a run keeps it; a task asks, and gives what it has found. What is kept must say by itself whether it
is still true of the files (their sizes and times), for they may have changed.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = "cache"  # of a run folder

_place: list[Path] = []  # of the run that goes on or is evaluated; none where a run begins
_kept: dict[str, bytes] = {}


def recalled(name: str) -> bytes | None:
    """What was kept under a name (a file name) by this process or with the run; None where nothing was."""
    if name in _kept:
        return _kept[name]
    try:
        found = _place[0] / FOLDER / name if _place else None
        return found.read_bytes() if found is not None and found.is_file() else None  # a pipe would be waited for
    except OSError:
        return None


def keep(name: str, content: bytes) -> None:
    """Keep it for this process, and with the run once that has a folder."""
    _kept[name] = content


def recall_from(run: Path | None) -> None:
    """For the core, before it reads data: the folder of the run that goes on, None where one begins."""
    _kept.clear()
    _place[:] = [] if run is None else [run]


def write_to(run: Path) -> None:
    """For the core: put what was kept into the folder of the run. A disk that is full is no reason to end."""
    for name, content in _kept.items():
        try:
            (run / FOLDER).mkdir(exist_ok=True)
            temporary = run / FOLDER / f".writing-{name}"
            temporary.unlink(missing_ok=True)  # a link is not written through
            temporary.write_bytes(content)
            os.replace(temporary, run / FOLDER / name)
        except OSError:
            return
