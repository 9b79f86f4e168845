"""From a backbone's maps to feature maps of one width at rising strides."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelMaxPool,
    LastLevelP6P7,
)

from visiontl import Backbone, BackboneError
from visiontl.kit.pyramids import SimplePyramid

LEVELS = 5
PATCH = 16  # the stride of a plain ViT's map that the factors of its pyramid are meant for
DEEPEST = 32  # the stride at which the backbone's own levels end; deeper ones are made


def levels_of(backbone: Backbone, finest: int) -> list[int]:
    """Pyramid levels from stride `finest` on, one per stride (the deepest); empty where it has one stride only."""
    by_stride = {stride: level for level, stride in enumerate(backbone.strides)}
    if len(by_stride) == 1:
        return []
    return [level for stride, level in sorted(by_stride.items()) if finest <= stride <= DEEPEST]


class Pyramid(nn.Module):
    """Backbone and neck as torchvision's detectors want them: image -> OrderedDict of (B, out_channels, h_i, w_i).

    A feature pyramid network (Lin et al. 2017) on the levels from stride `finest` to 32. On a backbone with one
    stride only (a plain ViT) a simple feature pyramid of its last map (Li et al. 2022, ViTDet, section 3). Both end
    with `extra` levels: max-pooled for two-stage heads, convolved (P6, P7) for one-stage heads. 5 levels in all.
    """

    def __init__(self, backbone: Backbone, width: int, finest: int):
        super().__init__()
        self.backbone = backbone
        self.out_channels = width
        self.levels = levels_of(backbone, finest)
        plain = not self.levels
        factors: list[float] = []
        if plain:
            self.levels = [len(backbone.channels) - 1]
            factors = [factor for factor in (4, 2, 1, 0.5) if PATCH / factor >= finest]
            own = [round(backbone.strides[-1] / factor) for factor in factors]
        else:
            own = [backbone.strides[level] for level in self.levels]
        missing = LEVELS - len(own)
        if missing > 3:
            raise BackboneError(
                f"{backbone.name}: a detector needs pyramid levels of strides {finest} to {DEEPEST}; it has "
                f"{', '.join(map(str, backbone.strides))}; choose a backbone with more levels"
            )
        extra = [LastLevelMaxPool() for _ in range(missing)] if finest < 8 else convolved(width, missing)
        block = Several(extra)
        self.strides = [*own, *(own[-1] * 2 ** (i + 1) for i in range(missing))]
        self.neck: nn.Module
        self.extra = block if plain else None  # else it is a part of the neck
        if plain:
            self.neck = SimplePyramid(backbone.channels[-1], width, factors)
        else:
            self.neck = FeaturePyramidNetwork([backbone.channels[level] for level in self.levels], width, block)

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.backbone(image, maps=self.levels).maps
        if self.extra is None:
            return self.neck(OrderedDict((str(i), one) for i, one in enumerate(maps)))
        made = self.neck(maps[-1])
        made, names = self.extra(made, list(maps), [str(i) for i in range(len(made))])
        return OrderedDict(zip(names, made, strict=True))


def convolved(width: int, missing: int) -> list[ExtraFPNBlock]:
    return [LastLevelP6P7(width, width)] if missing == 2 else [Downsampled(width) for _ in range(missing)]


class Several(ExtraFPNBlock):
    """One extra block after the other."""

    def __init__(self, blocks: Sequence[ExtraFPNBlock]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        for block in self.blocks:
            results, names = block(results, x, names)
        return results, [str(i) for i in range(len(results))]


class Downsampled(ExtraFPNBlock):
    """One more level by a convolution of stride 2."""

    def __init__(self, width: int):
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, 2, 1)
        nn.init.kaiming_uniform_(self.convolution.weight, a=1)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        return [*results, self.convolution(results[-1])], [*names, "more"]
