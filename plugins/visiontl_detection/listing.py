"""What every annotation format is read into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Annotated:
    """One image with its boxes, as they were annotated or after `boxes.cleaned`.

    name: path from the listing's base, with forward slashes. size: (H, W) as annotated, None where unknown.
    boxes: (N, 4) float64, x1 y1 x2 y2 in pixels of the upright image. labels: (N,) int64 into the listing's classes.
    ignored: (N,) bool, crowds and the like: neither learned nor counted. area: (N,) float64, pixels, as annotated
    (a mask's) or the box's own. ids: per box what the file calls it, for messages.
    """

    name: str
    size: tuple[int, int] | None
    boxes: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    ignored: np.ndarray = field(repr=False)
    area: np.ndarray = field(repr=False)
    ids: Sequence[str] = ()


@dataclass(frozen=True)
class Listing:
    """A data set as found. base: the folder of all names. parts: split -> images, in a fixed order.
    categories: the file's id per class where it has ids. notes: what was assumed or left out, in sentences. overlaps:
    whether the data set's own file puts images into two splits, which is in the notes."""

    base: str
    parts: Mapping[str, Sequence[Annotated]]
    classes: Sequence[str]
    categories: Sequence[int] | None
    notes: Sequence[str]
    where: str
    overlaps: bool = False
