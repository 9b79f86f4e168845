"""Losses of images of which some lack a label: means over those that have one, and gradients for all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def labeled_mean(values: Tensor, batch: Mapping[str, Any], term: str) -> Tensor:
    """The mean of one term of a loss over the images that have a label for it, in the whole update: () with gradients.

    values: (N,) of these images alone, (0,) where the batch has none: then 0, with gradients of 0. batch: as `collate`
    made it, with `labeled`: {term: N}, which in training holds what belongs to the update.
    """
    return values.sum() / divisor(batch, term)


def divisor(batch: Mapping[str, Any], term: str) -> float:
    """What a sum over the batch's images that have a label is divided by; 1 where there are none.

    Raises LookupError for a batch that does not state the term.
    """
    stated = batch.get("labeled", {})
    if term not in stated:
        raise LookupError(
            f"the batch states no `labeled` of {term!r}: let `collate` give labeled: {{{term!r}: number of images "
            "with a label}"
        )
    return float(stated[term]) or 1.0


def zero(*parts: Tensor | nn.Module) -> Tensor:
    """0, with gradients of 0 for the tensors, or for all trainable parameters of the modules: (), to be added to a loss
    that a batch gives no reason to read them."""
    import torch

    tensors = [
        tensor
        for part in parts
        for tensor in ([part] if isinstance(part, torch.Tensor) else part.parameters())
        if tensor.requires_grad and tensor.numel()
    ]
    # of one value each: what is infinite elsewhere must not become NaN, and a graph needs no more
    return sum((tensor.flatten()[0].float() * 0 for tensor in tensors), start=torch.zeros(()))
