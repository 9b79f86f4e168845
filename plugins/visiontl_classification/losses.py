"""Cross entropy for one class per image, binary cross entropy for any number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontl_classification.config import ClassificationConfig


def loss(
    cfg: ClassificationConfig,
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> dict[str, Tensor]:
    """{"loss": what is minimized, in nats}; where weights or smoothing change it, the plain "cross_entropy" or
    "binary_cross_entropy" too.

    Class weights multiply each image's loss, and the mean is over images: unlike PyTorch's mean by the sum of
    the weights it adds up over micro-batches and ranks. Label smoothing: Szegedy et al. 2016, section 7; for
    multi-label each target moves to 1/2 by that share.
    """
    logits = outputs["logits"].float()  # (B, K)
    label = batch["label"].to(logits.device)  # (B,) or (B, K)
    weight = class_weights(cfg, meta)
    weight = None if weight is None else weight.to(logits.device)
    plain = weight is None and cfg.label_smoothing == 0
    if cfg.labels == "multi":
        target = label * (1 - cfg.label_smoothing) + cfg.label_smoothing / 2
        value = F.binary_cross_entropy_with_logits(logits, target, pos_weight=weight)
        other = {} if plain else {"binary_cross_entropy": F.binary_cross_entropy_with_logits(logits.detach(), label)}
        return {"loss": value, **other}
    value = F.cross_entropy(logits, label, weight=weight, label_smoothing=cfg.label_smoothing, reduction="none").mean()
    other = {} if plain else {"cross_entropy": F.cross_entropy(logits.detach(), label)}
    return {"loss": value, **other}


def class_weights(cfg: ClassificationConfig, meta: Mapping[str, Any]) -> Tensor | None:
    """(K,) weights, or None. balanced: images / (classes x images of the class) (King and Zeng 2001, as in
    scikit-learn); for multi-label the weight of a present class, images without it / images with it. A class
    without images weighs 1."""
    if cfg.class_weights == "none":
        return None
    if isinstance(cfg.class_weights, list):
        return torch.tensor(cfg.class_weights)
    counts = torch.tensor(meta["counts"], dtype=torch.float64)  # (K,)
    if cfg.labels == "multi":
        balanced = (meta["images"] - counts).clamp(min=1) / counts.clamp(min=1)
    else:
        balanced = counts.sum() / ((counts > 0).sum() * counts.clamp(min=1))
    return torch.where(counts > 0, balanced, 1.0).float()


def teach(
    cfg: ClassificationConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The logits (B, K); of images with one class each beside their labels, (B,) or, where they are mixed, (B, K)."""
    if cfg.labels == "multi":
        return {"binary": outputs["logits"]}
    return {"logits": outputs["logits"], "label": batch["label"].to(outputs["logits"].device)}
