"""A backbone with a classification head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Backbone, BackboneError, OriginalHead
from visiontl.kit.classes import names_in
from visiontl.kit.words import count
from visiontl_classification.config import ClassificationConfig

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow turns RGB to gray


def model(cfg: ClassificationConfig, backbone: Backbone, meta: Mapping[str, Any]) -> nn.Module:
    """The classifier that cfg.head describes. Raises BackboneError for a backbone that cannot serve."""
    if backbone.in_channels not in (1, 3):
        raise BackboneError(
            f"backbone.in_channels: {backbone.in_channels}: classification reads photos, so 3 (RGB) or 1 (gray)"
        )
    classes = len(names_in(meta))
    if cfg.head.kind == "linear":
        return Classifier(backbone, linear_head(cfg, backbone.embed_dim, classes))
    head = backbone.classifier()
    if head.num_classes != classes:
        raise BackboneError(
            f"task.head: original: the head of {backbone.name} has {count(head.num_classes, 'class')}, the data "
            f"{classes}; "
            "use head: linear for your own classes, or folders named by ImageNet's ids, or "
            "task.data.class_names with "
            "a line per class of the head"
        )
    return Classifier(backbone, head)


def linear_head(cfg: ClassificationConfig, width: int, classes: int) -> nn.Module:
    """(B, width) -> (B, classes) logits.

    The last layer starts from a truncated normal of standard deviation 0.01, so all classes start nearly
    equal; that and BatchNorm1d without scale are the linear probe of MAE (He et al. 2022, A.1).
    """
    layers: list[nn.Module] = []
    if cfg.head.norm == "batchnorm":
        layers.append(nn.BatchNorm1d(width, affine=False, eps=1e-6))
    if cfg.head.hidden is not None:
        layers += [nn.Linear(width, cfg.head.hidden), nn.GELU()]
        width = cfg.head.hidden
    if cfg.head.dropout > 0:
        layers.append(nn.Dropout(cfg.head.dropout))
    last = nn.Linear(width, classes)
    nn.init.trunc_normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class Classifier(nn.Module):
    """forward(batch) -> {"logits": (B, K)}."""

    def __init__(self, backbone: Backbone, head: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        image = batch["image"]  # (B, 3, H, W)
        if self.backbone.in_channels == 1 and image.shape[1] == 3:
            image = gray(image)  # (B, 1, H, W)
        if isinstance(self.head, OriginalHead):
            if self.head.reads == "map":
                features = self.backbone(image, maps=(len(self.backbone.channels) - 1,))
            else:
                features = self.backbone(image, pooled=True)
            return {"logits": self.head(features)}
        return {"logits": self.head(self.backbone(image, pooled=True).pooled)}


def gray(image: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 or 0..1 -> (B, 1, H, W) 0..1."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    weights = torch.tensor(LUMA, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)
