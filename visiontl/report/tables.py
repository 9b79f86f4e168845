"""Tables of the report page: scores, what trains, and those of a task."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from visiontl.report.formats import cell, human, is_number
from visiontl.report.items import Table
from visiontl.report.run import PhaseRows, Report

NUMERIC = re.compile(r"-|[-+]?\d[\d,]*(\.\d+)?([eE][-+]?\d+)?( ?%| px| [kMG])?")

Scores = Mapping[str, Mapping[str, Any]]  # {split: {score: value}}


@dataclass(frozen=True)
class Grid:
    """Cells as texts. right: which columns are set to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[bool]
    title: str = ""
    summary: str = ""


def compared_scores(report: Report) -> Scores:
    """{split: its scores}, and beside each split what it had before the first update, where that was measured."""
    before: Scores = report.training.scores_at_start if report.training else {}
    found: dict[str, Mapping[str, Any]] = {}
    for name, values in report.scores.items():
        found[name] = values
        if name in before:
            found[f"{name}, at the start"] = before[name]
    return found


def score_table(scores: Scores) -> Grid | None:
    """Scalar scores, one row each, one column per split."""
    names = list(dict.fromkeys(name for split in scores.values() for name, value in split.items() if _scalar(value)))
    if not names:
        return None
    rows = [
        [
            name.replace("_", " "),
            *(cell(split.get(name)) if _scalar(split.get(name)) else "-" for split in scores.values()),
        ]
        for name in names
    ]
    return Grid(["score", *scores], rows, [False] + [True] * len(scores))


def nested_tables(scores: Scores) -> list[Grid]:
    """A table for each score that is a mapping of scalars (per class ...), one column per split."""
    names = dict.fromkeys(name for split in scores.values() for name, value in split.items() if _flat(value))
    tables: list[Grid] = []
    for name in names:
        splits: Scores = {split: values[name] for split, values in scores.items() if _flat(values.get(name))}
        keys = dict.fromkeys(key for values in splits.values() for key in values)
        rows = [[str(key), *(cell(values.get(key)) for values in splits.values())] for key in keys]
        tables.append(Grid(["", *splits], rows, [False] + [True] * len(splits), name.replace("_", " ")))
    return tables


def phase_tables(phases: Sequence[PhaseRows]) -> list[Grid]:
    """What trains from each phase's beginning on, with the counts of the phase."""
    names = ["stage", "mode", "parameters", "trainable", "learning rate"]
    tables: list[Grid] = []
    for phase in phases:
        values = [[row.stage, row.mode, row.parameters, row.trainable, row.lr or None] for row in phase.rows]
        rows = [[cell(value, name) for value, name in zip(row, names, strict=True)] for row in values]
        active, all_of_it = sum(row.trainable for row in phase.rows), sum(row.parameters for row in phase.rows)
        summary = f"{human(active)} of {human(all_of_it)} parameters train"
        right = [name not in ("stage", "mode") for name in names]
        tables.append(Grid(names, rows, right, f"From epoch {phase.epoch}", summary))
    return tables


def task_table(item: Table) -> Grid:
    """A table that a task made. Raises ValueError for a row of another length."""
    columns = [str(column) for column in item.columns]
    rows = [[cell(value, name) for name, value in zip(columns, row, strict=True)] for row in item.rows]
    right = [all(_numeric(row[i]) for row in item.rows) for i in range(len(columns))]
    return Grid(columns, rows, right)


def _numeric(value: Any) -> bool:
    """A number, nothing, or a text that is a number with its unit: '66.7%', '1,024', '12 px'."""
    return is_number(value) or value is None or (isinstance(value, str) and NUMERIC.fullmatch(value) is not None)


def _scalar(value: Any) -> bool:
    return is_number(value) or isinstance(value, str | bool)


def _flat(value: Any) -> bool:
    """True for a mapping of scalars with at least one entry."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(_scalar(item) or item is None for item in cast(Mapping[Any, Any], value).values())
