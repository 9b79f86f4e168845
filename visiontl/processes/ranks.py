"""What one process says to the others. On one process each function is the identity."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from visiontl.errors import TrainingError


def active() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def world() -> int:
    return dist.get_world_size() if active() else 1


def rank() -> int:
    return dist.get_rank() if active() else 0


def gather_objects(value: Any) -> list[Any]:
    """The picklable value of every rank, in rank order, on every rank. Only our own processes are read."""
    if not active():
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """Rank 0's picklable value, on every rank."""
    if not active():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(tensor: Tensor) -> Tensor:
    """(B, ...) on every rank, of equal shapes -> (world * B, ...), in rank order; gradients flow back."""
    if not active():
        return tensor
    from torch.distributed.nn.functional import all_gather as gather

    return torch.cat(gather(tensor.contiguous()))


def sum_across(tensor: Tensor) -> Tensor:
    """The elementwise sum over ranks, in place; no gradient."""
    if active():
        dist.all_reduce(tensor)
    return tensor


def broadcast_module(module: nn.Module) -> None:
    """Give every rank rank 0's parameters and buffers."""
    if active():
        for tensor in (*module.parameters(), *module.buffers()):
            dist.broadcast(tensor.detach(), src=0)


def broadcast_buffers(module: nn.Module) -> None:
    """Give every rank rank 0's buffers: batch norm statistics differ between ranks after training."""
    if active():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def agree(function: Callable[[], Any]) -> Any:
    """Run a function on every rank; each gets its own value. An error on one is an error on all, so that no
    rank waits for one that is gone."""
    failure, value = None, None
    try:
        value = function()
    except Exception as error:
        failure = error
    # as text: a plugin's error need not survive pickling
    told = gather_objects(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for other, text in enumerate(told):
        if text is not None:
            raise TrainingError(f"rank {other} failed: {text}")
    return value


def on_main(function: Callable[[], Any]) -> Any:
    """Run a function on rank 0 alone; its value, or its error, is everyone's."""
    value = agree(lambda: function() if rank() == 0 else None)
    return broadcast_object(value)


def main_first(function: Callable[[], Any]) -> Any:
    """Run a function that may write to disk (a download) on rank 0, then on the others; each gets its own value."""
    own: list[Any] = []
    on_main(lambda: own.append(function()))
    return own[0] if own else function()


class AnyRank:
    """Whether some rank has said yes: the same answer on every rank at the same call.

    The answer is that of the call before, so nobody waits for the others: one small all-reduce runs beside the
    step. It has a group of its own, on gloo, so that it neither touches the GPU nor mixes with gradients.
    """

    def __init__(self) -> None:
        self.group: Any = dist.new_group(backend="gloo") if active() else None
        if self.group is not None:
            # a slow rank may still be connecting, and fails where the group is closed at once, without a step between
            dist.barrier(group=self.group)
        self.votes = torch.zeros(1, dtype=torch.int32)
        self.work: Any = None

    def said(self, yes: bool) -> bool:
        if self.group is None:
            return yes
        answer = self._result()
        self.votes.fill_(int(yes))
        self.work = dist.all_reduce(self.votes, group=self.group, async_op=True)
        return answer

    def close(self) -> None:
        if self.group is not None:
            self._result()
            dist.destroy_process_group(self.group)
            self.group = None

    def _result(self) -> bool:
        if self.work is None:
            return False
        self.work.wait()
        self.work = None
        return bool(self.votes.item())


def barrier() -> None:
    if active():
        dist.barrier()


def shutdown() -> None:
    """End the process group. A command that skips this ends in SIGABRT under gloo although all went well."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # a dead DDP wrapper in a reference cycle still holds the group's threads
        dist.destroy_process_group()
