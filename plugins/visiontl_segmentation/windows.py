"""A large image in overlapping windows, blended; a band of rows at a time, so that memory does not grow with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from visiontl import ImageSpec

TOGETHER = 4  # windows in a forward pass


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin, evenly spaced, so that neighbors share `overlap` of their side or more and the last one
    ends at `length`; one at 0 where the image is no longer than a window."""
    if length <= window:
        return [0]
    step = max(1, round(window * (1 - overlap)))
    count = -(-(length - window) // step) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def taper(window: int, overlap: float) -> Tensor:
    """(window,) weights: 1 in the middle, falling linearly to both ends over the shared part, never 0."""
    ramp = max(1, round(window * overlap))
    away = torch.arange(window, dtype=torch.float32) + 1  # pixels from the outside
    rise = (away / (ramp + 1)).clamp(max=1)
    return torch.minimum(rise, rise.flip(0))


def bands(model: Any, image: Tensor, spec: ImageSpec, overlap: float) -> Iterator[tuple[int, Tensor]]:
    """image: (3, H, W) uint8 -> (top, class probabilities (K, rows, W) float32) from the first row to the last.

    Held at once: a window's height of rows, in K classes. Where windows overlap their probabilities are averaged by
    `taper`.
    """
    height, width = image.shape[1:]
    window = min(spec.size[0], height), min(spec.size[1], width)
    if spec.sizing == "fixed":
        window = spec.size
    weight = taper(window[0], overlap)[:, None] * taper(window[1], overlap)[None]  # (h, w)
    weight = weight.to(image.device)
    tops, lefts = starts(height, window[0], overlap), starts(width, window[1], overlap)
    held = total = torch.zeros(0)
    for place, top in enumerate(tops):
        rows = min(window[0], height - top)
        for first in range(0, len(lefts), TOGETHER):
            group = lefts[first : first + TOGETHER]
            parts = torch.stack([image[:, top : top + window[0], left : left + window[1]] for left in group])
            found = model.at_pixels(parts).float().softmax(1)  # (B, K, h, w)
            if not held.numel():
                held, total = found.new_zeros(found.shape[1], rows, width), found.new_zeros(rows, width)
            for one, left in zip(found, group, strict=True):
                part = weight[: one.shape[1], : one.shape[2]]
                held[:, : one.shape[1], left : left + one.shape[2]] += one * part
                total[: one.shape[1], left : left + one.shape[2]] += part
        done = (tops[place + 1] if place + 1 < len(tops) else height) - top
        yield top, held[:, :done] / total[:done]
        kept = rows - done
        fresh_held, fresh_total = torch.zeros_like(held), torch.zeros_like(total)
        fresh_held[:, :kept], fresh_total[:kept] = held[:, done:], total[done:]
        held, total = fresh_held, fresh_total


def blended(model: Any, image: Tensor, spec: ImageSpec, overlap: float) -> Tensor:
    """(3, H, W) uint8 -> (K, H, W): logarithms of the blended probabilities."""
    return torch.cat([band for _, band in bands(model, image, spec, overlap)], 1).clamp(min=1e-12).log()
