"""What a run has to show: the pieces that a task's `report` returns. Imports no torch and no matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A plot. `draw` gets a matplotlib Axes; it is called when the report is written."""

    title: str
    draw: Callable[[Any], None]
    caption: str = ""
    size: tuple[float, float] = (6.0, 4.0)  # inches (width, height)


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Pictures:
    """Captioned PIL images, shown as a grid."""

    title: str
    items: Sequence[tuple[str, Any]]  # (caption, PIL image)
    caption: str = ""
