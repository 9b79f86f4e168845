"""Where predictions are written to."""

from __future__ import annotations

from pathlib import Path

from visiontl.runs import folders
from visiontl.runtime.written import new_folder


def out_folder(folder: Path) -> Path:
    """A folder to write to, empty and outside of any exported model. Raises CheckpointError and DataError."""
    folders.require_outside(folder)
    return new_folder(folder)
