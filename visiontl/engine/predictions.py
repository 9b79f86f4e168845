"""Where predictions are written to."""

from __future__ import annotations

from pathlib import Path

from visiontl.errors import DataError
from visiontl.runs import folders


def out_folder(folder: Path) -> Path:
    """A folder to write to, empty and outside of any exported model. Raises CheckpointError and DataError."""
    folders.require_outside(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise DataError(f"--out: {folder} cannot be made: {error.strerror or error}") from None
    if taken:
        raise DataError(f"{folder} is not empty; predictions never overwrite, choose another --out")
    return folder
