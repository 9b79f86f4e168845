"""The contract of a backbone: an ordered list of stages with the input specification of its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.errors import BackboneError

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB, 0..1; Krizhevsky's ImageNet statistics as torchvision states them
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageSpec:
    """How the weights want their images. Travels with them; only the backbone applies mean and std.

    size: (H, W) in pixels that this run uses.
    mean, std: per channel, after pixels 0..1 were stretched to `value_range`.
    interpolation: "bilinear" | "bicubic" | "nearest" | "lanczos".
    crop: share of the resized image's side that the centre crop keeps (0..1].
    pad_to: H and W must be multiples of this many pixels (1: any).
    sizing: "any" size works, a "multiple" of pad_to, or only the "fixed" size.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop: float = 0.875
    value_range: tuple[float, float] = (0.0, 1.0)
    pad_to: int = 1
    sizing: str = "any"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageSpec:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class Features:
    """What one pass of a backbone gives: only what was asked for is filled.

    maps: [(B, C_i, H/s_i, W/s_i)] for the pyramid levels asked for, in the order asked.
    pooled: (B, embed_dim) or None.
    layers: {module name: its output}.
    """

    maps: list[Tensor] = field(default_factory=list)
    pooled: Tensor | None = None
    layers: dict[str, Tensor] = field(default_factory=dict)


class Backbone(nn.Module):
    """A body that yields pyramid maps, a pooled embedding and named layers in one pass.

    A subclass overrides `extract` and, where the architecture has one, `classifier`.

    spec: the ImageSpec of the weights it holds.
    stages: ordered names, stem first; `final` last: what only the pooled embedding reads (may be empty).
    stage_of: name of each parameter, buffer and module, relative to the backbone -> its stage. A container
        that spans several stages, and the normalisation buffers `mean` and `std`, are not in it.
    channels, strides: per pyramid level. Strides are nominal; a map's own shape is the truth.
    embed_dim: width of the pooled embedding.
    """

    name: str
    spec: ImageSpec
    stages: tuple[str, ...]
    stage_of: Mapping[str, str]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    embed_dim: int
    channels_last: bool = False  # set by the engine; the input is then laid out to match the weights

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, spec: ImageSpec, in_channels: int = 3):
        super().__init__()
        self.name = name
        self.in_channels = in_channels
        self._replayed: Features | None = None
        self.calls: list[Any] | None = None  # the probe sets a list here and reads what forward was given
        self.register_buffer("mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("std", torch.ones(1, in_channels, 1, 1))
        self.set_spec(spec)

    def set_spec(self, spec: ImageSpec) -> None:
        """Take over a specification (of loaded weights, or saved with a run), mean and std included."""
        self.spec = spec
        for name in ("mean", "std"):
            values = torch.tensor(getattr(spec, name), dtype=torch.float32)
            if len(values) != self.in_channels:  # timm repeats RGB for other channel counts; so do its statistics
                values = values.repeat(-(-self.in_channels // len(values)))[: self.in_channels]
            getattr(self, name).copy_(values.view(1, -1, 1, 1))

    def normalise(self, image: Tensor) -> Tensor:
        """(B, C, H, W) uint8 or 0..1 float -> the values that the weights were trained on."""
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        low, high = self.spec.value_range
        if (low, high) != (0.0, 1.0):
            image = image * (high - low) + low
        image = (image - self.mean) / self.std
        return image.contiguous(memory_format=torch.channels_last) if self.channels_last else image

    def forward(
        self, image: Tensor, maps: Sequence[int] = (), pooled: bool = False, layers: Sequence[str] = ()
    ) -> Features:
        """image: (B, C, H, W) uint8 or 0..1. Runs no further than the deepest thing asked for."""
        if self.calls is not None:
            self.calls.append((image, tuple(maps), pooled, tuple(layers)))
        if self._replayed is not None:
            return self._replayed
        for level in maps:
            if not 0 <= level < len(self.channels):
                raise BackboneError(
                    f"{self.name} has pyramid levels 0 to {len(self.channels) - 1}; level {level} was asked for"
                )
        return self.extract(self.normalise(image), tuple(maps), pooled, tuple(layers))

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        """x: (B, C, H, W), normalised."""
        raise NotImplementedError(f"{type(self).__name__} must override extract")

    def classifier(self) -> OriginalHead:
        """The architecture's own classification head, with its pretrained weights where they were loaded."""
        raise BackboneError(f"{self.name} has no classification head of its own")

    @contextmanager
    def replay(self, features: Features) -> Iterator[None]:
        """Within the block, forward returns `features`: one pass for several heads, or cached features."""
        before, self._replayed = self._replayed, features
        try:
            yield
        finally:
            self._replayed = before


class OriginalHead(nn.Module):
    """The classifier that the weights were trained with.

    reads: "pooled" ((B, embed_dim)) or "map" (the last map (B, C, h, w), for heads that pool logits).
    classes: their names in logit order, where the weights state them.
    """

    def __init__(self, body: nn.Module, reads: str, num_classes: int, classes: Sequence[str] | None = None):
        super().__init__()
        self.body = body
        self.reads = reads
        self.num_classes = num_classes
        self.classes = classes

    def forward(self, features: Features) -> Tensor:
        x = features.pooled if self.reads == "pooled" else features.maps[-1]
        return self.body(x).flatten(1)  # (B, num_classes)


@dataclass(frozen=True)
class Weights:
    """One set of pretrained weights that a backbone can be loaded with."""

    tag: str
    source: str = ""
    licence: str = "unknown"
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone on offer. Listing entries builds nothing and imports no model library.

    build: (spec=None, in_channels=3, output_stride=None, image_size=None) -> Backbone with random weights;
        never touches the network; a given spec wins over the architecture's own.
    load: (backbone, tag) -> backbone with the weights of that tag, its spec set to theirs.
    load_file: (backbone, state dict of a local or hub file) -> (tensors for backbone, key by key; note or None).
        Optional: remaps another library's key names. None means that names must match as they are.
    facts: {"params": 25.5e6, "embed_dim": 2048, "strides": (4, 8, 16, 32), "size": (224, 224)} where known.
    """

    name: str
    build: Callable[..., Backbone]
    weights: Sequence[Weights] = ()
    load: Callable[[Backbone, str], Backbone] | None = None
    load_file: Callable[..., Any] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
