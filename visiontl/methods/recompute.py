"""Activation checkpointing (Chen et al. 2016, Training deep nets with sublinear memory cost): what a block of the
backbone computed is thrown away and computed again when its gradient is due. The same bits, less memory, more time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from visiontl.backbone import Backbone


def blocks(backbone: Backbone) -> list[str]:
    """Names of the largest modules that lie in one stage alone and have parameters, in order."""
    found: list[str] = []
    for name, module in backbone.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if name in backbone.stage_of and not inside and next(module.parameters(), None) is not None:
            found.append(name)
    return found


def recompute(backbone: Backbone) -> int:
    """From now on the blocks compute again what their gradients need. The number of blocks."""
    modules = dict(backbone.named_modules())
    names = blocks(backbone)
    for name in names:
        module = modules[name]
        module.forward = partial(again, module)  # of a copy of the module this is the copy's
    return len(names)


def again(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    forward = partial(type(module).forward, module)
    learns = any(one.requires_grad for one in (*module.parameters(), *args) if isinstance(one, Tensor))
    if not torch.is_grad_enabled() or not learns:
        return forward(*args, **kwargs)
    contexts = partial(seen_once, module)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def seen_once(module: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around the first pass and the second: in the second batch statistics are not counted again."""
    return contextlib.nullcontext(), uncounted(module)


@contextlib.contextmanager
def uncounted(module: nn.Module) -> Iterator[None]:
    """Within the block running statistics are counted in copies."""
    kept = [(one, dict(one._buffers)) for one in module.modules() if isinstance(one, _NormBase)]
    for one, buffers in kept:
        one._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for one, buffers in kept:
            one._buffers.update(buffers)
