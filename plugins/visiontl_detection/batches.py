"""Which images share a batch, and what a batch holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from visiontl_detection.config import DetectionConfig


def collate(
    cfg: DetectionConfig,
    samples: Sequence[Mapping[str, Any]],
    generator: torch.Generator | None,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples -> {"image": list of (3, h, w) uint8, "size": (B, 2) H and W of the photos}, and where they have them
    "boxes", "labels" and "truth", lists."""
    batch: dict[str, Any] = {
        "image": [sample["image"] for sample in samples],
        "size": torch.tensor([sample["size"] for sample in samples]),  # (B, 2)
    }
    for key in ("boxes", "labels", "truth"):
        if key in samples[0]:
            batch[key] = [sample[key] for sample in samples]
    return batch


def grouped(sizes: Mapping[str, np.ndarray], split: str, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
    """Full batches of upright or of other images alone, in random order; what is left of both shares the last ones.

    sizes: per split (N, 2) H and W. Every epoch starts afresh from (seed, epoch) and has as many batches. Splits
    other than train come in order, whole.
    """
    count = len(sizes[split])
    if split != "train":
        return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    rng = np.random.default_rng([seed, epoch])
    batch_size = min(batch_size, count)
    upright = sizes[split][:, 0] > sizes[split][:, 1]  # (N,)
    whole, rest = [], []
    for members in (np.flatnonzero(upright), np.flatnonzero(~upright)):
        drawn = rng.permutation(members)
        full = len(drawn) // batch_size * batch_size
        whole += drawn[:full].reshape(-1, batch_size).tolist()
        rest += drawn[full:].tolist()
    rest = rng.permutation(rest).tolist() if rest else []
    whole += [rest[i : i + batch_size] for i in range(0, len(rest) // batch_size * batch_size, batch_size)]
    return [whole[i] for i in rng.permutation(len(whole))]
