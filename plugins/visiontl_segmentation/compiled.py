"""The loops over points and pixels as machine code, where numba is installed (the extra `fast`).

They leave open what rounding could decide, as the steps in `cells` do that stand in for them without numba: the answer
is the same, in a third of the time.
"""

# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false
from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

OPEN = 255  # of a pixel, point or cell that is not decided; classes are 0 to 253


@dataclass(frozen=True)
class Loops:
    """The functions below, compiled."""

    rank: Callable[..., Any]
    mark: Callable[..., Any]
    fill: Callable[..., Any]
    count: Callable[..., Any]


@functools.cache
def loops() -> Loops | None:
    """None where numba is not installed, or told to interpret."""
    try:
        from numba import config, njit
    except ImportError:
        return None
    if config.DISABLE_JIT:  # type: ignore[reportAttributeAccessIssue]
        return None
    made: list[Any] = []
    for plain in (rank, mark, fill, count):
        try:  # kept in __pycache__, unless Python was told to write nothing there
            made.append(njit(nogil=True, cache=not sys.dont_write_bytecode)(plain))
        except RuntimeError:  # its cache can be written nowhere: it is compiled anew in each process
            made.append(njit(nogil=True)(plain))
    return Loops(*made)


def rank(logits: np.ndarray, leader: np.ndarray, ahead: np.ndarray) -> tuple[Any, Any]:
    """Writes the class with the largest of (K, h, w) float32 into leader, (h, w) uint8, and by how much into ahead,
    (h, w) float32. Returns the largest absolute value, and whether all are finite."""
    size, nothing, least = np.float32(0), np.float32(0), np.float32(-np.inf)
    for y in range(logits.shape[1]):
        for x in range(logits.shape[2]):
            best, second, first = least, least, 0
            for k in range(logits.shape[0]):
                value = logits[k, y, x]
                nothing += value * np.float32(0)  # NaN from what is not finite
                size = max(size, abs(value))
                if value > best:
                    best, second, first = value, best, k
                elif value > second:
                    second = value
            leader[y, x] = first
            ahead[y, x] = best - second
    return size, nothing == 0


def mark(leader: np.ndarray, ahead: np.ndarray, slack: float, alone: np.ndarray) -> None:
    """OPEN in leader where it is ahead by at most slack; alone: (h, w) uint8, the leader of a cell's four points."""
    height, width = leader.shape
    for y in range(height):
        for x in range(width):
            if ahead[y, x] <= slack:
                leader[y, x] = OPEN
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width):
            own, right = leader[y, x], min(x + 1, width - 1)
            same = leader[y, right] == own and leader[below, x] == own and leader[below, right] == own
            alone[y, x] = own if same else OPEN


def fill(
    logits: np.ndarray, alone: np.ndarray, rows: Any, columns: Any, doubt: tuple[float, float, float], out: np.ndarray
) -> None:
    """Writes the class of each pixel into out, (H, W) uint8, OPEN where another is as near as rounding reaches.

    rows, columns: low, high and share of an Axis. doubt: slack, turn and blur of Points.
    """
    (tops, bottoms, downs), (lefts, rights, acrosses), (slack, turn, blur) = rows, columns, doubt
    number, least = logits.shape[0], np.float32(-np.inf)
    for i in range(len(tops)):
        top, bottom, down = tops[i], bottoms[i], downs[i]
        for j in range(len(lefts)):
            known = alone[top, lefts[j]]
            if known != OPEN:
                out[i, j] = known
                continue
            left, right, share = lefts[j], rights[j], acrosses[j]
            best, second, first = least, least, 0
            for k in range(number):
                upper = logits[k, top, left] + (logits[k, top, right] - logits[k, top, left]) * share
                lower = logits[k, bottom, left] + (logits[k, bottom, right] - logits[k, bottom, left]) * share
                value = upper + (lower - upper) * down
                if value > best:
                    best, second, first = value, best, k
                elif value > second:
                    second = value
            out[i, j] = first
            if best - second > slack:
                continue
            # within a cell its own steps count; a place at its edge may be rounded into the next one, of unknown steps
            if abs(share - 0.5) > 0.5 - 2 * turn:
                out[i, j] = OPEN
                continue
            for k in range(number):
                if k != first:
                    ul = logits[first, top, left] - logits[k, top, left]
                    ur = logits[first, top, right] - logits[k, top, right]
                    ll = logits[first, bottom, left] - logits[k, bottom, left]
                    lr = logits[first, bottom, right] - logits[k, bottom, right]
                    upper, lower = ul + (ur - ul) * share, ll + (lr - ll) * share
                    if upper + (lower - upper) * down <= blur + turn * max(abs(ur - ul), abs(lr - ll)):
                        out[i, j] = OPEN


def count(guess: np.ndarray, truth: np.ndarray, classes: int, ignored: int, counts: np.ndarray) -> None:
    """Adds the pixels of each pair to counts, (K * K,) int64: true class * K + guess. guess, truth: (n,) uint8, below K
    or, the truth, ignored."""
    last, run = 0, 0  # a write for each run of equal pairs
    for i in range(len(truth)):
        pair = truth[i] * classes + guess[i]
        if pair != last:
            if run and last < len(counts):
                counts[last] += run
            last, run = pair, 0
        if truth[i] != ignored:
            run += 1
    if run and last < len(counts):
        counts[last] += run
