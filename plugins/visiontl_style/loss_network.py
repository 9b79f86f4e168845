"""The pretrained backbone as a judge: content and style are read from its layers, and nothing of it learns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Backbone, BackboneError
from visiontl_style.networks import extended, fitted

MAP = re.compile(r"map(\d+)")  # a level of the backbone's pyramid, in place of a module's name
PROBE = 64  # pixels
DEEPEST = 16  # stride up to which `auto` reads style: deeper maps of small pictures have few places

# (content, style) of architectures whose layers were chosen by papers or trials; others go by their strides.
# VGG-16: relu3_3, and relu1_2, 2_2, 3_3, 4_3 (Johnson et al. 2016, section 4.1, in the authors' code).
# SqueezeNet: Fire modules. MobileNetV2: the expansions of blocks, because the blocks' own outputs are linear.
RECIPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "torchvision/vgg16": (("features.15",), ("features.3", "features.8", "features.15", "features.22")),
    "torchvision/squeezenet1_1": (
        ("features.6",),
        ("features.1", "features.4", "features.6", "features.7", "features.10"),
    ),
    "torchvision/mobilenet_v2": (
        ("features.7.conv.0",),
        ("features.2.conv.0", "features.3.conv.0", "features.4.conv.0", "features.7.conv.0", "features.11.conv.0"),
    ),
}


@dataclass(frozen=True)
class Layers:
    """What is read, with weights that sum to 1."""

    content: Mapping[str, float]
    style: Mapping[str, float]
    encoder: str | None = None  # adain only

    @property
    def judged(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.content, *self.style)))

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.judged, *([self.encoder] if self.encoder else []))))


def require_suited(backbone: Backbone) -> None:
    """Raise BackboneError for one whose declared abilities do not serve Gram losses."""
    name = backbone.name
    if backbone.in_channels != 3:
        raise BackboneError(f"backbone.in_channels: {backbone.in_channels}: style is read from RGB pictures, so 3")
    if len(set(backbone.strides)) < 2:
        raise BackboneError(
            f"{name} has maps of one stride only ({backbone.strides[0]}), as a plain ViT; style is read at several "
            "scales: strokes from fine maps, shapes from coarse ones. Choose a convolutional backbone, such as "
            "torchvision/vgg16 or torchvision/squeezenet1_1"
        )
    if backbone.spec.sizing == "fixed":
        height, width = backbone.spec.size
        raise BackboneError(
            f"{name} takes images of {height} x {width} pixels only; photos and style pictures have any size. Choose "
            "a convolutional backbone, such as torchvision/vgg16 or torchvision/squeezenet1_1"
        )


def choose_layers(
    backbone: Backbone,
    content: str | Mapping[str, float] = "auto",
    style: str | Mapping[str, float] = "auto",
    encoder: str | None = None,
) -> Layers:
    """The layers of a config. `auto`: the recipe of the architecture where there is one, else by the strides that the
    backbone declares. Raises BackboneError."""
    require_suited(backbone)
    strides = backbone.strides

    def nearest(stride: int) -> str:
        return f"map{min(range(len(strides)), key=lambda i: (abs(math.log2(strides[i] / stride)), i))}"

    fine = [f"map{i}" for i, stride in enumerate(strides) if stride <= DEEPEST]
    recipe = RECIPES.get(backbone.name, ((nearest(8),), tuple(fine or ["map0"])))
    contents = dict.fromkeys(recipe[0], 1.0) if isinstance(content, str) else dict(content)
    styles = dict.fromkeys(recipe[1], 1.0) if isinstance(style, str) else dict(style)
    return Layers(shared_out(contents), shared_out(styles), nearest(4) if encoder == "auto" else encoder)


def shared_out(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


class LossNetwork(nn.Module):
    """A backbone that is asked for named layers and was cut behind the last one of them."""

    def __init__(self, backbone: Backbone, layers: Layers):
        super().__init__()
        self.backbone = backbone
        self.layers = layers
        with judging(backbone):
            seen, dropped = cut(backbone, layers.all)
        self.dropped = dropped  # parameters
        self.shapes = {
            name: (tensor.shape[1], 2 ** round(math.log2(PROBE / tensor.shape[2]))) for name, tensor in seen.items()
        }
        """layer -> (channels, nominal stride)"""

    def forward(self, image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """image: (B, 3, H, W) 0..1 -> {name: (B, C, h, w)}."""
        return read(self.backbone, image, names)


def read(backbone: Backbone, image: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """One pass, no further than the deepest of the layers."""
    if backbone.spec.sizing == "multiple":
        image = fitted(image, backbone.spec.pad_to)
    levels = {name: int(found[1]) for name in names if (found := MAP.fullmatch(name))}
    modules = [name for name in names if name not in levels]
    given = backbone(image, maps=tuple(levels.values()), layers=tuple(modules))
    found = {**dict(zip(levels, given.maps, strict=True)), **given.layers}
    flat = [name for name in names if found[name].ndim != 4]
    if flat:
        raise BackboneError(
            f"{backbone.name}: layer {flat[0]!r} gives no map (its shape is {tuple(found[flat[0]].shape)}); content "
            "and style are read from maps (B, C, H, W)"
        )
    return {name: found[name] for name in names}


def cut(backbone: Backbone, names: Sequence[str]) -> tuple[dict[str, Tensor], int]:
    """Take out of the backbone what a pass for these layers does not run: classifiers, later stages.

    What is read is measured: a module goes when neither it nor anything inside it is called, and no parameter of it
    reaches the layers. Returns the layers of a probe picture, and the number of parameters that are gone.
    """
    called: set[nn.Module] = set()
    handles = [m.register_forward_pre_hook(lambda module, _: called.add(module) or None) for m in backbone.modules()]
    wanted = [parameter.requires_grad for parameter in backbone.parameters()]
    probe = torch.linspace(0, 1, 3 * PROBE * PROBE).view(1, 3, PROBE, PROBE).to(backbone.mean.device)
    try:
        backbone.requires_grad_(True)
        with torch.enable_grad():
            found = read(backbone, probe, names)
            total = torch.stack([tensor.float().sum() for tensor in found.values()]).sum()
        parameters = list(backbone.parameters())
        reached = torch.autograd.grad(total, parameters, allow_unused=True) if parameters else ()
    finally:
        for handle in handles:
            handle.remove()
        for parameter, requires in zip(backbone.parameters(), wanted, strict=True):
            parameter.requires_grad_(requires)
    read_from = {id(p) for p, gradient in zip(parameters, reached, strict=True) if gradient is not None}
    before = sum(parameter.numel() for parameter in parameters)

    def used(module: nn.Module) -> bool:
        return any(m in called for m in module.modules()) or any(id(p) in read_from for p in module.parameters())

    def prune(parent: nn.Module) -> None:
        for name, child in parent.named_children():
            if used(child):
                prune(child)
            elif any(True for _ in child.parameters()) or any(True for _ in child.buffers()):
                setattr(parent, name, nn.Identity())

    prune(backbone)
    return {name: tensor.detach() for name, tensor in found.items()}, before - sum(
        parameter.numel() for parameter in backbone.parameters()
    )


@contextmanager
def judging(backbone: nn.Module) -> Iterator[None]:
    """Within the block the backbone is in eval mode; then each module is as it was."""
    modes = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        yield
    finally:
        for module in backbone.modules():
            module.training = modes.get(module, module.training)


def shifted(images: Sequence[Tensor], by: tuple[int, int], room: int) -> list[Tensor]:
    """Pictures moved down and right by `by` < room pixels, what comes in mirrored: (B, 3, H, W) of the same size.

    A strided network sees some pixels more than others, and an optimizer finds out; moved about, no pixel is special.
    """
    if room < 2:
        return list(images)
    down, right = by
    height, width = images[0].shape[2:]
    wide = [extended(image, (room, 0, room, 0)) for image in images]
    return [w[:, :, room - down : room - down + height, room - right : room - right + width] for w in wide]


def drawn_shift(room: int, generator: torch.Generator | None = None) -> tuple[int, int]:
    """(down, right), each from 0 to room - 1. Without a generator the engine's own seeding of the step holds."""
    if room < 2:
        return 0, 0
    values: Any = torch.randint(0, room, (2,), generator=generator).tolist()
    return values[0], values[1]
