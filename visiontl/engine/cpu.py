"""What makes training on a CPU faster, and changes no result beyond the precision asked for."""

from __future__ import annotations

import ctypes
import os
import sys
from types import MethodType

import torch
from torch import nn

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Memory that tensors on the CPU give back stays with the process, for the next step. True where glibc is.

    glibc hands large blocks back to the system, which clears and maps them anew page by page: in each step, and a
    fifth of the time of MobileNetV2 at 224 pixels. What it costs: memory of a peak is not given back before the end.
    Who set MALLOC_... or GLIBC_TUNABLES keeps what they chose; other allocators are not touched.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return all([mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_MMAP_MAX, 0)])  # never trim; no block mapped by itself


def give_back_freed_memory() -> None:
    """What `keep_freed_memory` kept goes back to the system: between two models, the second of which would else come on
    top of what the first left in pieces."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def widen_slow_convolutions(model: nn.Module) -> int:
    """Train strided depthwise convolutions in fp32 where the rest runs in bf16 on the CPU; returns their number.

    oneDNN has no vector kernel for their backward in bf16: the four of MobileNetV2 at 224 pixels took 40 % of an
    update (65 ms of 379 for one of them), and in fp32 a tenth of that. Without gradients they stay in bf16.
    """
    slow = [
        module
        for module in model.modules()
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and max(module.stride) > 1
    ]
    for module in slow:
        module.forward = MethodType(_widened, module)  # a method, so that a deep copy calls its own weights
    return len(slow)


def _widened(convolution: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """x: (B, C, H, W) -> (B, C, h, w), computed in fp32 under bf16 autocast when it will be differentiated."""
    differentiated = torch.is_grad_enabled() and (x.requires_grad or convolution.weight.requires_grad)
    if not (differentiated and torch.is_autocast_enabled("cpu")):
        return convolution._conv_forward(x, convolution.weight, convolution.bias)
    with torch.autocast("cpu", enabled=False):
        y = convolution._conv_forward(x.float(), convolution.weight, convolution.bias)
    return y.to(torch.get_autocast_dtype("cpu"))
