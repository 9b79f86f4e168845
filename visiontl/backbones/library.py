"""What backbones around a library's model share: the body, its stages, layer hooks, adopting foreign weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visiontl.backbone import Backbone, ImageSpec
from visiontl.backbones.sizing import Layout
from visiontl.backbones.stages import Partition
from visiontl.errors import BackboneError, did_you_mean

PREFIX_TOKENS = (0, 1, 2, 5)  # none, class token, with a distillation token, with four registers


class LibraryBackbone(Backbone):
    """A library's model as the attribute `body`, without its classifier.

    Loading asks it for `adopted` (foreign names and shapes -> its own) and `fitting_head`; the weights of the
    original classifier are kept outside the module registry, so they are no parameters of the backbone.
    """

    family = ""

    def __init__(
        self,
        name: str,
        arch: str,
        spec: ImageSpec,
        in_channels: int,
        body: nn.Module,
        layout: Layout,
        parts: Partition,
    ):
        super().__init__(name, spec, in_channels)
        self.arch = arch
        self.body = body
        self.stages = parts.stages
        self.stage_of = parts.stage_of
        self.level_of = parts.level_of
        self.channels = layout.channels
        self.strides = layout.strides
        self.embed_dim = layout.embed_dim
        self.head_state: dict[str, Tensor] = {}  # of the classifier that came with the loaded weights, CPU
        self.head_classes = 0

    def depth_of_layer(self, layer: str) -> int:
        """The pyramid level that has run the named module of the body; len(channels) where only pooled does."""
        stage = self.stage_of.get(f"body.{layer}")
        if stage is not None:
            return self.level_of[stage]
        inside = [s for n, s in self.stage_of.items() if n.startswith(f"body.{layer}.")]
        return max((self.level_of[s] for s in inside), default=len(self.channels))

    def adopted(self, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
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

    def fitting_head(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int] | None:
        """(tensors of the original classifier, its number of classes) where the state holds all of them."""
        return None


class Captured:
    def __init__(self, layers: Sequence[str], backbone: str):
        self.layers, self.backbone = layers, backbone
        self.found: dict[str, Any] = {}

    def outputs(self) -> dict[str, Tensor]:
        for layer in self.layers:
            if layer not in self.found:
                raise BackboneError(
                    f"{self.backbone}: module {layer!r} is a container that is never called itself; "
                    "name one of the modules inside it"
                )
            if not isinstance(self.found[layer], Tensor):
                raise BackboneError(f"{self.backbone}: module {layer!r} gives no single tensor")
        return {layer: self.found[layer] for layer in self.layers}


@contextmanager
def capture(body: nn.Module, layers: Sequence[str], backbone: str) -> Iterator[Captured]:
    """Within the block the outputs of the named modules are kept. What runs after them gets a copy, so an
    in-place activation does not change what was captured."""
    captured = Captured(layers, backbone)
    modules = dict(body.named_modules()) if layers else {}
    for layer in layers:
        if layer not in modules or not layer:
            raise BackboneError(f"{backbone} has no module {layer!r}{did_you_mean(layer, modules)}")

    def keep(layer: str):
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            captured.found[layer] = output
            return output.clone() if isinstance(output, Tensor) else None

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


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


@cache
def imagenet_labels() -> tuple[list[str], list[str]]:
    """(WordNet ids, readable names) of the 1000 classes of ImageNet-1k in logit order. Imports no timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise BackboneError("ImageNet's class names come with timm, which is not installed: pip install timm")
    folder = Path(spec.submodule_search_locations[0]) / "data" / "_info"
    ids = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lemmas = dict(
        line.split("\t", 1)
        for line in (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    )
    return ids, [lemmas[one] for one in ids]


def imagenet_names() -> list[str]:
    return list(imagenet_labels()[1])


def first_line(error: BaseException) -> str:
    """The first line of an error's text, for a sentence."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) < 200 else text[:200] + " ..."


def reason(error: BaseException) -> str:
    """` (why)` to end a sentence with; nothing for an argument that a constructor does not know, which says no more."""
    return "" if isinstance(error, TypeError) else f" ({first_line(error)})"
