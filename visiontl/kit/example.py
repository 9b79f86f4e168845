"""Data sets that a task draws on the spot: made once, whole or not at all. Imports no torch."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from visiontl.errors import DataError, refused_by_disk, room_at


def once(folder: str | Path, make: Callable[[Path], object]) -> Path:
    """The folder, filled by `make` where it is missing or empty; one that holds anything is kept as it is.

    make(place) writes into `place`, an empty folder beside it that takes its name when all is there. So a process
    that dies leaves no half of a set (but hidden `.NAME-*` beside it), and of two that begin at once one is first
    and both return the same set: `make` must write the same each time. What `make` raises is passed on, and
    nothing stays. Raises DataError for a full disk, OSError where the folder cannot be made.
    """
    final = Path(folder)
    if _filled(final):
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = None
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
        make(unfinished)
        unfinished.chmod(0o755)  # mkdtemp gives 700
        try:
            os.rename(unfinished, final)  # takes the place of an empty folder too
        except OSError:
            if not _filled(final):  # else another process was first
                raise
    except OSError as error:
        if (why := refused_by_disk(error)) is None:
            raise
        raise DataError(f"{final} cannot be made: {why}, {room_at(final)}; make room, then try again") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    return final


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
