"""How fast each stage learns."""

from __future__ import annotations

from collections.abc import Sequence

from visiontl.freezing.layout import HEAD


def stage_rates(stages: Sequence[str], lr: float, backbone_scale: float, layer_decay: float) -> dict[str, float]:
    """Peak learning rate of each stage and of the head. The deepest stage gets lr * backbone_scale, each
    shallower one layer_decay times its neighbor's (Howard and Ruder 2018, sec. 3.2; Clark et al. 2020)."""
    rates = {HEAD: lr}
    for depth, stage in enumerate(reversed(stages)):
        rates[stage] = lr * backbone_scale * layer_decay**depth
    return rates
