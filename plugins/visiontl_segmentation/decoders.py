"""segmentation-models-pytorch's decoders on a pyramid of maps; what each needs of it, and why a pair is refused.

The library is imported where a decoder is built: its import takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from visiontl import Backbone, BackboneError
from visiontl.kit.pyramids import SimplePyramid
from visiontl_segmentation.config import DecoderConfig
from visiontl_segmentation.pyramid import (
    DEEPEST,
    Level,
    at_size,
    empty,
    is_plain,
    levels_of,
    nearest_power,
    simple_levels,
)

U_SHAPED = ("unet", "unetplusplus", "manet")
ATROUS = ("deeplabv3", "deeplabv3plus", "pan")  # read the deepest map at stride 16 or finer
# normalize over a branch that is pooled to one pixel per image
POOLED = ("deeplabv3", "deeplabv3plus", "pan", "torchvision_deeplabv3")
WIDTHS = {
    "pspnet": 512,
    "deeplabv3": 256,
    "deeplabv3plus": 256,
    "pan": 32,
    "upernet": 256,
    "segformer": 256,
    "dpt": 256,
}
RATES = {8: (12, 24, 36), 16: (6, 12, 18)}  # Chen et al. 2017, "Rethinking atrous convolution", section 4.2
PSP_STRIDE = 8
DPT_STRIDES = (4, 8, 16, 32)
OTHERS = {"dpt": "dpt on timm/vit_tiny_patch16_224"}  # a pair that works, where timm/resnet18 is none


class Decoder(nn.Module):
    """Image -> decoded map, by the backbone, its pyramid, and one of the library's decoders.

    levels: what the pyramid holds. width: channels of what it gives.
    """

    def __init__(self, cfg: DecoderConfig, backbone: Backbone):
        super().__init__()
        if backbone.in_channels != 3:
            raise BackboneError(f"backbone.in_channels: {backbone.in_channels}: segmentation reads RGB photos, so 3")
        self.name = cfg.name
        self.backbone = backbone
        self.patch = nearest_power(backbone.strides[-1]) if is_plain(backbone) else None
        self.neck: nn.Module | None = None
        if self.patch is not None and cfg.name == "dpt":
            self.levels = plain_blocks(backbone, self.patch)
        elif self.patch is not None:
            self.levels = wanted(cfg.name, simple_levels(cfg.simple_pyramid))
            factors = [self.patch / level.stride for level in self.levels if level.channels]
            self.neck = SimplePyramid(backbone.channels[-1], cfg.simple_pyramid, factors)
        else:
            found = atrous_levels(backbone) if cfg.name in ATROUS else levels_of(backbone)
            refuse(cfg.name, backbone, found)
            self.levels = wanted(cfg.name, found)
        sources = [level.source for level in self.levels if level.source is not None]
        self.asked = sources or [len(backbone.channels) - 1]
        self.project: nn.Module | None = None
        channels = [level.channels for level in self.levels]
        if cfg.name == "pspnet" and channels[-1] % 4:  # its four branches share the channels evenly
            even = -(-channels[-1] // 4) * 4
            self.project = nn.Conv2d(channels[-1], even, 1)
            channels[-1] = even
        self.decoder, self.width = build(cfg, channels, self.levels)

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> (B, width, h, w), and the (H', W') in pixels that it stands for, at least the image's."""
        maps = self.backbone(image, maps=self.asked).maps
        height, width = extent = image.shape[2], image.shape[3]
        if self.patch is not None:  # the grid of patches, as if each were a power of two wide, in multiples of 32
            stride = self.backbone.strides[-1]
            extent = maps[0].shape[2] * stride, maps[0].shape[3] * stride
            height, width = (-(-side * self.patch // DEEPEST) * DEEPEST for side in maps[0].shape[2:])
        if self.neck is not None and self.patch is not None:
            maps = self.neck(at_size(maps[0], (height // self.patch, width // self.patch)))
        found = iter(maps)
        features = [empty(maps[0], (height, width), 1)]
        for level in self.levels:
            stride = level.stride if self.neck is not None or self.patch is None else self.patch
            size = -(-height // stride), -(-width // stride)
            features.append(at_size(next(found), size) if level.channels else empty(maps[0], size))
        if self.project is not None:
            features[-1] = self.project(features[-1])
        if self.name == "dpt":
            return self.decoder(features[1:], [None] * len(self.levels)), extent
        if self.name == "segformer":
            features = [features[0], *(one for one in features[1:] if one.shape[1])]
        return self.decoder(features), extent


def refuse(name: str, backbone: Backbone, levels: Sequence[Level]) -> None:
    """Raises BackboneError for a pair that cannot work, with the nearest that can."""
    there = [level.stride for level in levels if level.channels]
    lacking, few = missing(name, levels)
    if not lacking and not few:
        return
    needs = {
        "fpn": "four levels in a row, the deepest last",
        "pspnet": f"one of stride {PSP_STRIDE} or finer",
        "dpt": f"strides {', '.join(map(str, DPT_STRIDES))}",
        "deeplabv3plus": "one of stride 4 beside its deepest",
    }.get(
        name, "one of each stride from 4 on" if name in ("unetplusplus", "upernet", "pan") else "three levels or more"
    )
    nearest = next(
        (other for other in ("fpn", "upernet", "unet", "segformer", "linknet") if not any(missing(other, levels))), None
    )
    same = f"on this backbone choose task.decoder={nearest}; or " if nearest else ""
    raise BackboneError(
        f"{backbone.name} gives maps of strides {', '.join(map(str, there))}, and {name} needs {needs}; {same}choose "
        f"{OTHERS.get(name, f'{name} on timm/resnet18')}"
    )


def missing(name: str, levels: Sequence[Level]) -> tuple[list[int], bool]:
    """(strides that a decoder needs and the pyramid lacks, whether it has too few levels at all)."""
    if name == "dpt":
        present = [level.stride for level in levels if level.channels]
        return [stride for stride in DPT_STRIDES if stride not in present], False
    if name == "fpn":
        needed = list(levels[-4:])
    elif name == "deeplabv3plus":
        needed = [level for level in levels if level.stride == 4]
    elif name in ("unetplusplus", "upernet", "pan"):
        needed = list(levels[1:])
    else:
        needed = []
    few = len(levels) < {"fpn": 4, "upernet": 3, "pan": 3, "segformer": 3, "deeplabv3plus": 3}.get(name, 1)
    if name == "pspnet":
        few = not any(level.channels and level.stride <= PSP_STRIDE for level in levels)
    return [level.stride for level in needed if not level.channels], few


def atrous_levels(backbone: Backbone) -> list[Level]:
    """As levels_of, but both maps of the stride at which a dilated backbone ends, in place of strides that it lacks:
    2, 4, 8, 16, 16."""
    levels = levels_of(backbone)
    deepest = levels[-1].stride
    same = [place for place, stride in enumerate(backbone.strides) if nearest_power(stride) == deepest]
    twice = same[-(round(5 - len(levels)) + 1) :] if len(levels) < 5 else same[-1:]
    return [*levels[:-1], *(Level(deepest, place, backbone.channels[place]) for place in twice)]


def wanted(name: str, levels: Sequence[Level]) -> list[Level]:
    """What a decoder reads of the levels. The others are empty: they are not asked of the backbone."""
    if name == "dpt":
        return [level for level in levels if level.stride in DPT_STRIDES]
    if name == "pspnet":
        levels = [level for level in levels if level.stride <= PSP_STRIDE]
        while not levels[-1].channels:
            levels = levels[:-1]
    read = {
        "pspnet": levels[-1:],
        "deeplabv3": levels[-1:],
        "deeplabv3plus": [*levels[1:2], *levels[-1:]],
        "fpn": levels[-4:],
        "upernet": levels[1:],
        "pan": levels[1:],
    }.get(name, levels)
    chosen = [level if level in read else Level(level.stride, None, 0) for level in levels]
    if name in ATROUS and chosen[-1].stride > 16:  # resized to the finer grid
        chosen[-1] = Level(16, chosen[-1].source, chosen[-1].channels)
    return chosen


def plain_blocks(backbone: Backbone, patch: int) -> list[Level]:
    """The four blocks that DPT reads, evenly spaced, the last one included (Ranftl et al. 2021, section 3.1: blocks 3,
    6, 9 and 12 of ViT-Base)."""
    count = len(backbone.channels)
    if count < len(DPT_STRIDES):
        raise BackboneError(f"{backbone.name} has {count} blocks, and dpt reads four; choose task.decoder=upernet")
    places = [round(count * (i + 1) / 4) - 1 for i in range(4)]
    return [Level(patch, place, backbone.channels[place]) for place in places]


def build(cfg: DecoderConfig, channels: Sequence[int], levels: Sequence[Level]) -> tuple[nn.Module, int]:
    """The library's decoder for maps of these channels, initialized its way, and the channels of what it gives."""
    from segmentation_models_pytorch.base.initialization import initialize_decoder

    decoder, width = made(cfg, channels, levels)
    initialize_decoder(decoder)
    return decoder, width


def made(cfg: DecoderConfig, channels: Sequence[int], levels: Sequence[Level]) -> tuple[nn.Module, int]:
    from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder, DeepLabV3PlusDecoder
    from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
    from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder
    from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
    from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
    from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder
    from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
    from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
    from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
    from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
    from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

    name, depth, stride = cfg.name, len(levels), levels[-1].stride
    given = [3, *channels]  # the library counts the image as the first level
    width = cfg.width or WIDTHS.get(name, 256)
    dropout = 0.5 if cfg.dropout is None else cfg.dropout  # the library's defaults, here and below
    drop: dict[str, Any] = {} if cfg.dropout is None else {"dropout": cfg.dropout}
    decoder: Any
    if name in U_SHAPED:
        kind: Any = {"unet": UnetDecoder, "unetplusplus": UnetPlusPlusDecoder, "manet": MAnetDecoder}[name]
        widths = [max(16, width >> i) for i in range(depth)]
        decoder, width = kind(given, widths, n_blocks=depth), widths[-1]
    elif name == "linknet":
        decoder, width = LinknetDecoder(given, n_blocks=depth), 32
    elif name == "fpn":
        decoder, width = FPNDecoder(given, depth, width, width // 2, **drop), width // 2
    elif name == "pspnet":
        decoder = PSPDecoder(given, out_channels=width, **drop)
    elif name == "deeplabv3":
        decoder = DeepLabV3Decoder(channels[-1], width, cfg.rates or RATES[min(16, max(8, stride))], False, dropout)
    elif name == "deeplabv3plus":
        os = 16 if stride == 16 else 8
        decoder = DeepLabV3PlusDecoder(given, 5, width, cfg.rates or RATES[os], os, True, dropout)
    elif name == "pan":
        decoder = PANDecoder(given, depth, width)  # type: ignore[arg-type]
    elif name == "upernet":
        decoder = UPerNetDecoder(given, depth, width)
    elif name == "segformer":
        decoder = SegformerDecoder([3, *(one for one in channels if one)], depth, width)
    else:
        middle = [width, width * 2, width * 4, width * 4]  # as the library has it for 256
        decoder = DPTDecoder(channels, [level.stride for level in levels], False, "ignore", middle, width)
    return decoder, width
