"""Which of the values in gray masks are classes, and which are soft edges, compression or stray pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from visiontl_segmentation.looks import Counted

SOLID = 0.1  # share of a value's pixels inside of an area from which on it is one that somebody drew
NEAR = 24  # values to either side of a drawn one that JPEG turns it into
FAR = 32  # values between two that are no class numbers; class numbers without names lie below
STRAY = 0.001  # share of all pixels that a few odd values may have
SOFT = 0.25  # and that many values between two others may have
MANY = 16  # values from which on they are no classes but shades


@dataclass(frozen=True)
class Levels:
    """drawn: the values that were drawn, rising; rest: share of all pixels that have another one (0..1); far: of those,
    where values were changed by compression, only such as it does not explain."""

    drawn: tuple[int, ...]
    rest: float
    far: float


def levels_of(found: Counted, lossy: bool) -> Levels:
    """The values that were drawn. lossy: whether the files were saved so that values change."""
    if not len(found.values):
        return Levels((), 0.0, 0.0)
    exact = found.values[found.solid >= SOLID * found.pixels]
    shades = len(found.values) > MANY and len(exact) * 2 < len(found.values)
    if lossy or shades:
        drawn = peaks(found)
    elif len(exact) < 2:  # lines of a pixel, or noise: nothing has an inside
        drawn = found.values
    else:
        drawn = exact
    missing = found.pixels[~np.isin(found.values, drawn)]
    total = max(1, int(found.pixels.sum()))
    share = int(missing.sum()) / total
    few = len(missing) < 4 and len(drawn) > 2 and share > STRAY  # a class of thin lines, say
    if few and not (lossy or shades):
        return Levels(tuple(found.values.tolist()), 0.0, 0.0)
    far = int(found.pixels[distance(found.values, drawn) > NEAR].sum()) / total if lossy or shades else share
    return Levels(tuple(int(one) for one in drawn), share, far)


def distance(values: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """How far each value is from the nearest of those that were drawn."""
    return np.abs(values[:, None] - drawn).min(1, initial=1 << 16)


def peaks(found: Counted) -> np.ndarray:
    """The most frequent value of each heap of values that has an inside, rising; the outer ones where there is but one
    such heap, as of lines that were blurred."""
    chosen: list[int] = []
    left = found.solid.astype(np.int64)
    while left.sum() > 0:
        value = int(found.values[left.argmax()])
        heap = np.abs(found.values - value) <= NEAR
        if found.solid[heap].sum() >= SOLID * found.pixels[heap].sum() and all(
            abs(value - one) >= FAR for one in chosen
        ):
            chosen.append(value)
        left[heap] = 0
    low, high = int(found.values.min()), int(found.values.max())
    if len(chosen) < 2 and high - low >= 4 * FAR:
        return np.array([low, high])
    return np.array(sorted(chosen), dtype=np.int64)


def is_pair(found: Counted, levels: Levels) -> bool:
    """Whether the values look like a background and a foreground, with soft edges or stray pixels at most."""
    drawn = levels.drawn
    if len(drawn) != 2 or drawn[1] - drawn[0] < FAR:
        return False
    between = (found.values > drawn[0] + NEAR) & (found.values < drawn[1] - NEAR)
    others = int(found.pixels[~np.isin(found.values, drawn)].sum())
    soft = int(found.pixels[between].sum()) > 0 or len(found.values) > 6
    return levels.rest <= STRAY or (soft and levels.far <= SOFT and others > 0)


def is_dense(values: np.ndarray, drawn: tuple[int, ...]) -> bool:
    """Whether whole numbers look like those of classes, where nothing names the classes."""
    if not len(values):
        return False
    highest = int(values.max())
    if len(values) > MANY and len(set(values.tolist()) & set(drawn)) * 2 < len(values):
        return False
    return highest < FAR or len(values) * 4 >= highest + 1


def evenly_spread(values: tuple[int, ...]) -> bool:
    """Whether values lie at equal distances, as 0, 85, 170, 255 do."""
    gaps = np.diff(values)
    return len(gaps) > 0 and int(gaps.min()) >= 8 and int(gaps.max() - gaps.min()) <= 2
