"""Which files a task read while it read its data: lists, tables, annotations, masks; whatever the task is.

Python tells of each file that is opened (`sys.addaudithook`); what a library of another language opens by itself is not
seen. What is read with each sample only is found by making a few: see `labels`.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
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
    with _listening() as found:
        try:
            return read()
        finally:
            _last[:] = found


def opened_by(make: Callable[[], object]) -> list[str]:
    """What is opened while something is made, and is a file of the task's; `files` still speaks of the last `noted`."""
    with _listening() as found, suppress(Exception):  # it cannot be made, which is said where it matters
        make()
    return of_a_task(found)


@contextmanager
def _listening() -> Iterator[dict[str, None]]:
    global _noted
    if not _hooked:
        sys.addaudithook(_hook)  # for the rest of the process: one comparison for each event
        _hooked.append(True)
    _noted = found = dict[str, None]()
    try:
        yield found
    finally:
        _noted = None


def files(but: Collection[str], seed: int) -> list[str]:
    """Files of the last `noted`, sorted, also those that were asked for and are not there; none of `but`."""
    apart = {os.path.abspath(one) for one in but}
    return a_sample([path for path in of_a_task(_last) if os.path.abspath(path) not in apart], seed)


def of_a_task(paths: Iterable[str]) -> list[str]:
    """None of Python's own, no folder and no pipe."""
    own = tuple({os.path.join(one, "") for one in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__))})
    found = [path for path in paths if not path.endswith(CODE)]
    found = [path for path in found if not os.path.abspath(path).startswith((*own, *SYSTEM))]
    return [path for path in found if os.path.isfile(path) or not os.path.lexists(path)]


def a_sample(paths: Collection[str], seed: int) -> list[str]:
    """Sorted, at most MOST of them."""
    return sorted(paths) if len(paths) <= MOST else sorted(random.Random(seed).sample(sorted(paths), MOST))


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _noted is None or event != "open":
        return
    path, _, flags = given
    if isinstance(path, str | bytes | os.PathLike) and isinstance(flags, int) and not flags & WRITING:
        _noted[os.fsdecode(path)] = None
