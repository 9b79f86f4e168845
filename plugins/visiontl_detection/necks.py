"""From a backbone's maps to feature maps of one width at rising strides."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
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
PROBE = (64, 64)  # pixels of the image that shows what modules of a backbone give
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

    design: v2: with norms before two-stage heads, P6 from the backbone's last map before one-stage heads. modules: of
    the backbone, in place of its levels.
    """

    def __init__(
        self, backbone: Backbone, width: int, finest: int, design: str = "v1", modules: Sequence[str] | None = None
    ):
        super().__init__()
        self.backbone = backbone
        self.out_channels = width
        self.modules_read = tuple(modules or ())
        if self.modules_read:
            self.levels: list[int] = []
            self.extra = None
            found = shapes_of(backbone, self.modules_read)
            own = [stride for _, stride in found]
            block = Several(ends(width, 1 if finest < 8 else 2, finest, found[-1][0] if design == "v2" else width))
            self.strides = [*own, *(own[-1] * 2 ** (i + 1) for i in range(1 if finest < 8 else 2))]
            self.neck: nn.Module = FeaturePyramidNetwork(
                [channels for channels, _ in found], width, block, normed(finest, design)
            )
            return
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
        source = backbone.channels[self.levels[-1]] if design == "v2" and not plain else width
        block = Several(ends(width, missing, finest, source))
        self.strides = [*own, *(own[-1] * 2 ** (i + 1) for i in range(missing))]
        self.extra = block if plain else None  # else it is a part of the neck
        if plain:
            self.neck = SimplePyramid(backbone.channels[-1], width, factors)
        else:
            channels = [backbone.channels[level] for level in self.levels]
            self.neck = FeaturePyramidNetwork(channels, width, block, normed(finest, design))

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        if self.modules_read:
            layers = self.backbone(image, layers=self.modules_read).layers
            return self.neck(OrderedDict((str(i), layers[name]) for i, name in enumerate(self.modules_read)))
        maps = self.backbone(image, maps=self.levels).maps
        if self.extra is None:
            return self.neck(OrderedDict((str(i), one) for i, one in enumerate(maps)))
        made = self.neck(maps[-1])
        made, names = self.extra(made, list(maps), [str(i) for i in range(len(made))])
        return OrderedDict(zip(names, made, strict=True))


def ends(width: int, missing: int, finest: int, source: int) -> list[ExtraFPNBlock]:
    """What makes the coarsest levels. source: channels of the map that P6 is made of; the pyramid's own width: of its
    own last level."""
    if finest < 8:
        return [LastLevelMaxPool() for _ in range(missing)]
    return [LastLevelP6P7(source, width)] if missing == 2 else [Downsampled(width) for _ in range(missing)]


def normed(finest: int, design: str) -> Callable[..., nn.Module] | None:
    """The norm behind each convolution of a pyramid before a two-stage head of design v2."""
    return nn.BatchNorm2d if design == "v2" and finest < 8 else None


def shapes_of(backbone: Backbone, modules: Sequence[str]) -> list[tuple[int, int]]:
    """(channels, stride) of the maps that modules of a backbone give. Raises BackboneError for what gives none."""
    training, device = backbone.training, backbone.mean.device
    with torch.no_grad():
        found = backbone.eval()(torch.zeros(1, 3, *PROBE, device=device), layers=tuple(modules)).layers
    backbone.train(training)
    if odd := [name for name in modules if found[name].dim() != 4]:
        raise BackboneError(f"task.pyramid: {odd[0]} of {backbone.name} gives no map (B, C, h, w)")
    return [(found[name].shape[1], round(PROBE[0] / found[name].shape[2])) for name in modules]


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
