"""An exponential moving average of a model's weights and buffers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

STATISTICS = ("running_mean", "running_var")  # of batch and instance norm


class Ema:
    """decay is warmed up as (1 + n) / (10 + n) over the updates n, as TensorFlow's ExponentialMovingAverage does,
    so that a short run's average is not the initial weights. Norm statistics are averaged with the weights they
    belong to; other buffers are copied."""

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        get_ema_multi_avg_fn(decay)(_averaged(self.model), _averaged(model), None)
        for mine, theirs in zip(_copied(self.model), _copied(model), strict=True):
            mine.copy_(theirs)


def _averaged(model: nn.Module) -> list[Tensor]:
    statistics = [b for name, b in model.named_buffers() if name.endswith(STATISTICS)]
    return [*model.parameters(), *statistics]


def _copied(model: nn.Module) -> list[Tensor]:
    return [b for name, b in model.named_buffers() if not name.endswith(STATISTICS)]
