"""From pooled features to an embedding: dropout, linear, BatchNorm; and where it starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Neck(nn.Module):
    """(B, E) -> (B, d), not normalized. In fp32: it is small, and cosines near 1 lose digits in half precision.

    BatchNorm of one image alone in training uses the running statistics.
    """

    def __init__(self, width: int, dimension: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, dimension, bias=False)  # BatchNorm has one
        self.norm = nn.BatchNorm1d(dimension)

    def forward(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            x = self.linear(self.dropout(pooled.float()))  # (B, d)
            if self.training and len(x) == 1:
                norm = self.norm
                return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
            return self.norm(x)

    @torch.no_grad()
    def set_start(self, projection: Tensor, pooled: Tensor) -> None:
        """Make the neck compute projection @ (p - mean of pooled), exactly so in evaluation.

        projection: (d, E). pooled: (N, E) features of the training images. BatchNorm divides by the deviation, and its
        weight starts as that deviation.
        """
        self.linear.weight.copy_(projection)
        x = pooled.double() @ projection.double().T  # (N, d)
        variance = x.var(0, correction=0).to(torch.float32)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        self.norm.running_mean.copy_(x.mean(0))
        self.norm.running_var.copy_(variance)
        self.norm.weight.copy_((variance + self.norm.eps).sqrt())
        self.norm.bias.zero_()


def projection(pooled: Tensor, labels: Tensor, dimension: int, shrinkage: float | None) -> Tensor:
    """(d, E): what the linear layer starts as. Without whitening an orthonormal frame: the identity where d = E, else
    the d directions in which the training features vary most, so that cosines change least.

    pooled: (N, E); labels: (N,) identities. shrinkage: for whitening by the covariance W within identities, drawn
    towards the identity matrix as (1 - s) W + s tr(W) / E (Ledoit and Wolf 2004, with s given); features are
    multiplied by its inverse square root (as in WCCN, Hatch et al. 2006), scaled to keep their mean size. None: no
    whitening.
    """
    features = pooled.double() - pooled.double().mean(0)  # (N, E)
    width = features.shape[1]
    whitening = torch.eye(width, dtype=torch.float64)
    if shrinkage is not None:
        within = features.clone()
        for label in labels.unique():
            within[labels == label] -= within[labels == label].mean(0)
        covariance = within.T @ within / len(within)  # (E, E)
        level = float(covariance.trace()) / width
        if level > 0:  # one image per identity says nothing of the spread within
            blended = (1 - shrinkage) * covariance + shrinkage * level * torch.eye(width, dtype=torch.float64)
            values, vectors = torch.linalg.eigh(blended)
            whitening = vectors @ torch.diag((values / level).rsqrt()) @ vectors.T  # (E, E)
            features = features @ whitening
    if dimension >= width:
        start = torch.zeros(dimension, width, dtype=torch.float64)
        start[:width] = whitening
        return start.float()
    _, vectors = torch.linalg.eigh(features.T @ features)  # ascending
    return (vectors[:, -dimension:].flip(1).T @ whitening).float()
