"""Samples to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from visiontl_ssl.config import SslConfig


def collate(
    cfg: SslConfig, samples: Sequence[Mapping[str, Any]], generator: torch.Generator | None, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """{"image": (B, 3, H, W) uint8, and "other" like it where there are two views}."""
    keys = [key for key in ("image", "other") if key in samples[0]]
    return {key: torch.stack([one[key] for one in samples]) for key in keys}
