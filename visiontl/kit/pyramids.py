"""Feature pyramids on backbones whose maps all have one stride."""

from __future__ import annotations

import math
from collections.abc import Sequence

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn


class SimplePyramid(nn.Module):
    """(B, C, h, w) -> one (B, width, h * factor, w * factor) for each factor, a power of two, all from this one map.

    The simple feature pyramid of ViTDet (Li et al. 2022, "Exploring plain vision transformer backbones for object
    detection", section 3), as its authors' code has it for the factors 4, 2, 1 and 1/2: transposed convolutions of
    stride 2, each of which halves the channels, with layer norm and GELU between two of them; max pooling; then a 1x1
    and a 3x3 convolution, each with layer norm. Pooling leaves out an odd last row. Raises ValueError for a factor that
    is no power of two, or that leaves no channel.
    """

    def __init__(self, channels: int, width: int, factors: Sequence[float]):
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, width, factor) for factor in factors)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]


def _branch(channels: int, width: int, factor: float) -> nn.Sequential:
    doublings = round(math.log2(factor)) if factor > 0 else 0
    if 2.0**doublings != factor or channels >> max(0, doublings) == 0:
        raise ValueError(f"a factor of {factor:g} on {channels} channels; expected a power of two that leaves channels")
    layers: list[nn.Module] = []
    for i in range(doublings):
        layers += [LayerNorm2d(channels), nn.GELU()] if i else []
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, 2))
        channels //= 2
    layers += [nn.MaxPool2d(2, 2) for _ in range(-doublings)]
    layers += [nn.Conv2d(channels, width, 1, bias=False), LayerNorm2d(width)]
    layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), LayerNorm2d(width)]
    return nn.Sequential(*layers)
