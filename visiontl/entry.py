"""A backbone on offer: what a source states of it before it is built.

Apart from backbone.py because listing what is on offer must not import torch, which nn.Module needs; what both share,
the specification of images, lies below both in spec.py, so the type of what `build` gives makes no circle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from visiontl.spec import ImageSpec

if TYPE_CHECKING:
    from torch import Tensor

    from visiontl.backbone import Backbone


class Build(Protocol):
    """Makes a backbone with random weights; never touches the network.

    spec: of the weights that it is built for (a tag's, or saved with a run); wins over the architecture's own.
    output_stride: of the deepest map; None: the architecture's own. image_size: (H, W) in pixels; None: spec.size.
    Raises BackboneError for what the architecture cannot be built for.
    """

    def __call__(
        self,
        spec: ImageSpec | None = None,
        in_channels: int = 3,
        output_stride: int | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> Backbone: ...


@dataclass(frozen=True)
class Weights:
    """One set of pretrained weights that a backbone can be loaded with."""

    tag: str
    source: str = ""
    license: str = "unknown"
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone on offer, whoever offers it. Listing entries builds nothing and imports no model library.

    name: SOURCE/ARCHITECTURE.
    build: the backbone with random weights.
    weights: what it can be loaded with, the default first.
    spec: tag -> how the weights of that tag want their images. None: as the built backbone states it.
    state: tag -> their tensors, by the names of the library that they come from; it may download. The core finds
        the backbone in them (Backbone.adopt_names), counts what fits, loads it and refuses too little.
    facts: {"params": 25.5e6, "embed_dim": 2048, "strides": (4, 8, 16, 32), "size": (224, 224)} where known, for
        listings; {"problem": "..."} why the architecture cannot be a backbone.
    """

    name: str
    build: Build
    weights: Sequence[Weights] = ()
    spec: Callable[[str], ImageSpec | None] | None = None
    state: Callable[[str], Mapping[str, Tensor]] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
