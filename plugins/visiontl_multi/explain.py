"""What an explanation is of: a number of one part's answer. And the parts' mistakes, in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from visiontl import ConfigError, Scalar
from visiontl.kit.words import did_you_mean
from visiontl_multi.batches import part_batch
from visiontl_multi.config import ExplainOptions, MultiConfig, explained, options_of
from visiontl_multi.model import Several
from visiontl_multi.scores import of_part


def explain(
    cfg: MultiConfig,
    model: Several,
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
    options: ExplainOptions,
) -> Scalar:
    """The number that the part's own task explains. Raises ConfigError for a part without such."""
    able = explained(cfg)
    name = options.part or next((one for one in able if one in batch["parts"]), next(iter(able), None))
    if name not in able:
        told = (
            f"{name!r} names no number to explain{did_you_mean(str(name), able)}" if name else "no part names a number"
        )
        raise ConfigError(f"option part: {told}; parts that do: {', '.join(able) or 'none'}")
    part = cfg.tasks[name]
    if name not in batch["parts"]:
        raise ConfigError(f"option part: the photo has no label of {name}")
    try:
        asked = options_of(part, "explain_options", options.options)
    except ValueError as error:
        raise ConfigError(f"option options: {error}") from None
    step: Any = part.task.explain
    found: Scalar = step(part.section, model.parts[name], part_batch(batch, name), meta["parts"][name]["meta"], asked)
    return replace(found, words=f"{name}: {found.words}")


def mistakes(cfg: MultiConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The worst of each part, then the second worst of each; a photo that several got wrong is told once."""
    lists: list[list[tuple[int, str]]] = []
    for name in explained(cfg):
        part = cfg.tasks[name]
        ids, own = of_part(rows, name)
        if part.task.mistakes is None or not own:
            continue
        found = part.task.mistakes(part.section, own, meta["parts"][name]["meta"])
        lists.append([(ids[id], f"{name}: {words}") for id, words in found])
    told: dict[int, list[str]] = {}
    for turn in zip_longest(*lists):
        for one in turn:
            if one is not None:
                told.setdefault(one[0], []).append(one[1])
    return [(id, "; ".join(words)) for id, words in told.items()]
