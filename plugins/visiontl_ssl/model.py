"""SimSiam (Chen and He 2021, Exploring simple Siamese representation learning) on a backbone of the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Backbone, BackboneError, TrainingError
from visiontl_ssl.config import SslConfig


def model(cfg: SslConfig, backbone: Backbone, meta: Mapping[str, Any]) -> nn.Module:
    """Raises BackboneError for a backbone that takes no photos."""
    if backbone.in_channels != 3:
        raise BackboneError(f"backbone.in_channels: {backbone.in_channels}: views are RGB photos, so 3")
    return SimSiam(backbone, cfg.width, cfg.hidden)


class SimSiam(nn.Module):
    """forward(batch) -> {"pooled": (B, E) of the first view, "z": (B, V, d) projections, "p": (B, V, d) predictions},
    of V = 2 views, or of one where the batch has one."""

    def __init__(self, backbone: Backbone, width: int, hidden: int):
        super().__init__()
        self.backbone = backbone
        inner = backbone.embed_dim
        self.projector = nn.Sequential(
            *(nn.Linear(inner, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()),
            *(nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=False)),
        )
        self.predictor = nn.Sequential(
            *(nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()),
            nn.Linear(hidden, width),
        )

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.training and len(batch["image"]) == 1:
            raise TrainingError(
                "one photo in a batch: its projections are normalized over the batch, which needs two or more; choose "
                "a train.batch_size that leaves no single photo at an epoch's end"
            )
        views = [batch[key] for key in ("image", "other") if key in batch]
        pooled = [self.backbone(view, pooled=True).pooled for view in views]  # as in the paper, each for itself
        z = [self.projector(one) for one in pooled]
        p = [self.predictor(one) for one in z]
        return {"pooled": pooled[0], "z": torch.stack(z, 1), "p": torch.stack(p, 1)}
