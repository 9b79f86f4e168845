"""From the logits of a coarse grid to a class for each pixel of the photo, a band of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from visiontl_segmentation import compiled
from visiontl_segmentation.cells import Axis, Points, decide, may_lead, points
from visiontl_segmentation.compiled import OPEN

COUNTED = 1 << 20  # pixels that are counted at once
FEW = 4  # classes that may lead at a pixel, where several do
BAND = 1 << 17  # logits that are held at full size at once: they stay in a core's cache

Size = tuple[int, ...]  # (height, width)


def decided(logits: Tensor, extent: Size, shown: Size, size: Size, known: Points | None = None) -> Tensor:
    """logits (K, h, w) of an image of `extent` pixels, padding included, of which `shown`, at the upper left, is the
    photo -> (H, W) uint8 class of each pixel of the photo at `size`, as if all logits were resized bilinearly
    (pixel centers at halves, align_corners=False), with no more than a band of them in memory. known: `points` of the
    logits, for who asks more than once; on a CPU they spare most of the resizing, and change nothing."""
    rows, columns, span = places(logits, extent, shown, size)
    known = points(logits) if known is None else known
    if known is None or known.crowded or (compiled.loops() is None and (rows.skips or columns.skips)):
        out = torch.empty(size, dtype=torch.uint8, device=logits.device)
        for top, band in bands_of(logits, extent, shown, size):
            out[top : top + band.shape[1]] = largest(band)
        return out
    out = decide(known, rows, columns)
    unsettled = torch.from_numpy(np.flatnonzero(out.numpy() == OPEN))
    if not len(unsettled):
        return out
    row, column = unsettled // size[1], unsettled % size[1]
    lines = row.unique_consecutive()
    if len(row) * FEW <= len(lines) * len(logits):  # some pixels here and there: a row of a few classes for each
        out[row, column] = settled(known, rows, columns, (row, column), span)
        return out
    every = torch.arange(len(logits))[:, None]
    for some in lines.split(height_of_band(logits, size)):
        out[some] = largest(at_rows(known.logits, every, rows[some], columns, span))
    return out


def settled(known: Points, rows: Axis, columns: Axis, at: tuple[Tensor, Tensor], span: float) -> Tensor:
    """(n,) uint8: the classes of pixels as resizing all of their rows would find them, which resizing only the classes
    that may lead there finds too. at: row and column of each, (n,)."""
    if rows.exact() and columns.exact():  # pixels are points
        return largest(known.logits[:, at[0], at[1], None])[:, 0]
    rows, column = rows[at[0]], at[1]
    could = may_lead(known, rows, columns[column])  # (K, n)
    found = torch.empty(len(column), dtype=torch.uint8)
    order = torch.from_numpy(could.sum(0).argsort())  # those with few classes together
    for some in order.split(height_of_band(known.logits[:FEW], columns.low.shape)):
        mine = could[:, some.numpy()]
        most = int(mine.sum(0).max())
        names = torch.from_numpy((~mine).argsort(0, kind="stable")[:most])  # (most, n), those that may lead first
        values = at_rows(known.logits, names, rows[some], columns, span)[:, torch.arange(len(some)), column[some]]
        found[some] = names.gather(0, values.max(0).indices[None])[0].to(torch.uint8)
    return found


def resampled(logits: Tensor, extent: Size, shown: Size, size: Size) -> Tensor:
    """The same before the decision: (K, H, W)."""
    return torch.cat([band for _, band in bands_of(logits, extent, shown, size)], 1)


def bands_of(logits: Tensor, extent: Size, shown: Size, size: Size) -> Iterator[tuple[int, Tensor]]:
    """(first row, (K, rows, W)) from top to bottom. Rows of cells are widened first: there are few of them."""
    rows, columns, span = places(logits, extent, shown, size)
    cells = logits[:, :, : min(logits.shape[2], math.ceil(span) + 1)]
    band = height_of_band(logits, size)
    for top in range(0, size[0], band):
        part = rows[top : top + band]
        first, last = int(part.low[0]), int(part.high[-1])
        wide = across(cells[:, first : last + 1], columns, size[1], span)  # (K, n, W)
        if part.exact(top) and last + 1 - first == len(part.low):  # rows are cells
            yield top, wide
            continue
        upper, lower = wide.index_select(1, part.low - first), wide.index_select(1, part.high - first)
        yield top, torch.lerp(upper, lower, part.share[:, None])


def places(logits: Tensor, extent: Size, shown: Size, size: Size) -> tuple[Axis, Axis, float]:
    """Where rows and columns of the photo lie among the cells, and how many cells it covers across."""
    height, width = logits.shape[1:]
    span = shown[1] / extent[1] * width
    rows = centers(size[0], shown[0] / extent[0] * height, height, logits.device)
    return rows, centers(size[1], span, width, logits.device), span


def at_rows(logits: Tensor, classes: Tensor, rows: Axis, columns: Axis, span: float) -> Tensor:
    """(c, n, W): what `bands_of` gives for these n rows, to the last bit. classes: (c, n) or (c, 1), of each row."""
    cells = logits[:, :, : min(logits.shape[2], math.ceil(span) + 1)]
    upper, lower = (across(cells[classes, ends], columns, len(columns.low), span) for ends in (rows.low, rows.high))
    return torch.lerp(upper, lower, rows.share[:, None])


def height_of_band(logits: Tensor, size: Size) -> int:
    return max(1, BAND // (len(logits) * size[-1]))


def centers(count: int, span: float, cells: int, device: torch.device) -> Axis:
    """For each of `count` pixels over the first `span` of `cells` cells."""
    place = ((torch.arange(count, device=device) + 0.5) * (span / count) - 0.5).clamp(0, cells - 1)  # (count,)
    low = place.floor().long()
    return Axis(low, (low + 1).clamp(max=cells - 1), (place - low).float())


def across(lines: Tensor, columns: Axis, count: int, span: float) -> Tensor:
    """(K, rows, w) -> (K, rows, count), bilinear along the rows."""
    if lines.shape[2] == count and span == count:
        return lines
    wide = functional.interpolate(
        lines[None], scale_factor=(1.0, count / span), mode="bilinear", align_corners=False
    )  # the scale, not the sizes, says where pixels lie: padding to the right may be no whole number of cells
    if wide.shape[3] >= count and wide.shape[3] != lines.shape[2]:  # sizes that agree are taken as no resizing at all
        return wide[0, :, :, :count]
    return torch.lerp(lines[:, :, columns.low], lines[:, :, columns.high], columns.share)


def counted(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (256,) pixels of each value; a megapixel at a time, as NumPy counts in eight bytes a pixel."""
    flat, total = mask.ravel(), np.zeros(256, dtype=np.int64)
    for start in range(0, flat.size, COUNTED):
        total += np.bincount(flat[start : start + COUNTED], minlength=256)
    return total


def largest(scores: Tensor) -> Tensor:
    """(K, h, w) -> (h, w) uint8, the first of the largest. On a CPU `max` is several times faster than `argmax`."""
    return scores.max(0).indices.to(torch.uint8)
