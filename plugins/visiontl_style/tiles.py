"""Very large pictures in tiles that overlap by more than a network sees, so that no seam can show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
    image = photo[None].float() / 255
    return image if size == [height, width] else F.interpolate(image, size=size, mode="bilinear", antialias=True)


def to_bytes(image: Tensor) -> Tensor:
    """0..1 -> uint8 on the CPU."""
    return (image.clamp(0, 1) * 255).round().to("cpu", torch.uint8)
