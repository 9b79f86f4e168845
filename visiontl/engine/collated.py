"""Batches of cached features that are collated once and then only indexed: a head's update costs little else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from visiontl.engine import loader
from visiontl.engine.feature_cache import CachedBatches
from visiontl.engine.order import Key
from visiontl.processes.seeds import BATCH, generator

PAYS_FROM = 5  # epochs: it costs what collating costs in two of them
IMAGE = "image"


class Collated(loader.Batches):
    """Batches of rows that were collated before. columns: {key of the batch: (views * images, ...)}."""

    at_hand = True
    columns: dict[str, Tensor]
    images: int
    views: int

    def __getitem__(self, key: Key) -> dict[str, Any]:
        ids, epoch, step = key
        rows = found = torch.tensor(ids)
        if self.views > 1:
            rows = found + (epoch % self.views) * self.images
        batch = {name: column[rows] for name, column in self.columns.items() if name != IMAGE}
        image = self.columns[IMAGE]
        batch[IMAGE] = image.expand(len(ids), *image.shape[1:])
        return {**batch, "id": found, "step": step, "progress": 0.0}


def collate_once(batches: loader.Batches, batch_size: int, epochs: int) -> loader.Batches:
    """The same batches, collated beforehand where that gives the same: a batch holds tensors with a row for each image
    (of one shape; the placeholder of the image aside), draws no random number, and a row is the same whoever shares
    its batch, tried on every image in two groupings. Else the batches as they were."""
    if epochs < PAYS_FROM or not isinstance(batches, CachedBatches):
        return batches
    cache = batches.cache
    rows = cache.images * cache.views
    first = _columns(batches, torch.arange(rows).split(batch_size))
    if first is None:
        return batches
    mixed = torch.randperm(rows, generator=generator(batches.seed, BATCH))
    second = _columns(batches, mixed.split(max(1, batch_size // 2 + 1)))
    if second is None or not _same(first, second, mixed):
        return batches
    made = Collated(batches.split, batches.collate, batches.cfg, batches.meta, batches.seed, batches.training)
    made.columns, made.images, made.views = first, cache.images, cache.views
    return made


def _columns(batches: CachedBatches, groups: Iterable[Tensor]) -> dict[str, Tensor] | None:
    """{key: (rows, ...)} of collated groups of rows, in their order; the image as (1, 3, H, W). None where a batch
    holds anything else, or drew a random number."""
    found: dict[str, list[Tensor]] = {}
    drawn = generator(batches.seed, BATCH)
    before = drawn.get_state(), torch.get_rng_state()
    for group in groups:
        samples = [dict(batches.cache.samples[row]) for row in group.tolist()]
        batch = batches.collate(batches.cfg, samples, drawn if batches.training else None, batches.meta)
        if not all(_has_rows(value, len(samples)) for value in batch.values()):
            return None
        image = batch[IMAGE]
        if any(image.stride()):  # no placeholder: what stands there was made of it
            return None
        for name, value in batch.items():
            found.setdefault(name, []).append(value[:1] if name == IMAGE else value)
    after = drawn.get_state(), torch.get_rng_state()
    lengths = {len(parts) for parts in found.values()}
    if len(lengths) != 1 or not all(map(torch.equal, before, after)) or not all(map(_alike, found.values())):
        return None
    return {name: parts[0] if name == IMAGE else torch.cat(parts) for name, parts in found.items()}


def _has_rows(value: Any, count: int) -> bool:
    return type(value) is Tensor and value.ndim > 0 and len(value) == count and not value.requires_grad


def _alike(parts: Sequence[Tensor]) -> bool:
    return len({(part.dtype, part.shape[1:]) for part in parts}) == 1


def _same(first: dict[str, Tensor], second: dict[str, Tensor], order: Tensor) -> bool:
    """Whether rows in their own order and in another are the same bits."""
    return first.keys() == second.keys() and all(
        value.dtype == second[name].dtype
        and value.shape == second[name].shape
        and (name == IMAGE or value[order].numpy().tobytes() == second[name].numpy().tobytes())
        for name, value in first.items()
    )
