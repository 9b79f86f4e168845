"""Gradients of several parts at the features that they share, brought to one norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MOST = 10.0  # times its own norm that a part's gradient is scaled up at most: one that has learned all is left alone


class Fork(torch.autograd.Function):
    """Features -> a copy of each for each part, one part's after the other's.

    On the way back the gradient of part p is scaled by w_p m / |g_p|, where |g_p| is its norm over all features and m
    the mean of these norms, so that parts differ by their weights alone (the aim of GradNorm, Chen et al. 2018, with
    alpha 0, reached in each batch instead of by learned weights). A part without a gradient is left out of the mean.
    """

    @staticmethod
    def forward(ctx: Any, weights: Sequence[float], *features: Tensor) -> tuple[Tensor, ...]:
        ctx.weights, ctx.number = list(weights), len(features)
        ctx.set_materialize_grads(False)
        return tuple(one.view_as(one) for _ in weights for one in features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        number = ctx.number
        parts = [gradients[i * number : (i + 1) * number] for i in range(len(ctx.weights))]
        device = next((one.device for part in parts for one in part if one is not None), torch.device("cpu"))
        factors = balanced(torch.stack([norm_of(part, device) for part in parts]), ctx.weights)
        summed: list[Tensor | None] = []
        for place in range(number):
            pairs = [(part[place], factor) for part, factor in zip(parts, factors, strict=True)]
            own = [gradient * factor for gradient, factor in pairs if gradient is not None]
            summed.append(torch.stack(own).sum(0) if own else None)
        return None, *summed


def norm_of(gradients: Sequence[Tensor | None], device: torch.device) -> Tensor:
    """L2 over all of them, in float32: ()."""
    found = [one.float().square().sum() for one in gradients if one is not None]
    return torch.stack(found).sum().sqrt() if found else torch.zeros((), device=device)


def balanced(norms: Tensor, weights: Sequence[float]) -> list[Tensor]:
    """(P,) norms of the parts' gradients -> what each gradient is multiplied by: weight times mean norm by own norm."""
    there = norms > 0
    if not bool(there.any()):
        return [norms.new_ones(())] * len(weights)
    mean = norms[there].mean()
    stated = norms.new_tensor(list(weights))
    factors = torch.where(there, stated * mean / norms.clamp(min=torch.finfo(norms.dtype).tiny), 1.0)
    return list(factors.clamp(max=MOST))
