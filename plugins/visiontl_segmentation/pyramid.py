"""From a backbone's maps to the list of maps, one per halving of the resolution, that the decoders read."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from visiontl import Backbone, BackboneError

DEEPEST = 32  # the stride at which pyramids end

Size = tuple[int, int]


@dataclass(frozen=True)
class Level:
    """One map of the pyramid. stride: power of two. source: level of the backbone, None for an empty map."""

    stride: int
    source: int | None
    channels: int


def is_plain(backbone: Backbone) -> bool:
    """Whether all maps have one stride, as a plain ViT's."""
    return len(set(backbone.strides)) == 1


def nearest_power(stride: int) -> int:
    return 2 ** round(math.log2(stride))


def levels_of(backbone: Backbone) -> list[Level]:
    """Levels of strides 2, 4, ... to the deepest, at most 32; those that the backbone lacks are empty.

    Of several maps of a stride the deepest is taken. Odd strides count as the nearest power of two.
    """
    by_stride: dict[int, int] = {}
    for place, stride in enumerate(backbone.strides):
        by_stride[nearest_power(stride)] = place
    deepest = max((stride for stride in by_stride if 2 <= stride <= DEEPEST), default=0)
    if not deepest:
        raise BackboneError(
            f"{backbone.name}: its maps have strides {', '.join(map(str, backbone.strides))}; segmentation needs some "
            f"from 2 to {DEEPEST}"
        )
    strides = [2**i for i in range(1, round(math.log2(deepest)) + 1)]
    sources = [by_stride.get(stride) for stride in strides]
    return [
        Level(stride, source, 0 if source is None else backbone.channels[source])
        for stride, source in zip(strides, sources, strict=True)
    ]


def simple_levels(width: int) -> list[Level]:
    """The pyramid that a plain backbone is given: strides 4 to 32 of one width, nothing at 2."""
    return [Level(2, None, 0), *(Level(stride, None, width) for stride in (4, 8, 16, 32))]


def at_size(x: Tensor, size: Size) -> Tensor:
    """Bilinearly resized where it has another size: nets without padding, or a map that a decoder wants finer."""
    if tuple(x.shape[2:]) == size:
        return x
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def empty(x: Tensor, size: Size, channels: int = 0) -> Tensor:
    """(B, channels, *size) that stands for a map that is not there, or for the image where only its size is read."""
    if channels == 0:
        return x.new_empty((x.shape[0], channels, *size))
    return x.new_zeros(1).expand(x.shape[0], channels, *size)
