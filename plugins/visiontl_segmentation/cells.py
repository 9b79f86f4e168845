"""Classes of a photo's pixels from the cells between the points of a coarse grid, most of which one class has alone.

A value between four points is a mean of theirs, weighted by 0 to 1. So where one class leads at all four, it leads in
between, and where two could lead, the sign of their difference says which: their values are not needed. What rounding
could decide is left open, for the caller to compute as it is defined. By compiled loops where numba is installed, else
in NumPy, whose small steps cost least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visiontl_segmentation import compiled
from visiontl_segmentation.compiled import OPEN

PIXELS = 1 << 20  # decided at once
CROWDED = 0.3  # of the cells; maps of trained networks have 0.03 to 0.11
TOGETHER = 1 << 18  # logits of pixels that more than two classes may have, held at once


@dataclass(frozen=True)
class Axis:
    """Where pixels lie along one side: low, high: (count,) int64, rising, the points before and after each one's
    center; share: (count,) float32, 0..1, of the second."""

    low: Tensor
    high: Tensor
    share: Tensor

    def __getitem__(self, chosen: slice | Tensor) -> Axis:
        return Axis(self.low[chosen], self.high[chosen], self.share[chosen])

    @property
    def skips(self) -> bool:
        """Whether cells between the first and the last hold no pixel."""
        return bool((self.low.diff() > 1).any())

    def exact(self, start: int = 0) -> bool:
        """Whether pixels are points, one after the other from `start` on."""
        stop = start + len(self.low)
        return int(self.low[-1]) == stop - 1 and torch.equal(self.low + self.share, torch.arange(float(start), stop))


@dataclass(frozen=True)
class Points:
    """A grid whose leaders are known. logits: (K, h, w) float32, contiguous without numba; leader: (h, w) uint8 of
    points, OPEN where another class comes within `slack`, more than rounding can do to the difference of two: a share
    of `turn` of a cell to a pixel's place along the row, and `blur` to the values there; alone: (h, w) uint8 of cells,
    by their upper left point, OPEN where not all four points have the same leader."""

    logits: Tensor
    leader: np.ndarray
    alone: np.ndarray
    slack: float
    turn: float
    blur: float

    @property
    def crowded(self) -> bool:
        """Whether so many cells are undecided, as of noise, that resizing all is faster."""
        return bool(np.count_nonzero(self.alone == OPEN) > CROWDED * self.alone.size)


@dataclass(frozen=True)
class Strips:
    """The pixels along one side by the cell that they lie in. first: the first cell; place, share: (m, p) pixels of
    each of m cells from there on, the last of them again where it has fewer than p."""

    first: int
    place: np.ndarray
    share: np.ndarray


def points(logits: Tensor) -> Points | None:
    """Of (K, h, w) on a CPU; None where a value is no float32, or not finite."""
    if logits.dtype != torch.float32 or logits.device.type != "cpu":
        return None
    logits, fast = logits.detach(), compiled.loops()
    if fast is not None:
        leader, ahead = np.empty(logits.shape[1:], dtype=np.uint8), np.empty(logits.shape[1:], dtype=np.float32)
        size, finite = fast.rank(logits.numpy(), leader, ahead)
        slack, turn, blur = doubt(float(size), logits.shape[2])
        if not finite or slack == float("inf"):
            return None
        alone = np.empty_like(leader)
        fast.mark(leader, ahead, slack, alone)
        return Points(logits, leader, alone, slack, turn, blur)
    logits = logits.contiguous()
    least, most = logits.aminmax()
    slack, turn, blur = doubt(max(-float(least), float(most)), logits.shape[2])
    if not bool(torch.isfinite(least + most)) or slack == float("inf"):
        return None
    leader = only((logits >= logits.amax(0) - slack).numpy())
    alone = leader.copy()
    right, below = np.minimum(np.arange(leader.shape[1]) + 1, leader.shape[1] - 1), slice(1, None)
    differs = leader != leader[:, right]
    differs[:-1] |= differs[below] | (leader[:-1] != leader[below])
    alone[differs] = OPEN
    return Points(logits, leader, alone, slack, turn, blur)


def doubt(size: float, width: int) -> tuple[float, float, float]:
    """slack, turn and blur of Points. size: the largest absolute logit.

    Rounding takes a few units in the last place of a value between four points, and two of a pixel's place along the
    row, times the step from a point to the next, which is at most twice the largest value in each of two classes.
    """
    eps = torch.finfo(torch.float32).eps
    turn, blur = 2 * eps * width, 16 * eps * size
    return blur + 4 * turn * size, turn, blur


def only(near: np.ndarray) -> np.ndarray:
    """(K, ...) bool -> (...) uint8, the class where there is but one, else OPEN."""
    near = near.view(np.uint8)
    names = np.arange(len(near), dtype=np.uint8).reshape(-1, *[1] * (near.ndim - 1))
    found = np.add.reduce(near * names, 0, dtype=np.uint8)
    found[np.add.reduce(near, 0, dtype=np.uint8) != 1] = OPEN
    return found


def decide(grid: Points, rows: Axis, columns: Axis) -> Tensor:
    """(H, W) uint8, the class of each pixel, OPEN where rounding decides. Without numba neither axis may skip cells."""
    height, width = len(rows.low), len(columns.low)
    if rows.exact() and columns.exact():
        return torch.from_numpy(grid.leader[:height, :width].copy())
    out, fast = np.empty((height, width), dtype=np.uint8), compiled.loops()
    if fast is not None:
        lines, places = ((axis.low.numpy(), axis.high.numpy(), axis.share.numpy()) for axis in (rows, columns))
        fast.fill(grid.logits.numpy(), grid.alone, lines, places, (grid.slack, grid.turn, grid.blur), out)
        return torch.from_numpy(out)
    across, low = strips(columns), columns.low.numpy()
    band = max(1, PIXELS // width)
    for top in range(0, height, band):
        part, lines = out[top : top + band], rows[top : top + band]
        down = strips(lines)
        alone = grid.alone[down.first : down.first + len(down.place)]
        np.take(alone.take(low, 1), lines.low.numpy() - down.first, 0, part, "clip")
        settle(grid, down, across, part)
    return torch.from_numpy(out)


def strips(axis: Axis) -> Strips:
    low = axis.low.numpy()
    counts = np.bincount(low - low[0])
    starts = counts.cumsum() - counts
    place = starts[:, None] + np.minimum(np.arange(counts.max()), counts[:, None] - 1)
    return Strips(int(low[0]), place, axis.share.numpy()[place])


def settle(grid: Points, down: Strips, across: Strips, out: np.ndarray) -> None:
    """Writes the pixels of cells that no class has alone into `out`, (H, W)."""
    (height, width), values = grid.leader.shape, grid.logits.flatten(1).numpy()
    cells = grid.alone[down.first : down.first + len(down.place), across.first : across.first + len(across.place)]
    row, column = np.divmod(np.flatnonzero(cells == OPEN), cells.shape[1])
    if not len(row):
        return
    upper, left = row + down.first, column + across.first
    lower, right = np.minimum(upper + 1, height - 1), np.minimum(left + 1, width - 1)
    corners = np.stack([values.take(y * width + x, 1) for y in (upper, lower) for x in (left, right)])  # (4, K, n)
    could = corners.max(0) >= corners.min(0).max(0) - grid.slack  # (K, n): somewhere in the cell it may be the class
    pixels = down.place[row][:, :, None] * out.shape[1] + across.place[column][:, None]  # (n, py, px)
    shares = down.share[row][:, :, None], across.share[column][:, None]
    wanting = np.add.reduce(could, 0, dtype=np.uint8)
    one, other = could.argmax(0), len(could) - 1 - could[::-1].argmax(0)
    each = np.arange(len(row))
    leads = corners[:, one, each] - corners[:, other, each]  # (4, n)
    lead = blended(leads, *shares)
    second = other.astype(np.uint8)[:, None, None]
    found = np.where(lead > 0, one.astype(np.uint8)[:, None, None], second)
    # within a cell its own steps count; a place at its edge may be rounded into the next one, of unknown steps
    steps = grid.blur + grid.turn * np.abs(leads[1::2] - leads[::2]).max(0)[:, None, None]
    edge = np.abs(shares[1] - 0.5) > 0.5 - 2 * grid.turn
    unclear = np.abs(lead) <= np.where(edge, grid.slack, steps)
    unclear[one == other] = False
    found[unclear] = OPEN
    rest = np.flatnonzero(wanting > 2)
    step = max(1, TOGETHER // (len(could) * found[0].size))
    for start in range(0, len(rest), step):
        group = rest[start : start + step]
        found[group] = largest_of(grid, corners[:, :, group], could[:, group], *(share[group] for share in shares))
    out.reshape(-1)[pixels] = found


def may_lead(grid: Points, rows: Axis, columns: Axis) -> np.ndarray:
    """Of n pixels, whose rows and columns are given -> (K, n) bool, whether the class may be the largest there. Wide
    enough for a place at a cell's edge that is rounded into the next one: there a class is as near as at the edge."""
    values, (ys, xs) = grid.logits.numpy(), ((axis.low.numpy(), axis.high.numpy()) for axis in (rows, columns))
    corners = np.stack([values[:, y, x] for y in ys for x in xs])  # (4, K, n)
    return corners.max(0) >= corners.min(0).max(0) - grid.slack


def largest_of(grid: Points, corners: np.ndarray, could: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(4, K, n) and (K, n), the classes that cells may hold -> (n, py, px) uint8."""
    most = int(np.add.reduce(could, 0, dtype=np.uint8).max())
    names = np.argsort(~could, 0, kind="stable")[:most]  # (most, n); beside what may be, whatever comes next
    values = blended(np.take_along_axis(corners, names[None], 1), down, right)  # (most, n, py, px)
    place = only(values >= values.max(0) - np.float32(grid.slack))
    named = np.concatenate([names.astype(np.uint8), np.full((1, len(down)), OPEN, dtype=np.uint8)])
    return named[np.minimum(place, most), np.arange(len(down))[:, None, None]]


def blended(corners: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(4, ..., n) at upper left, upper right, lower left, lower right; (n, py, 1), (n, 1, px) -> (..., n, py, px)."""
    upper_left, upper_right, lower_left, lower_right = corners[..., None, None]
    upper = upper_left + (upper_right - upper_left) * right
    lower = lower_left + (lower_right - lower_left) * right
    return upper + (lower - upper) * down
