"""Which features are wanted, of what, and the backbone that gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from visiontl.backbone import Backbone, Features
from visiontl.config.resolve import Resolved
from visiontl.engine.device import Placement
from visiontl.features.keys import backbone_key
from visiontl.report.console import Console
from visiontl.task import SampleDataset


@dataclass(frozen=True)
class Ask:
    """What a model asks of its backbone: levels of the pyramid, the pooled embedding, layers by name."""

    maps: tuple[int, ...] = ()
    pooled: bool = False
    layers: tuple[str, ...] = ()

    @property
    def parts(self) -> list[str]:
        return [f"map {i}" for i in self.maps] + ["pooled"] * self.pooled + [f"layer {name}" for name in self.layers]

    def split(self, found: Features) -> list[Tensor]:
        """One tensor for each part."""
        pooled = [] if found.pooled is None else [found.pooled]
        return [*found.maps, *pooled, *(found.layers[name] for name in self.layers)]


@dataclass(frozen=True)
class Source:
    """A backbone where it runs. resolved: of the task and the config whose images are read."""

    resolved: Resolved
    backbone: Backbone
    placement: Placement
    console: Console

    def forward(self, images: Tensor, ask: Ask) -> list[Tensor]:
        """The parts of a batch, on the CPU. The backbone is in eval mode."""
        accelerator = self.placement.accelerator
        with torch.no_grad(), accelerator.autocast():
            found = self.backbone(images.to(accelerator.device), ask.maps, ask.pooled, ask.layers)
        return [part.cpu() for part in ask.split(found)]

    def width(self, part: str) -> int | None:
        """Channels of a part of `Ask`; None for a layer."""
        kind, _, number = part.partition(" ")
        return (
            self.backbone.embed_dim
            if kind == "pooled"
            else self.backbone.channels[int(number)]
            if kind == "map"
            else None
        )

    @cached_property
    def key(self) -> Mapping[str, Any]:
        half = self.resolved.config.features.precision == "half"
        placed = self.placement
        about = backbone_key(self.backbone, placed.precision, placed.accelerator.device)
        return {**about, "stored": "half" if half else "full"}


@dataclass(frozen=True)
class Wanted:
    """The features of one split.

    name: the split, for people. views: of each image, drawn from (seed, view, id). drawn: the samples depend on the
    seed. batch_size: images in a forward pass. chunks: the passes are those of an evaluation, whose last one is
    smaller; else each image is computed in a full one, as it is in training. Rounding depends on that number in some
    networks, so it is part of what the store knows features by.
    """

    name: str
    split: SampleDataset
    ask: Ask
    batch_size: int
    views: int = 1
    drawn: bool = False
    chunks: bool = False

    @property
    def rows(self) -> int:
        """Row view * images + id belongs to that view of that image."""
        return len(self.split) * self.views

    def size(self, row: int) -> int:
        """Images in the pass that computes a row."""
        images, size = len(self.split), self.batch_size
        begun = row % images // size * size
        return min(size, images - begun) if self.chunks else size
