"""Samples of a batch side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from visiontl_style.config import StyleConfig


def collate(
    cfg: StyleConfig, samples: Sequence[Mapping[str, Any]], generator: torch.Generator | None, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """{"image": (B, 3, S, S) uint8, "style": (B,) numbers of styles, or (B, 3, S, S) uint8 with adain}; of photos to
    predict no style, and "photo": [(3 or 4, H, W) uint8]."""
    batch: dict[str, Any] = {"image": torch.stack([sample["image"] for sample in samples])}
    if "photo" in samples[0]:
        batch["photo"] = [sample["photo"] for sample in samples]
    elif cfg.way == "adain":
        batch["style"] = torch.stack([sample["style"] for sample in samples])
    else:
        batch["style"] = torch.tensor([sample["style"] for sample in samples])
    return batch
