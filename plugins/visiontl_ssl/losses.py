"""The symmetric loss of SimSiam, and how far a batch is from the collapse that would make it least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from visiontl_ssl.config import SslConfig


def loss(
    cfg: SslConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    """{"loss": the mean over photos of the negative cosines, -1..1; "spread": of this batch, as in the scores}."""
    z, p = outputs["z"].float().detach(), outputs["p"].float()
    return {"loss": each(z, p).mean(), "spread": spread(z[:, 0])}


def each(z: Tensor, p: Tensor) -> Tensor:
    """Projections and predictions of two views, (B, 2, d) each -> (B,): the mean of both negative cosines between a
    view's prediction and the other's projection (eq. 1 and 2). The projection gets no gradient, which is the caller's
    to see to: without that all photos would soon have one embedding."""
    return -(F.cosine_similarity(p[:, 0], z[:, 1], dim=1) + F.cosine_similarity(p[:, 1], z[:, 0], dim=1)) / 2


def spread(z: Tensor) -> Tensor:
    """(N, d) -> (): the standard deviation of each number of the normalized projections, the mean over them, times the
    root of d: 1 where they point everywhere, 0 where all photos have one (section 4.1)."""
    normed = F.normalize(z, dim=1)
    return normed.std(0, correction=0).mean() * z.shape[1] ** 0.5
