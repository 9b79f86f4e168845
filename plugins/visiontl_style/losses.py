"""What is minimized: content, style, total variation and ripple, each a mean over the pictures of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from visiontl_style.config import StyleConfig
from visiontl_style.model import LEAST_DISTANCE


def loss(
    cfg: StyleConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"loss": (), "content", "style", "tv", "ripple": its unweighted parts, and "style.LAYER" for each layer}."""
    style = outputs["style"]  # {layer: (B,)}
    weights = layer_weights(cfg, list(style))
    relative = style
    if cfg.equalize:
        relative = {name: style[name] / outputs["plain_style"][name].clamp(min=LEAST_DISTANCE) for name in style}
    parts = {
        "content": outputs.get("target", outputs["content"]).mean(),
        "style": torch.stack([weight * relative[name].mean() for name, weight in weights.items()]).sum(),
        "tv": outputs["tv"].mean(),
        "ripple": outputs["ripple"].mean(),
    }
    total = sum(getattr(cfg, f"{name}_weight") * value for name, value in parts.items())
    assert isinstance(total, Tensor)
    return {"loss": total, **parts, **{f"style.{name}": values.mean() for name, values in style.items()}}


def layer_weights(cfg: StyleConfig, names: Sequence[str]) -> dict[str, float]:
    """Style layer -> its share; with `auto` all weigh alike."""
    weights = dict.fromkeys(names, 1.0) if isinstance(cfg.style_layers, str) else cfg.style_layers
    total = sum(weights[name] for name in names)
    return {name: weights[name] / total for name in names}
