"""One probe batch before training measures what the loss reads, instead of trusting a declaration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from visiontl.backbone import Backbone
from visiontl.errors import TrainingError

Call = tuple[Any, tuple[int, ...], bool, tuple[str, ...]]
"""What a backbone was given: (image, maps, pooled, layers)."""


@dataclass(frozen=True)
class Probe:
    """read: names of the model's parameters that the loss reaches through autograd.
    calls: what each call of the backbone was given.
    """

    read: set[str]
    calls: Sequence[Call]


@contextmanager
def watched(backbone: Backbone) -> Iterator[list[Call]]:
    """Within the block each call of the backbone is added to the list, replayed ones included."""
    calls: list[Call] = []
    signature = inspect.signature(Backbone.forward)

    def note(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = signature.bind(module, *args, **kwargs)
        given.apply_defaults()
        _, image, maps, pooled, layers = given.args
        calls.append((image, tuple(maps), pooled, tuple(layers)))

    handle = backbone.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def total_loss(losses: Any) -> Tensor:
    """What is minimized, of all that a task's `loss` gave. Raises TrainingError where it gave nothing of the kind."""
    if isinstance(losses, Mapping) and isinstance(losses.get("loss"), Tensor):
        return losses["loss"]
    gave = {k: type(v).__name__ for k, v in losses.items()} if isinstance(losses, Mapping) else type(losses).__name__
    raise TrainingError(f"the task's `loss` gave {gave}; a mapping with the tensor 'loss' was expected")


def probe(model: nn.Module, backbone: Backbone, losses: Callable[[], dict[str, Tensor]]) -> Probe:
    """losses: runs model and loss on one training batch. Leaves parameters, buffers and modes as they were.

    Saved tensors are dropped at once, so this needs the memory of a forward pass without gradients.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    model.train()
    try:
        with torch.enable_grad(), saved_tensors_hooks(lambda tensor: None, _never), watched(backbone) as calls:
            loss = total_loss(losses())
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
        for module, training in modes.items():
            module.training = training
    if loss.ndim != 0:
        raise TrainingError(f"the task's loss must be a scalar; its shape is {tuple(loss.shape)}")
    reached = leaves(loss)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    strangers = [leaf for leaf in reached if id(leaf) not in names]
    if strangers:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in strangers[:3])
        raise TrainingError(
            f"the loss reads {len(strangers)} trainable tensors (of shapes {shapes}) that are no parameters of the "
            "model; everything that learns must live in the module that the task's `model` returns"
        )
    if not reached:
        raise TrainingError("the loss reaches no parameter of the model, so nothing can be learned")
    return Probe({names[id(leaf)] for leaf in reached}, calls)


def leaves(output: Tensor) -> list[Tensor]:
    """The leaf tensors that receive a gradient when `output` is differentiated."""
    found, seen, stack = [], set(), [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)  # only AccumulateGrad nodes have one
        if variable is not None:
            found.append(variable)
        stack.extend(child for child, _ in node.next_functions)
    return found


def _never(_: Any) -> Tensor:
    raise TrainingError("a probe is not differentiated")
