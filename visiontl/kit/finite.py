"""Answers that are numbers: what a model gives in use is looked at before anything is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

from torch import Tensor

from visiontl.errors import CheckpointError

T = TypeVar("T")


def require_finite(outputs: T) -> T:
    """Outputs of a model, tensors within dicts and lists, as they are. Raises CheckpointError where one holds NaN or
    infinity, of which a class or a picture would be made that means nothing; minus infinity, by which scores are masked
    out, may stand."""
    for tensor in _floats(outputs):
        if tensor.numel() and not float(tensor.detach().amax()) < math.inf:  # the greatest is NaN where one is
            raise CheckpointError(
                "the model answers with values that are no finite numbers: its weights are so large that they "
                "overflow, or its training diverged; train again with a smaller optim.lr, or take another model"
            )
    return outputs


def _floats(outputs: Any) -> Iterator[Tensor]:
    if isinstance(outputs, Tensor):
        if outputs.is_floating_point():
            yield outputs
        return
    if isinstance(outputs, Mapping):
        outputs = list(cast(Mapping[Any, Any], outputs).values())
    if isinstance(outputs, list | tuple):
        for part in cast(Sequence[Any], outputs):
            yield from _floats(part)
