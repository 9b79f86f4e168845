"""What is minimised: content, style and total variation, each a mean over the pictures of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from visiontl_style.config import StyleConfig
from visiontl_style.model import LEAST_DISTANCE


def loss(
    cfg: StyleConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"loss": (), "content", "style", "tv": their unweighted parts, and "style.LAYER" for each layer}."""
    style = outputs["style"]  # (B, layers)
    layers = layer_weights(cfg, style.shape[1])
    relative = style / outputs["plain_style"].clamp(min=LEAST_DISTANCE) if cfg.equalise else style
    parts = {
        "content": outputs.get("target", outputs["content"]).mean(),
        "style": (relative * style.new_tensor(list(layers.values()))).sum(1).mean(),
        "tv": outputs["tv"].mean(),
    }
    total = cfg.content_weight * parts["content"] + cfg.style_weight * parts["style"] + cfg.tv_weight * parts["tv"]
    return {"loss": total, **parts, **{f"style.{name}": style[:, i].mean() for i, name in enumerate(layers)}}


def layer_weights(cfg: StyleConfig, count: int) -> dict[str, float]:
    """Style layer -> its share. With `auto` all `count` layers weigh alike."""
    if isinstance(cfg.style_layers, str):
        return {f"map{i}": 1 / count for i in range(count)}
    total = sum(cfg.style_layers.values())
    return {name: weight / total for name, weight in cfg.style_layers.items()}
