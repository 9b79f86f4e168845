"""Features of a backbone that never changes in a run, computed once: the head then trains in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
import torch
from torch import Tensor

from visiontl.backbone import Features
from visiontl.engine import loader
from visiontl.engine.model import Built
from visiontl.freezing.probe import Probe
from visiontl.processes.seeds import SAMPLE, mix
from visiontl.report.console import Console
from visiontl.task import SampleDataset

MEMORY_SHARE = 0.25  # of the memory that is free when the cache is built


@dataclass
class FeatureCache:
    """Features and image-free samples of one split, for `views` deterministic views of each image.

    Row view * images + id of each tensor belongs to that view of that image.
    """

    images: int
    views: int
    samples: list[dict[str, Any]]
    maps: list[Tensor]  # each (views * images, C, h, w)
    pooled: Tensor | None  # (views * images, embed_dim)
    layers: dict[str, Tensor] = field(default_factory=dict)

    def at(self, ids: Sequence[int], epoch: int, device: torch.device) -> Features:
        """The features of a batch's images, on the device."""
        rows = torch.tensor(ids) + (epoch % self.views) * self.images  # (B,)

        def pick(stored: Tensor) -> Tensor:
            return stored[rows].to(device, non_blocking=True)

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
    if len(given) != len(samples) or any(one.dtype != image.dtype for one in given):
        return mixed
    if any(
        one.shape != image.shape[1:] or not torch.equal(one, row) for one, row in zip(given, image.cpu(), strict=True)
    ):
        return mixed
    fixed = all(torch.equal(a["image"], b["image"]) for look in again for a, b in zip(samples, look, strict=False))
    if not fixed and views is None:
        return "the images are augmented anew in each epoch (train.cache_views: k caches k views)"
    return ""


@dataclass(frozen=True)
class Recipe:
    """What is computed of each image, and how. ask: (maps, pooled, layers) as the model asks its backbone.
    views: of each image; batch_size: images in a forward pass."""

    ask: tuple[tuple[int, ...], bool, tuple[str, ...]]
    views: int
    batch_size: int
    seed: int
    workers: int
    console: Console


def compute(
    split: SampleDataset, recipe: Recipe, forward: Callable[..., Features], progress: Callable[[int], None]
) -> FeatureCache | str:
    """One pass over the split per view. forward(image, maps, pooled, layers) runs the frozen backbone on its device.

    Returns the cache, or in words why it would not fit. Every rank builds its own, so that ranks need not talk.
    """
    maps, _, layers = recipe.ask
    count, samples, stores, done = len(split), [], {}, 0
    starts = range(0, count, recipe.batch_size)
    keys = [
        (tuple(range(start, min(start + recipe.batch_size, count))), view, 0)
        for view in range(recipe.views)
        for start in starts
    ]
    source = loader.Batches(split, _keep, None, {}, recipe.seed, training=False)
    for batch in loader.load(source, keys, recipe.workers, False, recipe.console):
        with torch.no_grad():
            found = forward(torch.stack([sample["image"] for sample in batch["samples"]]), *recipe.ask)
        parts = {
            **{("map", i): level for i, level in enumerate(found.maps)},
            **({"pooled": found.pooled} if found.pooled is not None else {}),
            **{("layer", name): layer for name, layer in found.layers.items()},
        }
        kept = [{**sample, "image": _blank(sample["image"])} for sample in batch["samples"]]
        if not stores:
            each = sum(p[0].numel() * p.element_size() for p in parts.values()) + _bytes(kept) / len(kept)
            neighbors = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine's memory
            free = psutil.virtual_memory().available * MEMORY_SHARE / neighbors
            needed = each * count * recipe.views
            if needed > free:
                return f"features need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB may be used"
            stores = {k: torch.empty(count * recipe.views, *p.shape[1:], dtype=p.dtype) for k, p in parts.items()}
        for key, part in parts.items():
            stores[key][done : done + len(kept)] = part.cpu()
        samples += kept
        done += len(kept)
        progress(done)
    return FeatureCache(
        count,
        recipe.views,
        samples,
        [stores["map", i] for i in range(len(maps))],
        stores.get("pooled"),
        {name: stores["layer", name] for name in layers},
    )


class CachedBatches(loader.Batches):
    """Batches whose samples carry a blank placeholder in place of the image: nothing is decoded."""

    cache: FeatureCache

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


def _bytes(value: Any) -> int:
    """Memory that the tensors and arrays in nested containers hold."""
    if isinstance(value, Tensor):
        return value.untyped_storage().nbytes()
    if isinstance(value, Mapping):
        return sum(map(_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    return int(getattr(value, "nbytes", 64))


def _keep(cfg: Any, samples: list[dict], generator: Any, meta: Any) -> dict[str, Any]:
    return {"samples": samples}


def _blank(image: Tensor) -> Tensor:
    """A tensor of the same shape and type that takes no memory."""
    return torch.zeros((), dtype=image.dtype).expand(image.shape)
