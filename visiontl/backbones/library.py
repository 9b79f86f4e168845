"""What the backbones of timm and of torchvision share: a library's model as the body, and foreign weights for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.backbones.sizing import Geometry
from visiontl.errors import first_line
from visiontl.kit.stages import Partition
from visiontl.spec import ImageSpec

PREFIX_TOKENS = (0, 1, 2, 5)  # none, class token, with a distillation token, with four registers


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
            state, said = self.renamed(state)
            notes += said
        state = dict(state)
        for name in self.input_convs():
            key = f"{name}.weight"
            if key in state and key in own and state[key].shape != own[key].shape:
                state[key], said = adapted_conv(key, state[key], own[key])
                notes += said
        for key, want in own.items():
            if "pos_embed" in key and key in state and state[key].shape != want.shape:
                state[key], said = resized_positions(key, state[key], want)
                notes += said
        return state, notes

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


def adapted_conv(key: str, weight: Tensor, own: Tensor) -> tuple[Tensor, list[str]]:
    """The weights of a first convolution (O, 3, k, k) for another number of input channels, as timm adapts
    them: summed for one channel, else repeated and scaled by 3 / channels. As they are where that cannot be."""
    given, channels = weight.shape[1], own.shape[1]
    if weight.dim() != 4 or own.dim() != 4 or given == channels:
        return weight, []
    if given % 3 == 0 and channels == given // 3:  # one image channel; several inputs each in space-to-depth stems
        changed = weight.float().unflatten(1, (given // 3, 3)).sum(2)
        channels = 1
    elif given == 3:
        changed = weight.float().repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
    else:
        return weight, []
    if changed.shape != own.shape:
        return weight, []
    return changed.to(weight.dtype), [f"{key} adapted from 3 to {channels} input channels, as timm does"]


def resized_positions(key: str, weight: Tensor, own: Tensor) -> tuple[Tensor, list[str]]:
    """A position embedding interpolated (bicubic, antialiased, as timm does) to another grid, prefix tokens kept.

    (1, N, C) over square grids, or (1, H, W, C). Returned as it is where neither fits.
    """
    if weight.dim() != own.dim() or weight.shape[-1] != own.shape[-1]:
        return weight, []
    prefix = 0
    if weight.dim() == 4:
        grid, target = weight, own.shape[1:3]
    elif weight.dim() == 3:
        for prefix in PREFIX_TOKENS:
            side, wanted = round((weight.shape[1] - prefix) ** 0.5), round((own.shape[1] - prefix) ** 0.5)
            if side * side == weight.shape[1] - prefix and wanted * wanted == own.shape[1] - prefix:
                break
        else:
            return weight, []
        grid, target = weight[:, prefix:].unflatten(1, (side, side)), (wanted, wanted)
    else:
        return weight, []
    image = grid.float().permute(0, 3, 1, 2)  # (1, C, h, w)
    image = F.interpolate(image, size=tuple(target), mode="bicubic", antialias=True)
    grid = image.permute(0, 2, 3, 1).to(weight.dtype)  # (1, H, W, C)
    resized = grid if weight.dim() == 4 else torch.cat([weight[:, :prefix], grid.flatten(1, 2)], 1)
    if resized.shape != own.shape:
        return weight, []
    return resized, [f"{key} resized from {tuple(weight.shape)} to {tuple(own.shape)}"]


def reason(error: BaseException) -> str:
    """` (why)` to end a sentence with; nothing for an argument that a constructor does not know, which says no more."""
    return "" if isinstance(error, TypeError) else f" ({first_line(error)})"
