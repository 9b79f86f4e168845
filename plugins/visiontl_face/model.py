"""A backbone with a neck and, where the loss has class weights, a head that only training uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visiontl import Backbone, BackboneError
from visiontl.kit.classes import names_in
from visiontl_face.config import FaceConfig
from visiontl_face.margins import MarginHead
from visiontl_face.neck import Neck

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow turns RGB to gray


def model(cfg: FaceConfig, backbone: Backbone, meta: Mapping[str, Any]) -> nn.Module:
    """The network that cfg describes. Raises BackboneError for a backbone that cannot serve."""
    if backbone.in_channels not in (1, 3):
        raise BackboneError(
            f"backbone.in_channels: {backbone.in_channels}: faces are photos, so 3 (RGB) or 1 (gray) is needed"
        )
    head = None
    if cfg.loss.name != "triplet":
        classes = len(names_in(meta, "identities"))
        head = MarginHead(classes, cfg.loss.sub_centers, cfg.dimension, cfg.loss.margins(), cfg.loss.scale)
    neck = Neck(backbone.embed_dim, cfg.dimension, cfg.neck.dropout)
    return FaceNetwork(backbone, neck, head, cfg.flip)


class FaceNetwork(nn.Module):
    """forward(batch), training: {"embedding": (B, d) normalized, and "logits": (B, C) with the margin where there is a
    head}. Evaluation: {"embedding", and "pooled", "centered": (B, E), the same made of the backbone's features as they
    are and without the training mean}; with flip each is the sum of the image's and its mirror image's, normalized.

    center: (E,) mean of the training images' features before training; zeros until `start` was called.
    """

    center: Tensor

    def __init__(self, backbone: Backbone, neck: Neck, head: MarginHead | None, flip: bool):
        super().__init__()
        self.backbone, self.neck, self.head, self.flip = backbone, neck, head, flip
        self.register_buffer("center", torch.zeros(backbone.embed_dim))

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.training:
            embedding = F.normalize(self.neck(self.features(batch["image"])), dim=1)  # (B, d)
            if self.head is None:
                return {"embedding": embedding}
            return {"embedding": embedding, "logits": self.head(embedding, batch["label"])}
        views = [self.views(batch["image"])]
        if self.flip:
            views.append(self.views(batch["image"].flip(3)))
        return {name: F.normalize(sum(view[name] for view in views), dim=1) for name in views[0]}  # type: ignore

    def views(self, image: Tensor) -> dict[str, Tensor]:
        """The embedding of one view, and the two that need no training; all normalized."""
        pooled = self.features(image)  # (B, E)
        found = {"embedding": self.neck(pooled), "pooled": pooled, "centered": pooled - self.center}
        return {name: F.normalize(values, dim=1) for name, values in found.items()}

    def features(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E) in fp32."""
        if self.backbone.in_channels == 1:
            image = gray(image)  # (B, 1, H, W)
        pooled = self.backbone(image, pooled=True).pooled
        assert pooled is not None
        return pooled.float()


def gray(image: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 or 0..1 -> (B, 1, H, W) 0..1."""
    image = image.float() / 255 if image.dtype == torch.uint8 else image
    weights = torch.tensor(LUMA, device=image.device, dtype=image.dtype).view(1, 3, 1, 1)
    return (image * weights).sum(1, keepdim=True)
