"""The one place that wraps a model for training, and takes states out of it and puts them back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from visiontl.engine import moments
from visiontl.runs import store


class Step(nn.Module):
    """What Accelerate wraps: made afresh at each phase edge, so that DDP sees what trains from then on."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> Any:
        return self.model(batch)


def wrap(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, compiled: bool) -> tuple[Any, Any]:
    """(wrapped model, wrapped optimizer) of a phase. Never the task's model itself, nor a wrapped one again: that comes
    back unchanged, and ranks drift apart (Accelerate 1.15)."""
    accelerator.free_memory()
    step = Step(model)
    if compiled:
        step.compile()
    # Where it is not told whether to move the model, Accelerate asks for DTensors first, whose import (with SymPy)
    # takes a fifth of torch's own
    return accelerator.prepare(step, optimizer, device_placement=[accelerator.device_placement, None])


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, by their names in the task's model."""
    return model.state_dict()


def load_model_state(model: nn.Module, state: Mapping[str, Tensor], source: Path | None = None) -> None:
    """source: the file that the state is from, if any. Raises CheckpointError for one that does not fit or is not
    finite."""
    if source is not None:
        store.require_finite(source, state, dict(model.named_parameters()))
    store.put_into(model, state, source)


def optimizer_state(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Flat tensors `parameter name|state key`; parameters that never got a gradient have none."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}|{key}": moments.unshared(torch.as_tensor(value))
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
        if value is not None
    }


def load_optimizer_state(optimizer: Optimizer, model: nn.Module, flat: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_state`, onto each parameter's device."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for name, value in flat.items():
        parameter_name, _, key = name.rpartition("|")
        parameter = parameters[parameter_name]
        on_device = value.ndim > 0 or key != "step" or bool(optimizer.defaults.get("fused"))
        value = value.to(parameter.device) if on_device else value.clone()
        if value.shape == parameter.shape:  # fused kernels walk memory: the strides must be the parameter's
            value = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        whole = value.ndim == 0 and not value.is_floating_point()  # a count that is no tensor
        optimizer.state[parameter][key] = value.item() if whole else value
