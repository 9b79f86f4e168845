"""The convolutions that read the image, and pretrained ones for another number of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from visiontl.backbone import Backbone


def image_convs(backbone: Backbone) -> list[str]:
    """The library's names of the weights that read the image: what the backbone names as `input_convs`, else its first
    convolution."""
    stated: Any = getattr(backbone, "input_convs", None)
    if stated is not None:
        return [f"{name}.weight" for name in stated()]
    names = backbone.library_names()
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d):
            return [names[key] for key in [f"{name}.weight"] if key in names]
    return []


def adapted(
    backbone: Backbone, own: Mapping[str, Tensor], state: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The state with its first convolutions made for the backbone's channels where they are for others, and notes."""
    state, said = dict(state), []
    for key in image_convs(backbone):
        if key not in state or key not in own or state[key].shape == own[key].shape:
            continue
        changed = adapted_conv(state[key], own[key], backbone.in_channels)
        if changed is not None:
            given = state[key].shape[1] * backbone.in_channels // own[key].shape[1]
            state[key] = changed
            said.append(f"{key} adapted from {given} to {backbone.in_channels} input channels{_how(given, backbone)}")
    return state, said


def adapted_conv(weight: Tensor, own: Tensor, in_channels: int) -> Tensor | None:
    """The weights of a first convolution (O, I, k, k) for another number of input channels: summed for one channel,
    else repeated or cut to `in_channels` and scaled by their ratio, so that equal channels give the sum that they gave.
    The rule of Wightman's library (adapt_input_conv), which is the oracle of the tests. None where it cannot be.

    own: the weights that they are for. Stems that fold k x k pixels into channels read in_channels times k * k; they
    can be made for one channel only.
    """
    if weight.dim() != 4 or own.dim() != 4 or not weight.is_floating_point():
        return None
    folded, rest = divmod(own.shape[1], in_channels)  # 1, unless pixels are folded (or the convolution is grouped)
    given, more = divmod(weight.shape[1], max(folded, 1))
    if not folded or rest or more:
        return None
    if in_channels == 1:
        changed = weight.float().unflatten(1, (folded, given)).sum(2)
    elif folded == 1:
        repeats = -(-in_channels // given)
        changed = weight.float().repeat(1, repeats, 1, 1)[:, :in_channels] * (given / in_channels)
    else:
        return None
    return changed.to(weight.dtype) if changed.shape == own.shape else None


def _how(given: int, backbone: Backbone) -> str:
    if backbone.in_channels == 1:
        return " (summed)"
    if given < backbone.in_channels:
        return f" (repeated and scaled by {given}/{backbone.in_channels})"
    return f" (the first {backbone.in_channels}, scaled by {given}/{backbone.in_channels})"
