"""The stages of a body, read from the autograd graph: which parameters each pyramid level adds.

A parameter's level is the first of map 0, map 1, ..., pooled whose graph reaches it, so a stage boundary is a
pyramid boundary and "freeze until stage k" and "features up to level k" are the same cut. No table of names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.kit.layers import modules_of

STEM, FINAL = "stem", "final"
SMALL = 1_000_000  # parameters; below it a real pass is cheaper than the import of the meta kernels (4 s)
Views = tuple[Sequence[Tensor], Tensor | None]  # maps, shallow first, and pooled


@dataclass(frozen=True)
class Partition:
    """stages: ordered names, `stem` first, `final` last.
    stage_of: parameter, buffer or module name -> stage; containers that span stages are not in it.
    level_of: stage -> the shallowest pyramid level that has run all of it; the number of maps for `final`.
    """

    stages: tuple[str, ...]
    stage_of: Mapping[str, str]
    level_of: Mapping[str, int]


def partition(body: nn.Module, run: Callable[[nn.Module], Views], prefix: str = "body.") -> Partition:
    """Walk the graph of one pass and name what each level adds.

    body: left as it was (requires_grad, training flags, buffers).
    run: (a copy of the body on the meta device, or the body itself) -> (all maps, shallow first; pooled).
        It must make its input on the device and in the dtype of the body's parameters.
    prefix: the attribute path of the body in its backbone; stands before each name in stage_of.
    Cost: one pass on the meta device. A small body, and one that cannot run there, runs on its own device.
    """
    small = sum(p.numel() for p in body.parameters()) < SMALL
    if small or all(p.device.type == "meta" for p in body.parameters()):
        levels, order, depth = _walk(body, run)
    else:
        try:
            levels, order, depth = _walk(meta_copy(body), run)
        except Exception:  # an operator without a meta kernel, or a value read in Python: run it for real
            levels, order, depth = _walk(body, run)
    parameters = [name for name, _ in body.named_parameters()]
    stage_names, level_of, by_parameter = _name_stages(parameters, levels, depth)
    stage_of = _spread(body, by_parameter, order, stage_names)
    return Partition(stage_names, {prefix + name: stage for name, stage in stage_of.items()}, level_of)


def meta_copy(body: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers live on the meta device: no memory is copied."""
    memo: dict[int, Any] = {}
    for parameter in body.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in body.buffers():
        memo[id(buffer)] = buffer.detach().to("meta")
    return copy.deepcopy(body, memo)


@contextmanager
def untouched(body: nn.Module):
    """Within the block the body is in eval mode and everything requires grad; afterwards all is as before."""
    training = {module: module.training for module in body.modules()}
    grads = {parameter: parameter.requires_grad for parameter in body.parameters()}
    real = [b for b in body.buffers() if b.device.type != "meta"]
    values = [buffer.clone() for buffer in real]
    body.eval()
    for parameter in grads:
        parameter.requires_grad_(parameter.is_floating_point())
    try:
        with torch.enable_grad():
            yield
    finally:
        for module, flag in training.items():
            module.training = flag
        for parameter, flag in grads.items():
            parameter.requires_grad_(flag)
        for buffer, value in zip(real, values, strict=True):
            buffer.copy_(value)


def _walk(body: nn.Module, run: Callable[[nn.Module], Views]) -> tuple[dict[str, int | None], list[str], int]:
    """Level of each parameter (None: nothing reaches it), modules in order of execution, number of maps.

    What pooled alone reads has the number of maps as its level.
    """
    order: list[str] = []

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, _args: order.append(name)

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules_of(body).items() if name]
    with untouched(body):
        try:
            maps, pooled = run(body)
        finally:
            for handle in handles:
                handle.remove()
        names = {id(parameter): name for name, parameter in body.named_parameters()}
        levels: dict[str, int | None] = dict.fromkeys(names.values())
        seen: set[Any] = set()
        outputs: list[Tensor] = [*maps, *([] if pooled is None else [pooled])]
        for level, output in enumerate(outputs):
            waiting = [output.grad_fn]
            while waiting:
                node = waiting.pop()
                if node is None or node in seen:
                    continue
                seen.add(node)
                leaf = getattr(node, "variable", None)
                if leaf is not None and id(leaf) in names:
                    levels[names[id(leaf)]] = level
                waiting.extend(successor for successor, _ in node.next_functions)
    return levels, order, len(maps)


def _name_stages(
    parameters: Sequence[str], levels: Mapping[str, int | None], depth: int
) -> tuple[tuple[str, ...], dict[str, int], dict[str, str]]:
    """Ordered stage names, the pyramid level of each, and the stage of each parameter that has a level."""
    known = {name: level for name, level in levels.items() if level is not None}
    spans: dict[str, set[int]] = {}
    for name, level in known.items():
        for prefix in _prefixes(name):
            spans.setdefault(prefix, set()).add(level)
    stages, level_of = [STEM], {STEM: 0}
    stage_of: dict[str, str] = {}
    for level in sorted(set(known.values()) - {depth}):
        members = [name for name in parameters if known.get(name) == level]
        labels = {name: _label(name, spans) for name in members}
        if level == 0:
            inside = {name for name in members if name != labels[name] and _continued(labels[name], spans, depth)}
            if len(inside) < len(members):  # the rest is a true stem
                stage_of.update({name: STEM for name in members if name not in inside})
                members = [name for name in members if name in inside]
            else:
                stage_of.update(dict.fromkeys(members, STEM))
                members = []
        if members:
            title = _title(list(dict.fromkeys(labels[name] for name in members)), level, spans)
            title = f"level{level}" if title in level_of else title
            stages.append(title)
            level_of[title] = level
            stage_of.update(dict.fromkeys(members, title))
    stage_of.update({name: FINAL for name, level in known.items() if level == depth})
    level_of[FINAL] = depth
    return (*stages, FINAL), level_of, stage_of


def _prefixes(name: str) -> list[str]:
    """'a.b.c' -> ['', 'a', 'a.b', 'a.b.c']."""
    parts = name.split(".")
    return ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]


def _label(name: str, spans: Mapping[str, set[int]]) -> str:
    """The shortest prefix of the name that belongs to one level alone."""
    return next(prefix for prefix in _prefixes(name)[1:] if len(spans[prefix]) == 1)


def _continued(label: str, spans: Mapping[str, set[int]], depth: int) -> bool:
    """True for a member of a container (not the body itself) that goes on in a deeper map's level."""
    parent = label.rpartition(".")[0]
    return bool(parent) and len(spans[parent] - {depth}) > 1


def _title(labels: list[str], level: int, spans: Mapping[str, set[int]]) -> str:
    """['blocks.3', 'blocks.4'] -> 'blocks.3-4'; more than two pieces -> 'level3'."""
    pieces: list[str] = []
    runs: dict[str, list[int]] = {}
    for label in labels:
        parent, _, last = label.rpartition(".")
        if last.isdecimal():
            runs.setdefault(parent, []).append(int(last))
        else:
            pieces.append(label)
    for parent, numbers in runs.items():
        dot = f"{parent}." if parent else ""
        others = {
            int(p[len(dot) :])
            for p in spans
            if p.startswith(dot) and p[len(dot) :].isdecimal() and int(p[len(dot) :]) not in numbers
        }
        numbers = sorted(numbers)
        start = numbers[0]
        for here, after in zip(numbers, [*numbers[1:], None], strict=True):
            if after is None or any(here < other < after for other in others):
                pieces.append(f"{dot}{start}" if start == here else f"{dot}{start}-{here}")
                start = after
    return "+".join(pieces) if len(pieces) <= 2 else f"level{level}"


def _spread(
    body: nn.Module, by_parameter: dict[str, str], order: Sequence[str], stages: Sequence[str]
) -> dict[str, str]:
    """Extend the stages of parameters to all parameters, modules and buffers."""
    modules = modules_of(body)
    stage_of = dict(by_parameter)
    of_module: dict[str, str] = {}
    spanning: set[str] = set()
    for name in modules:
        inside = {s for p, s in by_parameter.items() if not name or p.startswith(f"{name}.")}
        if len(inside) == 1 and name:
            of_module[name] = inside.pop()
        elif inside or not name:
            spanning.add(name)

    # parameters that no output reads: their module's stage, else the stem
    for name, _ in body.named_parameters():
        if name not in stage_of:
            stage_of[name] = of_module.get(name.rpartition(".")[0], STEM)

    # modules without parameters of their own: their container's stage, else the next one's in execution order
    executed = list(dict.fromkeys(order))
    following = _following(executed, of_module)
    defined = _following([name for name in modules if name], of_module)
    for name in modules:
        if name in of_module or name in spanning:
            continue
        container = name.rpartition(".")[0]
        while container and container not in of_module and container not in spanning:
            container = container.rpartition(".")[0]
        own_parameters = [stage_of[p] for p in stage_of if p.startswith(f"{name}.") and p not in by_parameter]
        if container in of_module:
            of_module[name] = of_module[container]
        elif own_parameters:
            of_module[name] = own_parameters[0]
        else:
            of_module[name] = following.get(name) or defined.get(name) or FINAL
    stage_of.update(of_module)
    for name, _ in body.named_buffers():
        stage_of[name] = of_module.get(name.rpartition(".")[0], STEM)
    order_of = {stage: i for i, stage in enumerate(stages)}
    return dict(sorted(stage_of.items(), key=lambda item: order_of[item[1]]))


def _following(names: Iterable[str], of_module: Mapping[str, str]) -> dict[str, str]:
    """name -> the stage of the next module in the list that has parameters; FINAL after the last."""
    found = FINAL
    following: dict[str, str] = {}
    for name in reversed(list(names)):
        if name in of_module:
            found = of_module[name]
        following[name] = found
    return following
