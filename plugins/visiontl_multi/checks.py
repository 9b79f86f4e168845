"""What the parts' tasks say of their annotations, for `visiontl doctor`, each under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.words import count
from visiontl_multi.config import MultiConfig


def check(cfg: MultiConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """A part is told of its own photos alone, by its own ids."""
    splits: dict[str, Any] = dict(data.splits())
    found: list[Finding | Table] = []
    for name, part in cfg.tasks.items():
        if part.task.check is None:
            continue
        own: Data = next(iter(splits.values())).found[name]
        told = part.task.check(part.section, own, meta["parts"][name]["meta"], of_part(splits, own, name, seen))
        for item in told:
            if isinstance(item, Table):
                found.append(replace(item, title=f"{name}: {item.title}"))
            else:
                found.append(replace(item, what=f"{name}: {item.what}"))
    return found + partly(cfg, splits)


def of_part(splits: Mapping[str, Any], own: Data, name: str, seen: Seen) -> Seen:
    """The sizes and duplicates in a part's own splits and ids."""
    sizes: dict[str, list[Any]] = {split: [None] * len(one) for split, one in own.splits().items()}
    there: dict[tuple[str, int], tuple[str, int]] = {}
    for split, photos in splits.items():
        for id, entry in enumerate(photos.entries):
            if name in entry:
                where, number = entry[name]
                sizes[where][number] = seen.sizes[split][id] if split in seen.sizes else None
                there[split, id] = (where, number)
    groups = [[there[split, id] for split, id in group if (split, id) in there] for group in seen.duplicates]
    return Seen(sizes, [group for group in groups if len(group) > 1])


def partly(cfg: MultiConfig, splits: Mapping[str, Any]) -> list[Finding | Table]:
    """How many photos of each split each part labels."""
    rows: list[Sequence[Any]] = []
    lacking: list[Finding | Table] = []
    for split, photos in splits.items():
        each = {name: sum(name in entry for entry in photos.entries) for name in cfg.tasks}
        rows.append([split, len(photos), *each.values()])
        for name, number in each.items():
            if not number:
                what = f"{split}: none of {count(len(photos), 'photo')} has a label of {name}"
                lacking.append(Finding("warning", what, "it cannot be learned or judged there"))
    return [*lacking, Table("photos that the parts label", ["split", "photos", *cfg.tasks], rows)]
