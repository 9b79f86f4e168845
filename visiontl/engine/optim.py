"""Optimizer groups in the language of stages, and learning rates as a pure function of the step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from visiontl.config.schema import OptimConfig
from visiontl.engine import moments
from visiontl.freezing.layout import HEAD, Layout, norm_parameters
from visiontl.freezing.rates import stage_rates


def make_optimizer(
    config: OptimConfig, model: nn.Module, layout: Layout, ever: set[str], device: torch.device
) -> Optimizer:
    """ever: names of the parameters that train in any phase; each is in exactly one group for the whole run.

    Norms, biases and other one-dimensional parameters get no weight decay. Stages of the same rate share a group:
    each group costs an update some 50 microseconds, whatever it holds.
    """
    parameters = dict(model.named_parameters())
    plain = norm_parameters(model) | {name for name, parameter in parameters.items() if parameter.ndim <= 1}
    rates = stage_rates(layout.stages, config.lr, config.backbone_scale, config.layer_decay)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for stage, members in layout.members.items():
        for decays in (True, False):
            decay = config.weight_decay if decays else 0.0
            for name in [name for name in members if name in ever and (name not in plain) == decays]:
                rate = rates[stage] * (head_rate(model, name) if stage == HEAD else 1.0)
                empty = {"params": [], "stages": [], "peak_lr": rate, "lr": rate, "weight_decay": decay}
                group = groups.setdefault((rate, decay), empty)
                group["params"].append(parameters[name])
                group["stages"] += [stage] if stage not in group["stages"] else []
    if config.name == moments.NAME:
        return moments.adamw8bit(list(groups.values()), config, device)
    fused = device.type in ("cpu", "cuda")
    if config.name == "adamw":
        return torch.optim.AdamW(list(groups.values()), lr=config.lr, betas=config.betas, fused=fused)
    optimizer = torch.optim.SGD(list(groups.values()), lr=config.lr, momentum=config.momentum, fused=fused)
    if config.momentum:
        # zero momentum is what a first step starts from; the fused kernel fails where a group has it for some only,
        # as it would when a stage thaws
        for parameter in (parameter for group in groups.values() for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def head_rate(model: nn.Module, name: str) -> float:
    """How fast a parameter of the head learns, relative to the others: the model's `head_rates`, {module: rate}."""
    rates: dict[str, float] = getattr(model, "head_rates", {})
    return rates[max(found, key=len)] if (found := [one for one in rates if name.startswith(f"{one}.")]) else 1.0


def in_steps(every: str, steps_per_epoch: int) -> int:
    """'2 epochs' or '500 steps' -> optimizer updates."""
    count, unit = every.split()
    return int(count) * (steps_per_epoch if unit.startswith("epoch") else 1)


def lr_factor(config: OptimConfig, step: int, total: int, steps_per_epoch: int) -> float:
    """The learning rate of update `step` (0-based, of `total`), relative to its peak: 0..1.

    cosine: Loshchilov and Hutter 2017, eq. 5, one cycle. poly: Liu et al. 2016 (ParseNet), sec. 3.2.
    """
    warmup = 0 if config.warmup == "none" else min(total, in_steps(config.warmup, steps_per_epoch))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)  # 0..1
    if config.schedule == "cosine":
        return config.min_factor + (1 - config.min_factor) * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "poly":
        return config.min_factor + (1 - config.min_factor) * (1 - progress) ** config.power
    if config.schedule == "step":
        if isinstance(config.step_every, list):
            falls = sum(step >= in_steps(moment, steps_per_epoch) for moment in config.step_every)
        else:
            falls = (step - warmup) // in_steps(config.step_every, steps_per_epoch)
        return config.step_factor**falls
    return 1.0


def set_lr(optimizer: Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
