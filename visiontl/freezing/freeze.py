"""The one function that applies a freeze policy, and the table that says what it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from visiontl.backbone import Backbone
from visiontl.errors import BackboneError, PolicyError
from visiontl.freezing.policies import Mode, Policy

HEAD = "head"  # everything of the model that is not the backbone


@dataclass(frozen=True)
class Layout:
    """Which parameter belongs where, fixed for the whole run.

    stages: the backbone's stages that the loss reads, stem first.
    members: stage (or "head") -> {parameter name in the model: parameter} that can ever train.
    unread: names of backbone and head parameters that the loss does not read; never trainable.
    fixed: names that the task or the architecture itself froze; never trainable.
    """

    stages: tuple[str, ...]
    members: Mapping[str, Mapping[str, nn.Parameter]]
    unread: tuple[str, ...]
    fixed: tuple[str, ...]


def backbone_prefix(model: nn.Module, backbone: Backbone) -> str:
    """The name under which the model holds its backbone, with a dot. Raises if it is there not once."""
    names = [name for name, module in model.named_modules(remove_duplicate=False) if module is backbone]
    if len(names) != 1:
        where = f"under {', '.join(map(repr, names))}" if names else "nowhere"
        raise BackboneError(f"a model must hold its backbone once, under one name; it is {where}")
    seen: dict[int, str] = {}
    named = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    for name, tensor in named:
        if id(tensor) in seen:
            raise BackboneError(f"the tensor {seen[id(tensor)]!r} is in the model again as {name!r}; once is enough")
        seen[id(tensor)] = name
    return names[0] + "." if names[0] else ""


def make_layout(model: nn.Module, backbone: Backbone, read: set[str]) -> Layout:
    """read: names (in the model) of the parameters that a probe batch's loss reaches."""
    prefix = backbone_prefix(model, backbone)
    members: dict[str, dict[str, nn.Parameter]] = {stage: {} for stage in (*backbone.stages, HEAD)}
    unread, fixed = [], []
    for name, parameter in model.named_parameters():
        stage = HEAD
        if name.startswith(prefix):
            stage = backbone.stage_of.get(name[len(prefix) :], "")
            if stage not in members:
                raise BackboneError(f"{backbone.name}: parameter {name[len(prefix) :]!r} belongs to no stage")
        if not parameter.requires_grad:
            fixed.append(name)
        elif name not in read:
            unread.append(name)
        else:
            members[stage][name] = parameter
    stages = tuple(stage for stage in backbone.stages if members[stage])
    kept = {stage: members[stage] for stage in (*stages, HEAD)}
    return Layout(stages, kept, tuple(unread), tuple(fixed))


def phase_of(policy: Policy, epoch: int, stages: Sequence[str]) -> dict[str, Mode]:
    """The policy's modes in an epoch, checked: each stage has one, and no other name has."""
    modes = dict(policy(epoch, stages))
    wrong = sorted(set(modes) ^ set(stages)) + [
        s for s, m in modes.items() if m not in ("train", "norm_and_bias", "frozen")
    ]
    if wrong:
        raise PolicyError(f"freeze.policy gives no valid mode in epoch {epoch} for: {', '.join(wrong)}")
    return modes


def phases(policy: Policy, epochs: int, layout: Layout, backbone: Backbone) -> list[tuple[int, dict[str, Mode]]]:
    """[(first epoch, modes)] of a run. A declared change that changes nothing is an error, never silence."""
    found: list[tuple[int, dict[str, Mode]]] = []
    declared = getattr(policy, "edges", ())
    for epoch in range(max(1, epochs)):
        modes = phase_of(policy, epoch, layout.stages)
        if found and modes == found[-1][1] and epoch not in declared:
            continue
        changed = not found or _effect(layout, backbone, modes) != _effect(layout, backbone, found[-1][1])
        if changed:
            found.append((epoch, modes))
        elif epoch in declared or modes != found[-1][1]:
            raise PolicyError(
                f"freeze.policy declares a change at epoch {epoch}, but nothing that trains changes there"
            )
    return found


def _effect(layout: Layout, backbone: Backbone, modes: Mapping[str, Mode]) -> tuple[Any, ...]:
    """What a phase does: which parameters train."""
    return tuple(name for name, _ in trainable(layout, backbone, modes))


def is_norm(module: nn.Module) -> bool:
    """Batch, layer, group, instance, RMS norm and the libraries' variants of them."""
    known = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
    return isinstance(module, known) or "norm" in type(module).__name__.lower()


def _norm_parameters(backbone: Backbone) -> set[int]:
    norms = {id(p) for module in backbone.modules() if is_norm(module) for p in module.parameters(recurse=False)}
    return norms | {id(p) for name, p in backbone.named_parameters() if name.rpartition(".")[2].endswith("bias")}


def trainable(layout: Layout, backbone: Backbone, modes: Mapping[str, Mode]) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that train in a phase, by their names in the model."""
    norms = _norm_parameters(backbone)
    for stage, members in layout.members.items():
        mode = modes.get(stage, "train")
        for name, parameter in members.items():
            if mode == "train" or (mode == "norm_and_bias" and id(parameter) in norms):
                yield name, parameter


def apply(model: nn.Module, backbone: Backbone, layout: Layout, modes: Mapping[str, Mode]) -> None:
    """Set requires_grad of every parameter of the model to what the phase says, and drop old gradients."""
    chosen = {id(parameter) for _, parameter in trainable(layout, backbone, modes)}
    if not chosen:
        raise PolicyError(
            "freeze.policy leaves nothing to train: the whole backbone is frozen and the task has no head with "
            "parameters of its own; choose another policy"
        )
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None


def set_training(
    model: nn.Module, backbone: Backbone, layout: Layout, modes: Mapping[str, Mode], norm_stats: str
) -> None:
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


def table(
    layout: Layout, backbone: Backbone, modes: Mapping[str, Mode], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One row per stage and one for the head: mode, parameters, how many train, learning rate at its peak."""
    chosen = {id(parameter) for _, parameter in trainable(layout, backbone, modes)}
    totals = dict.fromkeys((*backbone.stages, HEAD), 0)
    for name, parameter in backbone.named_parameters():
        totals[backbone.stage_of[name]] += parameter.numel()
    rows = []
    for stage in (*backbone.stages, HEAD):
        members = layout.members.get(stage, {})
        count = sum(parameter.numel() for parameter in members.values())
        active = sum(parameter.numel() for parameter in members.values() if id(parameter) in chosen)
        empty = not (count or totals[stage])
        read = stage == HEAD or stage in layout.stages
        rows.append(
            {
                "stage": stage,
                "mode": modes.get(stage, "train") if read else "empty" if empty else "unread",
                "parameters": count if stage == HEAD else totals[stage],
                "trainable": active,
                "lr": rates.get(stage, 0.0) if active else 0.0,
            }
        )
    return rows
