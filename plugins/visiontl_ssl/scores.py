"""One record per photo, and what can be measured without a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from visiontl_ssl.config import SslConfig
from visiontl_ssl.losses import each

TOGETHER = 1024  # photos whose similarities are computed at once
COLLAPSED = 0.1  # of spread, below which photos are hardly told apart


def rows(
    cfg: SslConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """{"loss": of the photo's two views, "views": (2, d) fp16, their normalized projections}."""
    z, p = outputs["z"].float(), outputs["p"].float()
    views = F.normalize(z, dim=2).half().cpu().numpy()
    return [{"loss": value, "views": views[i]} for i, value in enumerate(each(z, p).tolist())]


def score(cfg: SslConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """retrieved: the share of photos whose view is nearer to the photo itself than to every other photo, chance being
    1 / photos: a tie counts as none, so one embedding for all gives 0. spread: as in the loss, of the photos as they
    are. loss: of SimSiam, which alone says nothing: it is least where all photos have one embedding."""
    views = np.stack([row["views"] for row in rows]).astype(np.float32)  # (N, 2, d)
    first, second = views[:, 0], views[:, 1]
    found = 0
    for begin in range(0, len(rows), TOGETHER):
        similar = second[begin : begin + TOGETHER] @ first.T  # (n, N)
        place = np.arange(len(similar))
        own = similar[place, begin + place].copy()
        similar[place, begin + place] = -np.inf
        found += int((own > similar.max(1)).sum()) if len(rows) > 1 else 0
    return {
        "retrieved": found / len(rows),
        "spread": float(first.std(0).mean() * first.shape[1] ** 0.5),
        "loss": float(np.mean([row["loss"] for row in rows])),
    }


def trivial(
    cfg: SslConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    return "one embedding for all photos", [{"loss": -1.0, "views": np.ones_like(rows[0]["views"])} for _ in rows]
