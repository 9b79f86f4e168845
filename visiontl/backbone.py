"""The contract of a backbone: an ordered list of stages with the input specification of its weights."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from visiontl.errors import BackboneError
from visiontl.spec import ImageSpec

NORMALIZATION = ("mean", "std")  # buffers of every backbone, set from its specification: no weights


@dataclass(frozen=True)
class Features:
    """What one pass of a backbone gives: only what was asked for is filled.

    maps: [(B, C_i, H/s_i, W/s_i)] for the pyramid levels asked for, in the order asked.
    pooled: (B, embed_dim) or None.
    layers: {module name: its output}.
    """

    maps: list[Tensor] = field(default_factory=list[Tensor])
    pooled: Tensor | None = None
    layers: dict[str, Tensor] = field(default_factory=dict[str, Tensor])


class Backbone(nn.Module):
    """A body that yields pyramid maps, a pooled embedding and named layers in one pass.

    A subclass overrides `extract` and, where the architecture has a classifier, `own_head` and `classifier`; where the
    weights' own library names tensors otherwise than this module, `library_names`, and `adopt_names` for files that
    name or shape them in still other ways.

    spec: the ImageSpec of the weights it holds.
    stages: ordered names, stem first; `final` last: what only the pooled embedding reads (may be empty).
    stage_of: name of each parameter, buffer and module, relative to the backbone -> its stage. A container
        that spans several stages, and the normalization buffers `mean` and `std`, are not in it.
    channels, strides: per pyramid level. Strides are nominal; a map's own shape is the truth.
    embed_dim: width of the pooled embedding.
    head_state, head_classes: tensors of the classifier that came with the loaded weights (on the CPU, by their
        library's names) and its number of classes, for `classifier`; empty and 0 where none came. No parameters.
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
        self.head_state: dict[str, Tensor] = {}
        self.head_classes = 0
        self._replayed: Features | None = None
        self.register_buffer("mean", torch.zeros(1, in_channels, 1, 1))
        self.register_buffer("std", torch.ones(1, in_channels, 1, 1))
        self.set_spec(spec)

    def set_spec(self, spec: ImageSpec) -> None:
        """Take over a specification (of loaded weights, or saved with a run), mean and std included."""
        self.spec = spec
        for name in NORMALIZATION:
            values = torch.tensor(getattr(spec, name), dtype=torch.float32)
            if len(values) != self.in_channels:  # timm repeats RGB for other channel counts; so do its statistics
                values = values.repeat(-(-self.in_channels // len(values)))[: self.in_channels]
            getattr(self, name).copy_(values.view(1, -1, 1, 1))

    def normalize(self, image: Tensor) -> Tensor:
        """(B, C, H, W) uint8 or 0..1 float -> the values that the weights were trained on, in one pass over them."""
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        low, high = self.spec.value_range
        scale = (high - low) / self.std / (255 if image.dtype == torch.uint8 else 1)  # (1, C, 1, 1)
        return torch.addcmul((low - self.mean) / self.std, image.to(scale.dtype), scale)

    def forward(
        self, image: Tensor, maps: Sequence[int] = (), pooled: bool = False, layers: Sequence[str] = ()
    ) -> Features:
        """image: (B, C, H, W) uint8 or 0..1. Runs no further than the deepest thing asked for."""
        if self._replayed is not None:
            return self._replayed
        for level in maps:
            if not 0 <= level < len(self.channels):
                raise BackboneError(
                    f"{self.name} has pyramid levels 0 to {len(self.channels) - 1}; level {level} was asked for"
                )
        return self.extract(self.normalize(image), tuple(maps), pooled, tuple(layers))

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        """x: (B, C, H, W), normalized."""
        raise NotImplementedError(f"{type(self).__name__} must override extract")

    def library_names(self) -> dict[str, str]:
        """{name in state_dict(): the name of this tensor in files of the weights' own library}: how weights come and
        how they leave. A tensor without one can be neither loaded nor exported."""
        return {name: name for name in self.state_dict() if name not in NORMALIZATION}

    def adopt_names(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors of a file, in another form that this architecture's weights come in -> (the same named and shaped as
        in its own library, notes for the user). What cannot be told stays as it is."""
        return state, []

    def own_head(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int] | None:
        """(tensors of the architecture's own classifier, its number of classes), where the state, named as in the
        library, holds all of them; what is given back is kept as `head_state`."""
        return None

    def library_call(self, num_classes: int) -> str:
        """Python that makes `model`, of the weights' own library, which takes exported tensors strictly; "" where
        there is none. num_classes: of the classifier exported with them, 0: none."""
        return ""

    def classifier(self, num_classes: int | None = None) -> OriginalHead:
        """The architecture's own classification head, with its pretrained weights where they were loaded.

        num_classes: of a head that is rebuilt for saved weights; None: as loaded, or the architecture's default.
        """
        raise BackboneError(f"{self.name} has no classification head of its own")

    @contextmanager
    def replay(self, features: Features) -> Generator[None, None, None]:
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
    names: {how names in `state_dict()` begin: how they begin in the library's files}; without it the head cannot be
        exported.
    """

    def __init__(
        self,
        body: nn.Module,
        reads: str,
        num_classes: int,
        classes: Sequence[str] | None = None,
        names: Mapping[str, str] | None = None,
    ):
        super().__init__()
        self.body = body
        self.reads = reads
        self.num_classes = num_classes
        self.classes = classes
        self.names = dict(names or {})

    def library_names(self) -> dict[str, str]:
        """{name in state_dict(): its name in the library's files}, of those that have one."""
        return {
            name: theirs + name.removeprefix(ours)
            for name in self.state_dict()
            for ours, theirs in self.names.items()
            if name.startswith(ours)
        }

    def forward(self, features: Features) -> Tensor:
        x = features.pooled if self.reads == "pooled" else features.maps[-1]
        return self.body(x).flatten(1)  # (B, num_classes)
