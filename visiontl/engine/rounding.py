"""Whether a difference of two computations is one that rounding makes: then the run itself answers otherwise for pixels
that are moved by less than any picture can say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.engine import same

MOVED = 1e-6, 8  # of a pixel's value, and how often: what two kernels round otherwise, some times over
# Where another box is found: two boxes may overlap, or two regions score, so nearly alike that few movements decide
# between them. A step of an 8-bit picture is 400 times as much.
MOVED_FURTHER = 1e-5, 48
MOST = 4  # of so many pictures one may hang on rounding; more show nothing of the graph


def outputs_of(module: nn.Module, given: Sequence[Tensor]) -> dict[str, Any]:
    with torch.no_grad():
        return {name: one.numpy() for name, one in module(*given).items()}


def decides(module: nn.Module, given: Sequence[Tensor], answer: Mapping[str, Any], apart: float) -> bool:
    """Whether the run's outputs for moved pixels are as far `apart` from its own. given: image (B, 3, H, W) of 0..1,
    and what else the module takes."""
    image, *rest = given
    ours, generator = outputs_of(module, given), torch.Generator().manual_seed(0)
    for share, tries in (MOVED, MOVED_FURTHER) if apart >= same.ANOTHER else (MOVED,):
        for _ in range(tries):
            moved = image * (1 + share * (2 * torch.rand(image.shape, generator=generator) - 1))
            if same.of_outputs(ours, outputs_of(module, (moved, *rest)), answer) >= apart:
                return True
    return False
