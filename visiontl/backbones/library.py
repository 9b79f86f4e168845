"""What the backbones of timm and of torchvision share: a library's model as the body, and foreign weights for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.backbones import positions
from visiontl.backbones.sizing import Geometry
from visiontl.errors import first_line
from visiontl.kit.stages import Partition
from visiontl.spec import ImageSpec


@dataclass(frozen=True)
class Plan:
    """How a body is built, and what it is like: all found on the meta device."""

    kwargs: Mapping[str, Any]
    native: tuple[int, int]  # (H, W) that the architecture is made for
    built_for: tuple[int, int]  # (H, W) that this body is made for
    geometry: Geometry
    parts: Partition
    parameters: int


class LibraryBackbone(Backbone):
    """A library's model as the attribute `body`, without its classifier.

    A name in the library is the backbone's without `body.` before it.
    """

    def __init__(self, name: str, arch: str, spec: ImageSpec, in_channels: int, body: nn.Module, plan: Plan):
        super().__init__(name, spec, in_channels)
        self.arch = arch
        self.body = body
        self.stages = plan.parts.stages
        self.stage_of = plan.parts.stage_of
        self.level_of = plan.parts.level_of
        self.channels = plan.geometry.channels
        self.strides = plan.geometry.strides
        self.embed_dim = plan.geometry.embed_dim
        self.built_for = plan.built_for

    def depth_of_layer(self, layer: str) -> int:
        """The pyramid level that has run the named module of the body; len(channels) where only pooled does."""
        stage = self.stage_of.get(f"body.{layer}")
        if stage is not None:
            return self.level_of[stage]
        inside = [s for n, s in self.stage_of.items() if n.startswith(f"body.{layer}.")]
        return max((self.level_of[s] for s in inside), default=len(self.channels))

    def library_names(self) -> dict[str, str]:
        return {f"body.{name}": name for name in self.body.state_dict()}

    def adopt_names(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """A state dict in this library's or a related form -> (tensors named and shaped as the body's, notes)."""
        notes: list[str] = []
        own = self.body.state_dict()
        if not set(own) <= set(state):
            state, notes = self.renamed(state)
        if not misfits(state, own):
            return state, notes
        fitted = dict(self.refitted(state))
        grids = positions.grids_of(self.body, self.built_for, self.strides)
        for key in misfits(fitted, own):
            changed = self.resized(key, fitted[key], own[key], grids) if positions.NAMES.search(key) else None
            fitted[key] = fitted[key] if changed is None else changed
        return fitted, [*notes, *positions.said_of(state, fitted, own)]

    def refitted(self, state: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Tensors of another shape -> this body's, where the library knows how; else the state as it is."""
        return state

    def resized(self, key: str, weight: Tensor, own: Tensor, grids: set[tuple[int, int]]) -> Tensor | None:
        """A table of positions of another grid -> this body's; None where it cannot be."""
        return positions.resized(key, weight, own, grids)

    def renamed(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Foreign names -> this body's, where the library knows how; else the state as it is."""
        return state, []

    def input_convs(self) -> Sequence[str]:
        """Names of the convolutions that read the image."""
        return ()


def fresh(module: nn.Module) -> nn.Module:
    """A module made on the meta device -> the same on the CPU, randomly initialized, in eval mode."""
    module = module.to_empty(device="cpu")
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if callable(reset):
            reset()
    return module.eval()


def misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that the state holds in another shape than the body's."""
    return [key for key, want in own.items() if key in state and state[key].shape != want.shape]


def reason(error: BaseException) -> str:
    """` (why)` to end a sentence with; nothing for an argument that a constructor does not know, which says no more."""
    return "" if isinstance(error, TypeError) else f" ({first_line(error)})"
