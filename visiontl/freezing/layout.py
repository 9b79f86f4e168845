"""Which parameter belongs where, by name, and what of it trains in which epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from visiontl.backbone import Backbone
from visiontl.errors import BackboneError, PolicyError
from visiontl.freezing.policies import Mode, Policy
from visiontl.report.run import StageRow

HEAD = "head"  # everything of the model that is not the backbone
ADAPTER = ("lora_A", "lora_B", "lora_magnitude_vector")  # of a low-rank adapter, in its layer; the last with dora


@dataclass(frozen=True)
class Layout:
    """Which parameter belongs where, fixed for the whole run. Names in the model, not objects: wrapping may replace
    those.

    stages: the backbone's stages that the loss reads, stem first.
    members: stage (or "head") -> names of the parameters that can ever train.
    light: those of the backbone's that norm_and_bias trains: of norm layers, and biases; with adapters these instead.
    sizes: {name: number of values} of all members.
    totals: {stage: number of values}, of all the backbone's stages in order, and of the head's members.
    unread: names of backbone and head parameters that the loss does not read; never trainable.
    fixed: names that the task or the architecture itself froze; never trainable.
    """

    stages: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]]
    light: frozenset[str]
    sizes: Mapping[str, int]
    totals: Mapping[str, int]
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
    members: dict[str, list[str]] = {stage: [] for stage in (*backbone.stages, HEAD)}
    totals = dict.fromkeys(members, 0)
    unread, fixed, sizes = [], [], {}
    for name, parameter in model.named_parameters():
        stage = HEAD
        if name.startswith(prefix):
            stage = backbone.stage_of.get(name[len(prefix) :], "")
            if stage not in members:
                raise BackboneError(f"{backbone.name}: parameter {name[len(prefix) :]!r} belongs to no stage")
            totals[stage] += parameter.numel()
        if not parameter.requires_grad:
            fixed.append(name)
        elif name not in read:
            unread.append(name)
        else:
            members[stage].append(name)
            sizes[name] = parameter.numel()
    totals[HEAD] = sum(sizes[name] for name in members[HEAD])
    stages = tuple(stage for stage in backbone.stages if members[stage])
    kept = {stage: tuple(members[stage]) for stage in (*stages, HEAD)}
    names = [name for name, _ in backbone.named_parameters()]
    small = ADAPTER if any(name.endswith(ADAPTER) for name in names) else ("bias",)
    light = frozenset(prefix + name for name in norm_parameters(backbone).union(n for n in names if n.endswith(small)))
    return Layout(stages, kept, light, sizes, totals, tuple(unread), tuple(fixed))


def is_norm(module: nn.Module) -> bool:
    """Batch, layer, group, instance, RMS norm and the libraries' variants of them."""
    known = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
    return isinstance(module, known) or "norm" in type(module).__name__.lower()


def norm_parameters(model: nn.Module) -> set[str]:
    """Names of the norm layers' own parameters."""
    return {
        f"{place}.{name}" if place else name
        for place, module in model.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    }


def phase_of(policy: Policy, epoch: int, stages: Sequence[str]) -> dict[str, Mode]:
    """The policy's modes in an epoch, checked: each stage has one, and no other name has."""
    modes = dict(policy(epoch, stages))
    wrong = sorted(set(modes) ^ set(stages)) + [
        s for s, m in modes.items() if m not in ("train", "norm_and_bias", "frozen")
    ]
    if wrong:
        raise PolicyError(f"freeze.policy gives no valid mode in epoch {epoch} for: {', '.join(wrong)}")
    return modes


def phases(policy: Policy, epochs: int, layout: Layout) -> list[tuple[int, dict[str, Mode]]]:
    """[(first epoch, modes)] of a run. A declared change that changes nothing is an error, never silence."""
    found: list[tuple[int, dict[str, Mode]]] = []
    declared = getattr(policy, "edges", ())
    for epoch in range(max(1, epochs)):
        modes = phase_of(policy, epoch, layout.stages)
        if found and modes == found[-1][1] and epoch not in declared:
            continue
        if not found or trainable(layout, modes) != trainable(layout, found[-1][1]):
            found.append((epoch, modes))
        elif epoch in declared or modes != found[-1][1]:
            raise PolicyError(
                f"freeze.policy declares a change at epoch {epoch}, but nothing that trains changes there"
            )
    return found


def trainable(layout: Layout, modes: Mapping[str, Mode]) -> list[str]:
    """Names of the parameters that train in a phase."""
    chosen = []
    for stage, members in layout.members.items():
        mode = modes.get(stage, "train")
        chosen += [name for name in members if mode == "train" or (mode == "norm_and_bias" and name in layout.light)]
    return chosen


def table(layout: Layout, modes: Mapping[str, Mode], rates: Mapping[str, float]) -> list[StageRow]:
    """One row per stage and one for the head: mode, parameters, how many train, learning rate at its peak."""
    chosen = set(trainable(layout, modes))
    rows = []
    for stage, total in layout.totals.items():
        active = sum(layout.sizes[name] for name in layout.members.get(stage, ()) if name in chosen)
        read = stage == HEAD or stage in layout.stages
        mode = modes.get(stage, "train") if read else "unread" if total else "empty"
        lr = rates.get(stage, 0.0) if active else 0.0
        rows.append(StageRow(stage=stage, mode=mode, parameters=total, trainable=active, lr=lr))
    return rows
