"""Files that are no photos, opened as the parts open them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl import DataError
from visiontl_multi.config import MultiConfig, Part


def opens(cfg: MultiConfig) -> Mapping[str, Any]:
    """{suffix: how such files become pictures} of all parts."""
    return {suffix: opened for part in cfg.tasks.values() for suffix in opens_of(part)}


def opens_of(part: Part) -> Mapping[str, Any]:
    found = part.task.opens
    return found(part.section) if callable(found) else found


def opened(cfg: MultiConfig, file: Path) -> Image.Image:
    """The picture that the parts make of a file, which all are shown. Raises DataError where two make different ones,
    and what the parts raise."""
    suffix = Path(file).suffix.lower()
    made: dict[str, Image.Image] = {}
    for name, part in cfg.tasks.items():
        step = opens_of(part).get(suffix)
        if step is not None:
            made[name] = step(part.section, file)
    first, *others = made
    for other in others:
        if made[first].size != made[other].size or made[first].tobytes() != made[other].tobytes():
            raise DataError(
                f"{file}: {first} and {other} open {suffix} files as different pictures "
                f"({' and '.join(f'{made[name].width} x {made[name].height}' for name in (first, other))}), and all "
                "parts are shown one; give both the same settings for it"
            )
    return made[first]
