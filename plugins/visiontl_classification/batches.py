"""Which images share a batch, and what becomes of them there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl_classification.config import ClassificationConfig


def collate(
    cfg: ClassificationConfig,
    samples: Sequence[Mapping[str, Any]],
    generator: torch.Generator | None,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples -> {"image": (B, 3, H, W) uint8, "size": (B, 2) H and W of the photos, "label"}.

    label: (B,) int64, or (B, K) float for multi-label; absent where the samples have none. With mixup or
    CutMix in training (generator given), image is 0..1 float and label (B, K) float, in unmixed batches too.
    """
    batch: dict[str, Any] = {
        "image": torch.stack([sample["image"] for sample in samples]),  # (B, 3, H, W)
        "size": torch.tensor([sample["size"] for sample in samples]),  # (B, 2)
    }
    if "label" not in samples[0]:
        return batch
    label = torch.from_numpy(np.stack([sample["label"] for sample in samples]))  # (B,) or (B, K)
    batch["label"] = label.float() if cfg.labels == "multi" else label.long()
    if generator is not None and (cfg.mixup > 0 or cfg.cutmix > 0):
        batch.update(_mixed(cfg, batch["image"], batch["label"], generator, len(meta["classes"])))
    return batch


def _mixed(
    cfg: ClassificationConfig, image: Tensor, label: Tensor, generator: torch.Generator, classes: int
) -> dict[str, Tensor]:
    """mixup (Zhang et al. 2018) or CutMix (Yun et al. 2019), one drawn for the batch where both are on."""
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    image = image.float() / 255  # (B, 3, H, W) 0..1
    if label.ndim == 1:
        label = torch.nn.functional.one_hot(label, classes).float()  # (B, K)
    chosen = rng.random() < cfg.mix_probability
    cut = rng.random() < 0.5 if cfg.mixup > 0 and cfg.cutmix > 0 else cfg.cutmix > 0
    if not chosen:
        return {"image": image, "label": label}
    partner = torch.from_numpy(rng.permutation(len(image)))
    alpha = cfg.cutmix if cut else cfg.mixup
    share = float(rng.beta(alpha, alpha))  # of the image itself
    if cut:
        height, width = image.shape[2:]
        y, x = int(rng.integers(height)), int(rng.integers(width))
        half_h, half_w = int(height * np.sqrt(1 - share) / 2), int(width * np.sqrt(1 - share) / 2)
        top, bottom = max(0, y - half_h), min(height, y + half_h)
        left, right = max(0, x - half_w), min(width, x + half_w)
        pasted = image.clone()
        pasted[:, :, top:bottom, left:right] = image[partner, :, top:bottom, left:right]
        image = pasted
        share = 1 - (bottom - top) * (right - left) / (height * width)  # what really stayed
    else:
        image = image * share + image[partner] * (1 - share)
    return {"image": image, "label": label * share + label[partner] * (1 - share)}


def balanced_batches(
    targets: Mapping[str, np.ndarray], split: str, seed: int, epoch: int, batch_size: int
) -> list[list[int]]:
    """Full batches in which every class comes equally often, give or take one; as many as shuffling gives.

    targets: (N,) class indices per split. Within an epoch no image of a class comes again before all of them
    came. Every epoch starts afresh from (seed, epoch). Splits other than train come in order, whole.
    """
    labels = targets[split]
    count = len(labels)
    if split != "train":
        return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    rng = np.random.default_rng([seed, epoch])
    batch_size = min(batch_size, count)
    total = count // batch_size * batch_size
    present = np.unique(labels)
    rounds = -(-total // len(present))  # images of each class
    columns = []
    for label in present:
        members = np.flatnonzero(labels == label)
        turns = [rng.permutation(members) for _ in range(-(-rounds // len(members)))]
        columns.append(np.concatenate(turns)[:rounds])
    grid = rng.permuted(np.stack(columns, axis=1), axis=1)  # (rounds, classes): one of each, in any order
    order = grid.reshape(-1)[:total]
    return [[int(i) for i in order[start : start + batch_size]] for start in range(0, total, batch_size)]
