"""`visiontl sweep CONFIG --heads N`: features once, then all heads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from visiontl.config.resolve import Resolved
from visiontl.errors import ConfigError, DataError
from visiontl.report.console import Console
from visiontl.search.candidates import Candidate
from visiontl.search.features import Reader, batches_of, still_train
from visiontl.search.heads import Features, Plan, Tried, heads, train_heads
from visiontl.search.ranking import opened
from visiontl.task import SampleDataset

SHOWN = 10
LAYERS = 2  # maps whose mean is read beside the pooled embedding


def tried_heads(resolved: Resolved, count: int, console: Console) -> tuple[list[Tried], float]:
    """(all heads, the best on val first; seconds that training them took). Raises ConfigError for a task whose labels
    are not one class an image, DataError without val."""
    section = resolved.config
    one = opened(resolved, Candidate(section.backbone.name, section.backbone.weights, own=True))
    if one.data.val is None:
        raise DataError("the data has no val split to choose a head by; data.fold=1/5 makes one")
    splits = {"train": still_train(one.data), "val": one.data.val}
    made = {name: features(one.reader, resolved, split, name, console) for name, split in splits.items()}
    wanted = heads(count, list(made["train"].layers))
    plan = Plan(section.optim, section.train.epochs, section.train.batch_size, section.train.seed)
    began = time.perf_counter()
    with console.progress(total=plan.epochs, unit="epoch", what=f"{len(wanted)} heads") as bar:
        found = train_heads(made["train"], made["val"], wanted, plan, bar.update)
    return found, time.perf_counter() - began


def features(reader: Reader, resolved: Resolved, split: SampleDataset, name: str, console: Console) -> Features:
    """The pooled embedding of each image, and the means of the deepest maps."""
    levels = reader.levels[-LAYERS:]
    parts: dict[str, list[Tensor]] = {}
    labels: list[Tensor] = []
    size = resolved.config.train.eval_batch_size or resolved.config.train.batch_size
    with console.progress(total=len(split), unit="image", what=f"features of {name}") as bar:
        for ids, samples in batches_of(resolved, split, console, size):
            asked = [reader.labels(sample) for sample in samples]
            if any(answer["labels"].ndim or answer["boxes"] is not None for answer in asked):
                raise ConfigError(f"--heads is for one class an image; task {resolved.task.name} has other labels")
            found = reader.forward([sample["image"] for sample in samples], maps=levels, pooled=True)
            parts.setdefault("pooled", []).append(found.pooled.float().cpu())
            for level, map in zip(levels, found.maps, strict=True):
                parts.setdefault(f"mean of map {level}", []).append(map.float().mean((2, 3)).cpu())
            labels += [answer["labels"] for answer in asked]
            bar.update(ids[-1] + 1, images=len(ids))
    y = torch.stack(labels)
    if bool((y < 0).any()):
        raise ConfigError(f"--heads: {int((y < 0).sum())} images of {name} have no class that the model learns")
    return Features({layer: torch.cat(values) for layer, values in parts.items()}, y)


def rows(found: Sequence[Tried]) -> list[list[Any]]:
    """What a table shows of the first ones."""
    return [[one.head.layer, one.head.lr, one.head.decay, one.accuracy] for one in found[:SHOWN]]


def told_of(found: Sequence[Tried], seconds: float, verdict: str) -> dict[str, Any]:
    """As JSON values."""
    return {
        "verdict": verdict,
        "seconds": seconds,
        "heads": [
            {"layer": one.head.layer, "lr": one.head.lr, "weight_decay": one.head.decay, "accuracy": one.accuracy}
            for one in found
        ],
    }
