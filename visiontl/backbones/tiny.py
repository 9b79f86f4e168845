"""visiontl/tiny: a small convolutional backbone for tests and offline first steps, and a model for your own.

It imports torch and nothing else, trains from random weights at 32 to 64 pixels, and has what real ones have:
batch norm, residual blocks with drop path, a norm that only the pooled embedding reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone, Features
from visiontl.errors import BackboneError
from visiontl.kit.layers import capture
from visiontl.kit.stages import partition
from visiontl.spec import ImageSpec

NAME = "visiontl/tiny"
CHANNELS = (8, 16, 24, 32)
STRIDES = (2, 4, 8, 16)
SPEC = ImageSpec(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop=1.0)
DROP_PATH = 0.1  # probability that a residual branch is left out in training; Huang et al. 2016


class DropPath(nn.Module):
    """Leave out the whole branch of an image with probability `rate`, scale the others to keep the mean."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate  # (B, 1, 1, 1)
        return x * keep / (1 - self.rate)


class Stage(nn.Module):
    """Halve the resolution, then one residual block."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.down = convolution(in_channels, out_channels, stride=2)
        self.branch = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 3, padding=1, groups=out_channels, bias=False),
            nn.Conv2d(out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.drop_path = DropPath(DROP_PATH)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)  # (B, C, H/2, W/2)
        return torch.relu(x + self.drop_path(self.branch(x)))


def convolution(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class TinyBackbone(Backbone):
    """15 thousand parameters. Maps at strides 2, 4, 8, 16; pooled is the normalized mean of the last map."""

    def __init__(self, spec: ImageSpec = SPEC, in_channels: int = 3):
        super().__init__(NAME, spec, in_channels)
        self.channels, self.strides, self.embed_dim = CHANNELS, STRIDES, CHANNELS[-1]
        self.body = nn.ModuleDict(
            {
                "stem": convolution(in_channels, CHANNELS[0], stride=2),
                "stage1": Stage(CHANNELS[0], CHANNELS[1]),
                "stage2": Stage(CHANNELS[1], CHANNELS[2]),
                "stage3": Stage(CHANNELS[2], CHANNELS[3]),
                "norm": nn.LayerNorm(CHANNELS[3]),
            }
        )
        parts = partition(self.body, self._views)
        self.stages, self.stage_of = parts.stages, parts.stage_of

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        with capture(self.body, layers, self.name) as found:
            deepest = max(maps, default=0)
            if pooled or any(not layer.startswith("stem") for layer in layers):
                deepest = len(CHANNELS) - 1
            by_level = levels(self.body, x, deepest)
            embedding = pool(self.body, by_level[-1]) if pooled or "norm" in layers else None
        return Features([by_level[i] for i in maps], embedding if pooled else None, found.outputs())

    def _views(self, body: Any):
        x = torch.zeros(2, self.in_channels, 32, 32, device=next(body.parameters()).device)
        maps = levels(body, x, len(CHANNELS) - 1)
        return maps, pool(body, maps[-1])


def levels(body: Any, x: Tensor, deepest: int) -> list[Tensor]:
    """Maps of the pyramid levels 0 to `deepest`: (B, C_i, H/s_i, W/s_i), odd sizes rounded up."""
    found = []
    for name in ("stem", "stage1", "stage2", "stage3")[: deepest + 1]:
        x = body[name](x)
        found.append(x)
    return found


def pool(body: Any, last: Tensor) -> Tensor:
    return body["norm"](last.mean((2, 3)))  # (B, C, h, w) -> (B, C)


def build(
    spec: ImageSpec | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> Backbone:
    """visiontl/tiny with random weights; takes any image size. A given spec wins over its own."""
    if output_stride not in (None, STRIDES[-1]):
        raise BackboneError(
            f"{NAME} has no choice of output stride (its deepest map is at {STRIDES[-1]}); "
            "leave backbone.output_stride out"
        )
    chosen = spec or SPEC
    if image_size is not None:
        chosen = replace(chosen, size=(image_size[0], image_size[1]))
    return TinyBackbone(chosen, in_channels)
