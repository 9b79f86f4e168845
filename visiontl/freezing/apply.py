"""The one function that freezes: what gets gradients, and what is in training mode."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from visiontl.backbone import Backbone
from visiontl.errors import PolicyError
from visiontl.freezing.policies import Mode


def set_gradients(model: nn.Module, chosen: Collection[str]) -> None:
    """Set requires_grad of every parameter of the model, by name, and drop old gradients."""
    if not chosen:
        raise PolicyError(
            "freeze.policy leaves nothing to train: the whole backbone is frozen and the task has no head with "
            "parameters of its own; choose another policy"
        )
    chosen = set(chosen)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
        parameter.grad = None


def set_training(model: nn.Module, backbone: Backbone, modes: Mapping[str, Mode], norm_stats: str) -> None:
    """Training mode for what trains, eval mode for what is frozen: statistics fixed, dropout and drop path off.

    A stage that the loss does not read counts as frozen; a container of several stages is in eval mode only
    if all of them are frozen.
    """
    model.train()
    frozen = {stage for stage in backbone.stages if modes.get(stage, "frozen") == "frozen"}
    norm_only = {stage for stage, mode in modes.items() if mode == "norm_and_bias"}
    spans: dict[str, set[str]] = {}  # module name -> the stages inside it
    for name, stage in backbone.stage_of.items():
        parts = name.split(".")
        for depth in range(len(parts) + 1):
            spans.setdefault(".".join(parts[:depth]), set()).add(stage)
    for name, module in backbone.named_modules():
        stage = backbone.stage_of.get(name)
        inside = {stage} if stage else spans.get(name, set())
        fixed_statistics = isinstance(module, _BatchNorm | _InstanceNorm) and (
            norm_stats == "fixed" or (bool(inside) and inside <= norm_only)
        )
        if (inside and inside <= frozen) or fixed_statistics:
            module.training = False
