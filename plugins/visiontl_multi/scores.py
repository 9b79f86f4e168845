"""The parts' rows, scores and trivial answers under their names, and the mean that stands for all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from visiontl_multi.batches import part_batch
from visiontl_multi.config import MEAN, MultiConfig, Part, ranked_of


def rows(
    cfg: MultiConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """{part: its row} of each photo; a part that does not label the photo is not in it."""
    made: list[dict[str, Any]] = [{} for _ in batch["image"]]
    for name, own in outputs["parts"].items():
        part = cfg.tasks[name]
        found = part.task.rows(part.section, own, part_batch(batch, name), meta["parts"][name]["meta"])
        for place, row in zip(batch["parts"][name]["owners"].tolist(), found, strict=True):
            made[place][name] = row
    return made


def of_part(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int], list[Any]]:
    """The ids of the photos that a part labels, and its rows of them."""
    ids = [id for id, row in enumerate(rows) if name in row]
    return ids, [rows[id][name] for id in ids]


def score(cfg: MultiConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """mean: over the parts' own best scores, where less is better of 1 / (1 + score); None where no part has a number.
    part/score: what each part's `score` gives of the photos that it labels."""
    scores: dict[str, Any] = {MEAN: None}
    values: list[float] = []
    for name, part in cfg.tasks.items():
        own = of_part(rows, name)[1]
        if not own:
            continue
        found = part.task.score(part.section, own, meta["parts"][name]["meta"])
        scores |= {f"{name}/{key}": value for key, value in found.items()}
        value = goodness(part, found)
        if value is not None:
            values.append(value)
    scores[MEAN] = sum(values) / len(values) if values else None
    return scores


def goodness(part: Part, scores: Mapping[str, Any]) -> float | None:
    """A part's own best score, or 1 / (1 + it) where less is better: more is better. None where it is no number."""
    key, direction = next(iter(ranked_of(part).items()))
    value = scores.get(key)
    if value is None or not math.isfinite(float(value)):
        return None
    return float(value) if direction == "max" else 1 / (1 + max(0.0, float(value)))


def trivial(
    cfg: MultiConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """Each part's trivial answer; a part that knows none keeps its rows."""
    made: list[dict[str, Any]] = [dict(row) for row in rows]
    words = []
    for name, part in cfg.tasks.items():
        ids, own = of_part(rows, name)
        if part.task.trivial is None or not own:
            words.append(f"{name}: as the model has it")
            continue
        said, answers = part.task.trivial(part.section, own, meta["parts"][name]["meta"])
        words.append(f"{name}: {said}")
        for id, answer in zip(ids, answers, strict=True):
            made[id][name] = answer
    return "; ".join(words), made
