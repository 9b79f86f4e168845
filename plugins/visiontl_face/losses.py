"""Cross entropy on margin logits, and batch-hard triplets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontl_face.config import FaceConfig

TINY = 1e-12  # squared distances below it count as it: the root's derivative stays finite (5e5)


def loss(
    cfg: FaceConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"loss"}: in nats for a margin softmax, with "train_accuracy" of the margin's logits; a distance for triplets,
    with "active", the share of anchors that the margin is not met for."""
    label = batch["label"]
    if cfg.loss.name == "triplet":
        distances, valid = hardest(outputs["embedding"], label)
        return triplets(distances, valid, cfg.loss.margin)
    logits = outputs["logits"]  # (B, C)
    right = (logits.detach().argmax(1) == label).float().mean()
    return {"loss": F.cross_entropy(logits, label), "train_accuracy": right}


def hardest(embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(2, B): for each anchor the largest distance to an image of the same person and the smallest to another's, as
    Euclidean distances of normalized embeddings, 0..2; and whether it has both (Hermans et al. 2017, eq. 5).

    embedding: (B, d) normalized. Mined within this process's batch.
    """
    squared = (2 - 2 * embedding @ embedding.T).clamp(min=TINY)  # (B, B)
    distance = squared.sqrt()
    same = label[:, None] == label[None]  # (B, B)
    positive = same & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    far = distance.masked_fill(~positive, -torch.inf).amax(1)
    near = distance.masked_fill(same, torch.inf).amin(1)
    return torch.stack([far, near]), positive.any(1) & (~same).any(1)


def triplets(distances: Tensor, valid: Tensor, margin: float) -> dict[str, Tensor]:
    """Mean of max(0, farthest positive - nearest negative + margin) over the anchors that have both; zero, with
    gradients of zero, where none has."""
    far, near = torch.where(valid, distances, torch.zeros_like(distances))
    cost = F.relu(far - near + margin) * valid
    count = valid.sum().clamp(min=1)
    return {"loss": cost.sum() / count, "active": (cost.detach() > 0).sum() / count}


def teach(
    cfg: FaceConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The embedding (B, d), normalized. Logits belong to the identities of one training set alone."""
    return {"embedding": outputs["embedding"]}
