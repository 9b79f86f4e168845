"""Which files are opened while a sample is made: when none of them has changed, nor has the sample."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

FRESH = 2_000_000_000  # nanoseconds: a file changed so shortly before may change again under the same time stamp
CODE = {".py", ".pyc", ".so", ".pth", ".dll", ".pyd"}  # loaded meanwhile; code has a key of its own

Stamp = tuple[int, int, int, int]  # size in bytes, changed and renamed (ns), number of the file on its disk

_hooked = False
_opened: dict[str, Stamp | None] | None = None


def stamp(path: str) -> Stamp | None:
    """None for what is no file to be trusted: gone, a pipe, or changed just now."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < FRESH:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


@contextmanager
def watched() -> Generator[dict[str, Stamp | None]]:
    """Within the block each file that Python opens for reading is noted, with its stamp from before it is read.

    Files that C opens by itself escape it: `seen` tells whether the photo was among them.
    """
    global _hooked, _opened
    if not _hooked:
        sys.addaudithook(_note)
        _hooked = True
    before, found = _opened, dict[str, Stamp | None]()
    _opened = found
    try:
        yield found
    finally:
        _opened = before


def seen(files: dict[str, Stamp | None], name: str) -> bool:
    """Whether these are all that a sample came from: its photo, as the split calls it, is one of them."""
    return any(PurePath(path).name == PurePath(name).name for path in files)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or _opened is None:
        return
    path, mode, flags = arguments
    writes = set(mode) & set("wax+") if isinstance(mode, str) else (flags or 0) & (os.O_WRONLY | os.O_RDWR)
    if writes or not isinstance(path, str | bytes | os.PathLike):
        return
    name = os.fsdecode(path)
    if PurePath(name).suffix not in CODE and name not in _opened:
        _opened[os.path.abspath(name)] = stamp(name)
