"""Which files a task read while it read its data: lists, tables, annotations, masks; whatever the task is.

Python tells of each file that is opened (`sys.addaudithook`); what a library of another language opens by itself, and
what is read with each sample only, is not seen.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Collection
from typing import Any, TypeVar

MOST = 100_000  # files that are kept; of more a sample
CODE = (".py", ".pyc", ".pyi", ".so", ".dll", ".dylib", ".pth")
SYSTEM = ("/proc/", "/sys/", "/dev/")
WRITING = os.O_WRONLY | os.O_RDWR

T = TypeVar("T")

_noted: dict[str, None] | None = None  # paths, as they were opened, in that order; None while nobody asks
_last: list[str] = []
_hooked: list[bool] = []


def noted(read: Callable[[], T]) -> T:
    """What `read` gives; `files` then says what was opened meanwhile."""
    global _noted
    if not _hooked:
        sys.addaudithook(_hook)  # for the rest of the process: one comparison for each event
        _hooked.append(True)
    _noted = {}
    try:
        return read()
    finally:
        _last[:], _noted = _noted, None


def files(but: Collection[str], seed: int) -> list[str]:
    """Files of the last `noted`, sorted, also those that were asked for and are not there; none of `but`, nothing of
    Python's own, no folder and no pipe."""
    apart = {os.path.abspath(one) for one in but}
    own = tuple({os.path.join(one, "") for one in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))})
    whole = {path: os.path.abspath(path) for path in _last if not path.endswith(CODE)}
    found = [path for path, one in whole.items() if one not in apart and not one.startswith((*own, *SYSTEM))]
    found = sorted(path for path in found if os.path.isfile(path) or not os.path.lexists(path))
    return found if len(found) <= MOST else sorted(random.Random(seed).sample(found, MOST))


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _noted is None or event != "open":
        return
    path, _, flags = given
    if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and not flags & WRITING:
        _noted[os.fsdecode(path)] = None
