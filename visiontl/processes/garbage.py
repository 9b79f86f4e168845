"""Python's collector of garbage, kept from looking through what stays."""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Generator[None]:
    """Within the block nothing is collected: for imports, whose modules, classes and functions all stay. Looking
    through them again and again takes a tenth of torch's import."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def left_out() -> Generator[None]:
    """Within the block what stood at its begin is left out of collections: else each looks through everything that was
    imported, for 0.2 s. For a process that has just imported it: garbage of before would stay as well."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
