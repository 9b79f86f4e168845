"""Where training begins: at the training-free embedding, with each class weight in the middle of its images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from visiontl_face.config import FaceConfig
from visiontl_face.model import FaceNetwork
from visiontl_face.neck import projection

MOST = 20_000  # images that the statistics are taken of; more would not change them
SPREAD = 0.1  # standard deviation of sub-centers around their class's, relative to its length


def start(cfg: FaceConfig, model: FaceNetwork, batches: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
    """Set the center, the neck (unless neck.start: random) and the class weights from the training images.

    Class weights become the mean embedding of their images (Qi et al. 2018, weight imprinting), because random ones
    would first pull a good embedding apart. An identity that is not among the first 20,000 images keeps its random one.
    """
    pooled, labels = gather(model, batches)
    model.center.copy_(pooled.double().mean(0))
    if cfg.neck.start != "random":
        shrinkage = cfg.neck.shrinkage if cfg.neck.start == "whitened" else None
        model.neck.set_start(projection(pooled, labels, cfg.dimension, shrinkage), pooled)
        if model.head is not None:
            imprint(model, pooled, labels)


def gather(model: FaceNetwork, batches: Iterable[Mapping[str, Any]]) -> tuple[Tensor, Tensor]:
    """Features (N, E) and labels (N,) of at most MOST images, on the CPU."""
    pooled, labels, count = [], [], 0
    for batch in batches:
        pooled.append(model.features(batch["image"]).cpu())
        labels.append(batch["label"].cpu())
        count += len(labels[-1])
        if count >= MOST:
            break
    return torch.cat(pooled), torch.cat(labels)


def imprint(model: FaceNetwork, pooled: Tensor, labels: Tensor) -> None:
    """Class weights from the mean embedding of their images, for the classes that have any."""
    assert model.head is not None
    weight = model.head.weight  # (C, K, d)
    embedding = F.normalize(model.neck(pooled.to(weight.device)), dim=1).cpu()  # (N, d)
    made = class_weights(embedding, labels, len(weight), weight.shape[1])
    present = torch.bincount(labels, minlength=len(weight)) > 0
    weight[present.to(weight.device)] = made[present].to(weight)


def class_weights(embedding: Tensor, labels: Tensor, classes: int, sub_centers: int) -> Tensor:
    """(C, K, d): the normalized mean embedding of each class; its sub-centers a little around it, from torch's own
    generator. embedding: (N, d); labels: (N,). Zeros, and noise, for a class without an image."""
    sums = torch.zeros(classes, embedding.shape[1]).index_add_(0, labels, embedding.float())  # (C, d)
    centers = F.normalize(sums, dim=1)[:, None].repeat(1, sub_centers, 1)
    if sub_centers > 1:
        centers += torch.randn(centers.shape) * SPREAD / embedding.shape[1] ** 0.5
    return centers
