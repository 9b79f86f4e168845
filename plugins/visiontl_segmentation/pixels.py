"""From the logits of a coarse grid to a class for each pixel of the photo, a band of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

COUNTED = 1 << 20  # pixels that are counted at once
BAND = 1 << 17  # logits that are held at full size at once: they stay in a core's cache

Size = tuple[int, ...]  # (height, width)


def decided(logits: Tensor, extent: Size, shown: Size, size: Size) -> Tensor:
    """logits (K, h, w) of an image of `extent` pixels, padding included, of which `shown`, at the upper left, is the
    photo -> (H, W) uint8 class of each pixel of the photo at `size`, as if all logits were resized bilinearly
    (pixel centers at halves, align_corners=False), with no more than a band of them in memory."""
    out = torch.empty(size, dtype=torch.uint8, device=logits.device)
    for top, band in bands_of(logits, extent, shown, size):
        out[top : top + band.shape[1]] = largest(band)
    return out


def resampled(logits: Tensor, extent: Size, shown: Size, size: Size) -> Tensor:
    """The same before the decision: (K, H, W)."""
    return torch.cat([band for _, band in bands_of(logits, extent, shown, size)], 1)


def bands_of(logits: Tensor, extent: Size, shown: Size, size: Size) -> Iterator[tuple[int, Tensor]]:
    """(first row, (K, rows, W)) from top to bottom. Rows of cells are widened first: there are few of them."""
    classes, height, width = logits.shape
    span = shown[1] / extent[1] * width  # cells that the photo covers across
    cells = logits[:, :, : min(width, math.ceil(span) + 1)]
    low, high, share = centers(size[0], shown[0] / extent[0] * height, height, logits.device)
    columns = centers(size[1], span, width, logits.device)
    band = max(1, BAND // (classes * size[1]))
    for top in range(0, size[0], band):
        before, after = low[top : top + band], high[top : top + band]
        first, last = int(before[0]), int(after[-1])
        wide = across(cells[:, first : last + 1], columns, size[1], span)  # (K, n, W)
        if size[0] == height and last + 1 - first == len(before):  # no photo is resized: rows are cells
            yield top, wide
            continue
        part = share[top : top + band, None]
        yield top, torch.lerp(wide.index_select(1, before - first), wide.index_select(1, after - first), part)


def centers(count: int, span: float, cells: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `count` pixels over the first `span` of `cells` cells: the cells before and after its center, and
    the share of the second."""
    place = ((torch.arange(count, device=device) + 0.5) * (span / count) - 0.5).clamp(0, cells - 1)  # (count,)
    low = place.floor().long()
    return low, (low + 1).clamp(max=cells - 1), (place - low).float()


def across(lines: Tensor, columns: tuple[Tensor, Tensor, Tensor], count: int, span: float) -> Tensor:
    """(K, rows, w) -> (K, rows, count), bilinear along the rows."""
    if lines.shape[2] == count and span == count:
        return lines
    wide = functional.interpolate(
        lines[None], scale_factor=(1.0, count / span), mode="bilinear", align_corners=False
    )  # the scale, not the sizes, says where pixels lie: padding to the right may be no whole number of cells
    if wide.shape[3] >= count:
        return wide[0, :, :, :count]
    low, high, share = columns
    return torch.lerp(lines[:, :, low], lines[:, :, high], share)


def counted(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 -> (256,) pixels of each value; a megapixel at a time, as NumPy counts in eight bytes a pixel."""
    flat, total = mask.ravel(), np.zeros(256, dtype=np.int64)
    for start in range(0, flat.size, COUNTED):
        total += np.bincount(flat[start : start + COUNTED], minlength=256)
    return total


def largest(scores: Tensor) -> Tensor:
    """(K, h, w) -> (h, w) uint8, the first of the largest. On a CPU `max` is several times faster than `argmax`."""
    return scores.max(0).indices.to(torch.uint8)
