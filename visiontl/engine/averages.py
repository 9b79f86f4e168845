"""Averages of weights, computed in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from visiontl.engine.model import model_folder
from visiontl.runs import store

Weights = dict[str, Tensor]  # as `state_dict()` names them


def weights_of(run: Path) -> Weights:
    return store.read_tensors(model_folder(run), "model.safetensors")


def average(states: Iterator[Weights]) -> Weights:
    """The mean of each tensor, summed in float64, one state in memory at a time; integers are the first's."""
    first: Weights = {}
    sums: Weights = {}
    number = 0
    for state in states:
        first = first or state
        number += 1
        for name, tensor in state.items():
            if tensor.is_floating_point():
                sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
    return {name: (sums[name] / number).to(tensor.dtype) if name in sums else tensor for name, tensor in first.items()}


def between(start: Weights, end: Weights, share: float) -> Weights:
    """(1 - share) start + share end, computed in float64; the ends are exact. Integers are the start's."""
    if share in (0, 1):
        return dict(end if share else start)
    return {
        name: (tensor.double() * (1 - share) + end[name].double() * share).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in start.items()
    }


def statistics_that_differ(runs: Sequence[Path]) -> list[str]:
    """Names of the running means and variances that are not the same in all runs."""
    first = {k: v for k, v in weights_of(runs[0]).items() if k.endswith(("running_mean", "running_var"))}
    found: dict[str, None] = {}
    for run in runs[1:]:
        theirs = weights_of(run)
        found |= {name: None for name, tensor in first.items() if not torch.equal(tensor, theirs[name])}
    return list(found)
