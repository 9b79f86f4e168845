"""Magnitudes beside a low-rank adapter (Liu et al. 2024, DoRA): a layer's weight is m V / |V| row by row, with
V = W + scale B A (eq. 5). The lengths |V| are held constant in the gradient (sec. 4.3), so what adapters learn is a
direction. m begins at |W|, which changes nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def lengths(weight: Tensor) -> Tensor:
    """(out, in, ...) -> (out,): Euclidean lengths of the rows; a row of zeros, which has no direction, stays one."""
    return weight.flatten(1).norm(dim=1).clamp_min(torch.finfo(weight.dtype).tiny)


def rescaled(weight: Tensor, magnitude: Tensor) -> Tensor:
    """(out, in, ...), (out,) -> the same directions with these lengths."""
    return weight * (magnitude / lengths(weight)).view(-1, *(1,) * (weight.ndim - 1))


def answer(module: Any, output: Tensor, more: Tensor, change: Tensor) -> Tensor:
    """What a layer answers whose rows have the lengths `lora_magnitude_vector`. output: W x + bias; more: what its
    adapter adds to that; change: scale B A, without gradients. Where nothing has changed it is `output`, to the bit."""
    factor = module.lora_magnitude_vector / lengths(module.weight.detach() + change)
    shape = (-1, *(1,) * (module.weight.ndim - 2))  # channels of a map stand before its rows and columns
    factor, bias = factor.view(shape), module.bias
    plain = output if bias is None else output - bias.view(shape)
    return (output + (factor - 1) * plain + factor * more).to(output.dtype)
