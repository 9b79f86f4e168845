"""Tables of the report page: scores, what trains, and those of a task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from visiontl.report.formats import cell, human, is_number, titled
from visiontl.report.items import Table
from visiontl.report.run import PhaseRows, Report

NUMERIC = re.compile(r"-|[-+]?\d[\d,]*(\.\d+)?([eE][-+]?\d+)?( ?%| px| [kMG])?")

WIDE = 24  # columns of a table at most
LINES = 1000  # rows of a table at most

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
            titled(name),
            *(cell(split.get(name)) if _scalar(split.get(name)) else "-" for split in scores.values()),
        ]
        for name in names
    ]
    return Grid(["score", *scores], rows, [False] + [True] * len(scores))


def nested_tables(scores: Scores) -> list[Grid]:
    """Tables for each score that is a mapping. Of scalars (per class ...): a row each, a column per split. Of such
    mappings (kinds of errors, a confusion ...): a table per split, a row each, a column for each of their keys. What is
    nested otherwise, or too wide: a row for each number, called by its path."""
    names = dict.fromkeys(name for split in scores.values() for name, value in split.items() if _mapping(value))
    tables: list[Grid] = []
    for name in names:
        title = titled(name)
        splits: Scores = {split: values[name] for split, values in scores.items() if _mapping(values.get(name))}
        if all(_table(values) for values in splits.values()):
            tables += [_two_way(f"{title} ({split})", values) for split, values in splits.items()]
        else:
            tables.append(_by_path(title, {split: dict(_leaves(values, ())) for split, values in splits.items()}))
    return tables


def _two_way(title: str, values: Mapping[str, Any]) -> Grid:
    columns = list(dict.fromkeys(str(key) for inner in values.values() for key in inner))
    rows = [[str(key), *(cell(_text_keys(inner).get(column)) for column in columns)] for key, inner in values.items()]
    return Grid(["", *columns], rows, [False] + [True] * len(columns), title)


def _by_path(title: str, splits: Scores) -> Grid:
    keys = list(dict.fromkeys(key for values in splits.values() for key in values))
    rows = [[key, *(cell(values.get(key)) for values in splits.values())] for key in keys[:LINES]]
    more = f"The first {LINES} of {len(keys)}; report.json has all." if len(keys) > LINES else ""
    return Grid(["", *splits], rows, [False] + [True] * len(splits), title, more)


def _leaves(values: Mapping[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(path, scalar); of a list only how long it is."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(cast(Mapping[Any, Any], value), here)
        else:
            yield " / ".join(here), f"{len(value)} values" if isinstance(value, list | tuple) else value


def _text_keys(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in values.items()}


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


def _mapping(value: Any) -> bool:
    """True for a mapping with at least one entry."""
    return isinstance(value, Mapping) and len(cast(Mapping[Any, Any], value)) > 0


def _table(values: Mapping[Any, Any]) -> bool:
    """True for a mapping of mappings of scalars that is no wider than a page."""
    inner = [cast(Mapping[Any, Any], value) for value in values.values() if isinstance(value, Mapping)]
    plain = all(_scalar(item) or item is None for value in inner for item in value.values())
    return len(inner) == len(values) and plain and len({str(key) for value in inner for key in value}) <= WIDE
