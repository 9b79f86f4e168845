"""Float64 for a comparison of two ways to compute the same, from outside: neither engine nor task knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

READINGS = (Tensor.view, torch.frombuffer)  # the same bytes under another name


class Doubled(TorchFunctionMode):
    """Within the block what is asked of torch in float32, by `.float()`, `.to(torch.float32)` or `dtype=`, is given in
    float64. Bytes of a file stay what they are."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in READINGS:
            return func(*args, **(kwargs or {}))
        func = Tensor.double if func is Tensor.float else func
        args = tuple(_wider(value) for value in args)
        return func(*args, **{name: _wider(value) for name, value in (kwargs or {}).items()})


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


@contextmanager
def in_double() -> Iterator[None]:
    """Within the block models are built, batches made and both computed in float64, in this thread and process.

    In float32 two kernels, or two ways to sum, differ by 1e-7, and that decides whether a rectifier passes a unit that
    is as near to 0. One unit can move a bias's gradient by 5 %: such a comparison passes on one processor and fails on
    the next, and a tolerance that lets it pass means nothing. In float64 rounding is 1e-16, where no unit is met.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Doubled():
            yield
    finally:
        torch.set_default_dtype(before)


def hold(model: nn.Module) -> None:
    """Keep dropout, drop path and batch norm in eval mode, whoever asks for training mode."""
    for module in model.modules():
        name = type(module).__name__.lower()
        if isinstance(module, _BatchNorm) or "drop" in name or "stochastic" in name:
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
