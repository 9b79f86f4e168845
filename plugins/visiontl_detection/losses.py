"""The sum of a detector's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontl_detection.config import DetectionConfig


def loss(
    cfg: DetectionConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"loss": the sum, and each part as torchvision names it}.

    They are means over sampled or matched anchors and regions of the micro-batch, not over images.
    """
    parts: Mapping[str, Tensor] = outputs["losses"]
    total = sum((value.float() for value in parts.values()), start=next(iter(parts.values())).new_zeros(()).float())
    return {"loss": total, **{name.removeprefix("loss_"): value.detach() for name, value in parts.items()}}
