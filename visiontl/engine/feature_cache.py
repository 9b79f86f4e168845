"""Features of a backbone that never changes in a run, computed once: the head then trains in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visiontl.backbone import Features
from visiontl.engine import loader
from visiontl.engine.model import Built
from visiontl.features.store import Rows
from visiontl.freezing.probe import Probe
from visiontl.processes.seeds import SAMPLE, mix
from visiontl.task import SampleDataset


@dataclass
class FeatureCache:
    """Features and image-free samples of one split, for `views` deterministic views of each image; in memory, or as
    Rows in files that are mapped into it.

    Row view * images + id of each tensor belongs to that view of that image.
    """

    images: int
    views: int
    samples: list[dict[str, Any]]
    maps: list[Tensor | Rows]  # each (views * images, C, h, w)
    pooled: Tensor | Rows | None  # (views * images, embed_dim)
    layers: dict[str, Tensor | Rows] = field(default_factory=dict)
    half: bool = False  # what was fp32 is kept as fp16

    def at(self, ids: Tensor, epoch: int, device: torch.device) -> Features:
        """The features of a batch's images, on the device. ids: (B,), on the CPU."""
        rows = ids if self.views == 1 else ids + (epoch % self.views) * self.images  # (B,)

        def pick(stored: Tensor | Rows) -> Tensor:
            found = stored[rows].to(device, non_blocking=True)
            return found.float() if self.half and found.dtype == torch.float16 else found

        return Features(
            [pick(level) for level in self.maps],
            None if self.pooled is None else pick(self.pooled),
            {name: pick(layer) for name, layer in self.layers.items()},
        )


def why_not(
    probe: Probe, batch: Mapping[str, Any], samples: list[dict], again: list[list[dict]], views: int | None
) -> str:
    """Why features cannot be cached, or an empty string.

    samples: the batch's, as the data set gave them; again: the first of them under other seeds.
    """
    if len(probe.calls) != 1:
        return f"the model calls its backbone {len(probe.calls)} times per batch"
    image = batch.get("image")
    if not isinstance(image, Tensor) or probe.calls[0][0] is not image:
        return "the backbone is not fed the batch's images as they are"
    mixed = "collate changes the images (mixing or resizing)"
    given = [sample["image"] for sample in samples if isinstance(sample.get("image"), Tensor)]
    if not len(given) == len(samples) == len(image) or any(one.dtype != image.dtype for one in given):
        return mixed
    if any(
        one.shape != image.shape[1:] or not torch.equal(one, row) for one, row in zip(given, image.cpu(), strict=True)
    ):
        return mixed
    fixed = all(torch.equal(a["image"], b["image"]) for look in again for a, b in zip(samples, look, strict=False))
    if not fixed and views is None:
        return "the images are augmented anew in each epoch (features.views: k keeps k views)"
    return ""


class CachedBatches(loader.Batches):
    """Batches whose samples carry a blank placeholder in place of the image: nothing is decoded."""

    cache: FeatureCache
    at_hand = True

    def samples(self, ids: Iterable[int], epoch: int) -> list[dict[str, Any]]:
        first = (epoch % self.cache.views) * self.cache.images
        return [dict(self.cache.samples[first + i]) for i in ids]


def split_batches(built: Built, split: SampleDataset, training: bool, cache: FeatureCache | None) -> loader.Batches:
    """The batches of a split, from its cache where there is one."""
    resolved = built.resolved
    parts = (split, resolved.task.collate, resolved.cfg, built.meta, resolved.config.train.seed, training)
    if cache is None:
        return loader.Batches(*parts)
    batches = CachedBatches(*parts)
    batches.cache = cache
    return batches


def other_looks(split: SampleDataset, ids: tuple[int, ...], seed: int) -> list[list[dict[str, Any]]]:
    """The first images of a batch as 16 other epochs would show them: a flip alone escapes one look half the time."""
    return [[split[i, mix(seed, SAMPLE, epoch, i)] for i in ids[:4]] for epoch in range(1, 17)]
