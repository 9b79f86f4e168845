"""Batches of cached features collated once: the same batches, or the general way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visiontl.engine.collated import PAYS_FROM, Collated, collate_once
from visiontl.engine.feature_cache import CachedBatches, FeatureCache
from visiontl.features.columns import blank

IMAGES, VIEWS = 11, 2


def plain(cfg, samples, generator, meta):
    return {
        "image": torch.stack([sample["image"] for sample in samples]),
        "label": torch.from_numpy(np.stack([sample["label"] for sample in samples])),
        "box": torch.stack([sample["box"] for sample in samples]),
    }


def drawing(cfg, samples, generator, meta):
    noise = torch.rand(len(samples), generator=generator) if generator is not None else torch.rand(len(samples))
    return {**plain(cfg, samples, generator, meta), "noise": noise}


def drawn_unused(cfg, samples, generator, meta):
    torch.rand(1, generator=generator)
    return plain(cfg, samples, generator, meta)


def mean_of_mates(cfg, samples, generator, meta):
    batch = plain(cfg, samples, generator, meta)
    return {**batch, "box": batch["box"] - batch["box"].mean(0)}


def padded(cfg, samples, generator, meta):
    widest = max(int(sample["label"]) for sample in samples)
    return {**plain(cfg, samples, generator, meta), "mask": torch.zeros(len(samples), widest + 1)}


def listed(cfg, samples, generator, meta):
    return {**plain(cfg, samples, generator, meta), "names": [str(sample["label"]) for sample in samples]}


def by_place(cfg, samples, generator, meta):
    return {**plain(cfg, samples, generator, meta), "place": torch.arange(len(samples))}


def photographic(cfg, samples, generator, meta):
    batch = plain(cfg, samples, generator, meta)
    return {**batch, "image": batch["image"] + 1}


def batches(collate, training=True) -> CachedBatches:
    draw = np.random.default_rng(0)
    samples = [
        {"image": blank((3, 8, 8), torch.uint8), "label": np.int64(i), "box": torch.from_numpy(draw.random(4))}
        for i in range(IMAGES * VIEWS)
    ]
    made = CachedBatches(None, collate, None, {}, 0, training)  # pyright: ignore[reportArgumentType]
    made.cache = FeatureCache(IMAGES, VIEWS, samples, [], None)
    return made


@pytest.mark.parametrize("training", [True, False])
def test_rows_collated_before_are_the_batches_that_would_be_collated(training):
    general = batches(plain, training)
    ready = collate_once(general, 4, PAYS_FROM)
    assert isinstance(ready, Collated)
    for key in [((3, 0, 10, 7), 0, 5), ((1,), 1, 9), ((8, 8), 2, 11)]:
        wanted, found = general[key], ready[key]
        assert isinstance(wanted, dict)
        assert found.keys() == wanted.keys()
        for name, value in wanted.items():
            same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
            assert same, name
            assert type(found[name]) is type(value)
    assert not any(ready[(0, 1), 0, 0]["image"].stride()), "no memory for placeholders"


@pytest.mark.parametrize(
    "collate",
    [drawing, drawn_unused, mean_of_mates, padded, listed, by_place, photographic],
    ids=lambda one: one.__name__,
)
def test_what_hangs_on_chance_or_on_its_batch_goes_the_general_way(collate):
    general = batches(collate)
    assert collate_once(general, 4, PAYS_FROM) is general


def test_a_few_epochs_are_not_worth_it():
    general = batches(plain)
    assert collate_once(general, 4, PAYS_FROM - 1) is general
