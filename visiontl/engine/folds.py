"""Cross-validation of any task: `data.fold: K/N` trains on all parts of train but the Kth, which becomes val."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from visiontl.config.resolve import Resolved, with_task_data
from visiontl.config.schema import DataConfig
from visiontl.engine import scan
from visiontl.engine.loader import Remaining
from visiontl.engine.parts import Part
from visiontl.errors import DataError
from visiontl.kit.splits import folds
from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.task import Data, SampleDataset, Task


def readable_data(
    section: DataConfig, task: Task, cfg: Any, data: Data, console: Console, only: Sequence[str] | None = None
) -> Data:
    """What a run works with: `scan.readable_data`, and where a fold is asked for, that fold of it."""
    if section.fold is None:
        return scan.readable_data(section, task, cfg, data, console, only)
    found = folded(section.fold, scan.readable_data(section, task, cfg, data, console), console)
    if only is None:
        return found
    return replace(found, **{name: None for name in found.splits() if name not in only})


def splits_there(section: DataConfig, data: Data) -> dict[str, SampleDataset]:
    """The splits that `readable_data` will give, by name; what they hold is not settled yet."""
    found = data.splits()
    return found if section.fold is None or data.train is None else {**found, "val": data.train}


def on_other_data(resolved: Resolved, data: str) -> Resolved:
    """The same run on other data, which no fold of the run's own divides."""
    found = with_task_data(resolved, data)
    whole = found.config.data.model_copy(update={"fold": None})
    return replace(found, config=found.config.model_copy(update={"data": whole}))


def groups_of(split: SampleDataset) -> Sequence[str] | None:
    """Per image, the group that must not be divided (a person, a scene), where the split says so: its `groups`."""
    if isinstance(split, Remaining | Part):
        whole = groups_of(split.split)
        return None if whole is None else [whole[id] for id in split.ids]
    return getattr(split, "groups", None)


def folded(fold: str | None, data: Data, console: Console) -> Data:
    """The data with one part of train as val, which no augmentation touches; val as it was is not used.

    The parts are a function of the names alone, the same for every seed and config; images that a split says belong
    together (its `groups`, a name per image) stay together. Raises DataError for fewer images, or groups, than parts.
    """
    if fold is None or data.train is None:
        return data
    number, parts = map(int, fold.split("/"))
    groups = groups_of(data.train)
    try:
        place = folds(data.train.names if groups is None else groups, parts)
    except ValueError as error:
        raise DataError(f"data.fold: {fold}: {error}") from None
    out = [id for id, one in enumerate(place) if one == number - 1]
    train = Part(data.train, [id for id, one in enumerate(place) if one != number - 1])
    val = Part(data.train if data.still is None else data.still, out)
    by = f", by {count(len(set(groups)), 'group')}" if groups is not None else ""
    unused = "" if data.val is None else f"; {count(len(data.val), 'image')} of the data's own val are not used"
    console.say(
        f"data.fold: {fold}: {count(len(val), 'image')} of train are val{by}, {len(train):,} are left to train on"
        f"{unused}",
        keep=True,
    )
    if data.still is None:
        console.warn("data.fold: the task has no view of train without augmentation (Data.still): val is augmented too")
    still = None if data.still is None else Part(data.still, train.ids)
    batches = data.batches if data.batches is None else partial(scan.renumbered, data.batches, {"train": train})
    return replace(data, train=train, val=val, still=still, batches=batches)
