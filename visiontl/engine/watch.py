"""The watch over a training run: loss, gradients and weights that are not finite or differ between ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.errors import TrainingError
from visiontl.processes import ranks
from visiontl.task import SampleDataset


class Watch:
    """Stops all ranks when loss or gradient is not finite. On a GPU a step is judged while the next one runs,
    so that nothing waits; no checkpoint is written in between.

    A gradient's norm reads every gradient once more (3 ms for 11 M parameters on one CPU), so it need not be
    measured in each step: after a gradient that is not finite the weights are not either, nor is the next loss, and
    `check_weights` stands before what is kept."""

    def __init__(self, device: torch.device, scaled: bool):
        self.device = device
        self.scaled = scaled  # under fp16 the scaler skips updates with infinite gradients; only the loss counts
        self.pending: tuple[int, Sequence[int], Tensor, Any, SampleDataset] | None = None
        self.unmeasured: Sequence[int] = ()  # samples of the newest judged step, where its norm was not measured

    def see(self, step: int, ids: Sequence[int], loss: Tensor, norm: Tensor | None, split: SampleDataset) -> None:
        """loss, norm: () on the device; the loss of this rank alone; norm: None where it was not measured."""
        self.check()
        own = loss.detach().float()
        total = ranks.sum_across(own.clone()) if ranks.active() else own
        numbers = torch.stack([total, own] if norm is None else [total, own, norm.detach().float()])
        copied = None
        if self.device.type == "cuda":
            numbers = numbers.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self.pending = step, ids, numbers, copied, split
        if self.device.type != "cuda":
            self.check()

    def check(self) -> None:
        """Raise TrainingError with step, samples and advice if the step seen last was not finite on any rank."""
        if self.pending is None:
            return
        step, ids, numbers, copied, split = self.pending
        self.pending = None
        if copied is not None:
            copied.synchronize()
        total, own, *norms = numbers.tolist()
        before, self.unmeasured = self.unmeasured, () if norms else ids
        if math.isfinite(total) and (self.scaled or all(map(math.isfinite, norms))):
            return
        # the sum over ranks and the reduced gradient are the same everywhere, so every rank comes here
        found = ranks.gather_objects((own, list(ids), [str(split.names[i]) for i in ids[:4]], list(before)))
        guilty = [rank for rank, (value, *_) in enumerate(found) if not math.isfinite(value)]
        where = "; ".join(
            f"rank {rank}: loss {found[rank][0]:g}, sample ids {found[rank][1][:16]} ({', '.join(found[rank][2])})"
            + (f"; or it was the step before, sample ids {found[rank][3][:16]}" if found[rank][3] else "")
            for rank in guilty or range(len(found))
        )
        measured = f" (gradient norm {norms[0]:g})" if norms else ""
        raise TrainingError(
            f"step {step}: loss or gradient is not finite{measured}; training stopped on all ranks. "
            f"{where}. Try a smaller optim.lr, a warm-up (optim.warmup), optim.clip_norm=1.0 or train.precision=fp32, "
            "and look at these images"
        )


def check_weights(step: int, weights: Sequence[Tensor]) -> None:
    """Raise TrainingError if a weight is not finite after `step` updates: such weights must not be kept."""
    if not math.isfinite(float(nn.utils.get_total_norm(weights))):
        raise TrainingError(
            f"step {step}: the weights are not finite after this update, so its gradient was not; nothing was saved. "
            "Try a smaller optim.lr, a warm-up (optim.warmup), optim.clip_norm=1.0 or train.precision=fp32"
        )


def check_scale(scaler: Any, step: int) -> None:
    """Under fp16 an update with infinite gradients is skipped and the loss scale halved; below 1 nothing is learned."""
    if scaler is not None and scaler.get_scale() < 1:
        raise TrainingError(
            f"step {step}: the fp16 loss scale fell to {scaler.get_scale():g}, so updates are being skipped; try "
            "train.precision=bf16 or fp32, or a smaller optim.lr"
        )


def check_gradients(model: nn.Module, chosen: Sequence[nn.Parameter]) -> None:
    """Once per phase: every parameter that was declared trainable has a gradient, the same on every rank."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    silent = [names[parameter] for parameter in chosen if parameter.grad is None]
    silent = list(dict.fromkeys(name for part in ranks.gather_objects(silent) for name in part))
    if silent:
        raise TrainingError(
            f"{len(silent)} trainable parameters got no gradient, such as {', '.join(silent[:3])}; the loss must read "
            "every part of the model in every batch"
        )
    if ranks.world() > 1:
        sums = [float(parameter.grad.double().sum()) for parameter in chosen if parameter.grad is not None]
        for rank, other in enumerate(ranks.gather_objects(sums)):
            for parameter, mine, theirs in zip(chosen, sums, other, strict=True):
                if mine != theirs and abs(mine - theirs) > 1e-6 * max(abs(mine), abs(theirs)):
                    raise TrainingError(f"gradients of {names[parameter]} differ between this rank and rank {rank}")
