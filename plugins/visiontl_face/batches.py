"""Which images share a batch, and what a batch holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from visiontl import DataError
from visiontl_face.config import FaceConfig


def collate(
    cfg: FaceConfig,
    samples: Sequence[Mapping[str, Any]],
    generator: torch.Generator | None,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples -> {"image": (B, 3, H, W) uint8, "label": (B,) int64, "about": a mapping per image}; photos to predict
    have neither label nor about."""
    batch: dict[str, Any] = {"image": torch.stack([sample["image"] for sample in samples])}  # (B, 3, H, W)
    if "label" in samples[0]:
        batch["label"] = torch.tensor([sample["label"] for sample in samples])  # (B,)
        batch["about"] = [sample["about"] for sample in samples]
    return batch


def identity_batches(
    labels: np.ndarray, each: int, split: str, seed: int, epoch: int, batch_size: int
) -> list[list[int]]:
    """Batches of P people with K images each, P x K = batch_size (Hermans et al. 2017, sec. 2); as many as shuffling
    would give.

    labels: (N,) class indices. each: K, at most batch_size. People come in random order, each as often as any other,
    give or take one; within a person no image comes again before all did, over the whole epoch, and one with fewer
    than K images has some of them twice in a batch. Every epoch starts afresh from (seed, epoch). Splits other than
    train come in order. Raises DataError where a batch wants more people than there are.
    """
    count = len(labels)
    if split != "train":
        return [list(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    each = min(each, batch_size)
    wanted, people = batch_size // each, np.unique(labels)
    if wanted > len(people):
        raise DataError(
            f"train.batch_size {batch_size} with task.images_per_identity {each} wants {wanted} people in a batch, and "
            f"train has {len(people)}; make train.batch_size at most {len(people) * each}, or images_per_identity at "
            f"least {-(-batch_size // len(people))}"
        )
    rng = np.random.default_rng([seed, epoch])
    queues: dict[int, list[int]] = {int(label): [] for label in people}
    waiting: list[int] = []
    batches = []
    for _ in range(max(1, count // (wanted * each))):
        waiting = refilled(waiting, people, wanted, rng)
        chosen, waiting = waiting[:wanted], waiting[wanted:]
        batch: list[int] = []
        for label in chosen:
            queue = refilled(queues[label], np.flatnonzero(labels == label), each, rng)
            batch += queue[:each]
            queues[label] = queue[each:]
        batches.append(batch)
    return batches


def refilled(queue: list[int], members: np.ndarray, wanted: int, rng: np.random.Generator) -> list[int]:
    """The queue, followed by rounds of all members in random order until it is long enough. Who waits already comes
    last in a new round, so that nobody stands twice among the first len(members)."""
    while len(queue) < wanted:
        others = members[~np.isin(members, queue)]
        queue = queue + rng.permutation(others).tolist() + rng.permutation(members[np.isin(members, queue)]).tolist()
    return queue
