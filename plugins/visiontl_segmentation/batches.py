"""What a batch holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from visiontl_segmentation.config import SegmentationConfig


def collate(
    cfg: SegmentationConfig,
    samples: Sequence[Mapping[str, Any]],
    generator: torch.Generator | None,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples -> {"image": (B, 3, H, W) uint8, or a list of (3, H, W) where their sizes differ, so that none depends
    on its neighbors}, and what the samples have of: "mask" like it, "size" and "shown" (B, 2), "truth" a list of
    (H, W), "photo" a list of PIL images."""
    batch: dict[str, Any] = {}
    for key in ("image", "mask"):
        if key in samples[0]:
            tensors = [sample[key] for sample in samples]
            batch[key] = torch.stack(tensors) if len({one.shape for one in tensors}) == 1 else tensors
    for key in ("size", "shown"):
        if key in samples[0]:
            batch[key] = torch.tensor([sample[key] for sample in samples])  # (B, 2)
    for key in ("truth", "photo"):
        if key in samples[0]:
            batch[key] = [sample[key] for sample in samples]
    return batch
