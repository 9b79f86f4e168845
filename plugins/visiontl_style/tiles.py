"""Very large pictures in tiles that overlap by more than a network sees, so that no seam can show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from visiontl.kit.finite import require_finite

FLOATS = 1 << 20  # pixels that are in floating point at one time


@dataclass(frozen=True)
class Span:
    """Along one side, in pixels: read from `start` to `stop`, keep `first` to `last` of the picture."""

    start: int
    stop: int
    first: int
    last: int


def spans(length: int, tile: int, margin: int, multiple: int) -> Iterator[Span]:
    """Spans of at most `tile` pixels plus margins that keep every pixel once. All begin at a multiple, so that a
    strided network meets the same grid in each."""
    step = max(multiple, tile // multiple * multiple)
    margin = -(-margin // multiple) * multiple
    for first in range(0, length, step):
        last = min(first + step, length)
        yield Span(max(0, first - margin), min(length, last + margin), first, last)


def in_tiles(
    paint: Callable[[Tensor], Tensor], photo: Tensor, tile: int, margin: int, multiple: int, device: torch.device
) -> Tensor:
    """photo: (3, H, W) uint8 -> the same, painted tile by tile. paint: (1, 3, h, w) 0..1 -> the same.

    Only one tile is held in floating point.
    """
    result = torch.empty_like(photo)
    for down in spans(photo.shape[1], tile, margin, multiple):
        for across in spans(photo.shape[2], tile, margin, multiple):
            window = photo[:, down.start : down.stop, across.start : across.stop].to(device)
            made = paint(window[None].float() / 255)[0]
            made = made[
                :,
                down.first - down.start : down.last - down.start,
                across.first - across.start : across.last - across.start,
            ]
            result[:, down.first : down.last, across.first : across.last] = to_bytes(made)
    return result


def reduced(photo: Tensor, most: int) -> Tensor:
    """(3, H, W) uint8 -> (1, 3, h, w) 0..1 of at most most x most pixels, the same shape."""
    height, width = photo.shape[1:]
    scale = min(1.0, most / (height * width) ** 0.5)
    size = [max(16, round(side * scale)) for side in (height, width)]
    if size == [height, width]:
        return photo[None].float() / 255
    return F.interpolate(narrowed(photo, size[1]), size=size, mode="bilinear", antialias=True)


def resized(photo: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """(C, H, W) uint8 -> (C, h, w) uint8, antialiased, a share of the columns at a time in floating point."""
    if min(size[1], photo.shape[1]) < 2:
        return to_bytes(F.interpolate(photo[None].float() / 255, size=tuple(size), mode=mode, antialias=True)[0])
    narrow = narrowed(photo, size[1], mode)
    made = torch.empty(photo.shape[0], *size, dtype=torch.uint8)
    for left, right in parts(size[1], max(photo.shape[1], size[0])):
        part = F.interpolate(narrow[..., left:right], size=(size[0], right - left), mode=mode, antialias=True)
        made[..., left:right] = to_bytes(part[0])
    return made


def parts(length: int, other: int) -> Iterator[tuple[int, int]]:
    """(first, behind the last) of lines of `other` pixels, of which FLOATS are held: two lines or more, since torch
    resizes a single one otherwise."""
    step = max(2, FLOATS // other)
    for first in range(0, length, step):
        yield min(first, max(0, length - 2)), min(first + step, length)


def narrowed(photo: Tensor, width: int, mode: str = "bilinear") -> Tensor:
    """(C, H, W) uint8 -> (1, C, H, w) 0..1, antialiased along the rows: what torch does first of both sides."""
    count, height, across = photo.shape
    made = torch.empty(1, count, height, width)
    for top, bottom in parts(height, max(across, width)):
        part = photo[None, :, top:bottom].float() / 255
        made[:, :, top:bottom] = F.interpolate(part, size=(bottom - top, width), mode=mode, antialias=True)
    return made


def to_bytes(image: Tensor) -> Tensor:
    """0..1 -> uint8 on the CPU. Raises CheckpointError for what is not finite."""
    return (require_finite(image).clamp(0, 1) * 255).round().to("cpu", torch.uint8)
