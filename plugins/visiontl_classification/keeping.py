"""Old classes keep their answers while others are learned (Li and Hoiem 2016, Learning without forgetting)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from visiontl import ConfigError, Old
from visiontl_classification.config import ClassificationConfig


def keep(
    cfg: ClassificationConfig, model: nn.Module, meta: Mapping[str, Any], old: Old
) -> Callable[[Mapping[str, Tensor], dict[str, Any]], Tensor]:
    """The distance of logits of the classes that both know. Raises ConfigError where they know none in common."""
    shared = [name for name in old.meta["classes"] if name in meta["classes"]]
    if not shared:
        raise ConfigError(f"the old model knows none of the {len(meta['classes'])} classes")
    if old.meta["labels"] != meta["labels"]:
        raise ConfigError(f"the old model was trained with labels: {old.meta['labels']}, not {meta['labels']}")
    ours, theirs = ([list(one["classes"]).index(name) for name in shared] for one in (meta, old.meta))
    measure = binary_distance if cfg.labels == "multi" else distance

    def held(outputs: Mapping[str, Tensor], batch: dict[str, Any]) -> Tensor:
        before = old.answer(batch)["logits"].float()[:, theirs]  # (B, O)
        return measure(outputs["logits"].float()[:, ours], before, old.temperature)

    return held


def distance(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Logits of the O old classes, (B, O) twice -> T^2 KL(softmax(theirs / T) || softmax(ours / T)), the mean over
    images, (): the paper's equation 2 less the entropy of the old answers, which is constant, times Hinton's T^2."""
    p, q = (F.log_softmax(one / temperature, 1) for one in (theirs, ours))
    return temperature**2 * (p.exp() * (p - q)).sum(1).mean()


def binary_distance(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """The same of O answers of yes or no each, the mean over them and over images, ()."""
    total = ours.new_zeros(())
    for sign in (1, -1):
        p, q = (F.logsigmoid(sign * one / temperature) for one in (theirs, ours))
        total = total + (p.exp() * (p - q)).mean()
    return temperature**2 * total
