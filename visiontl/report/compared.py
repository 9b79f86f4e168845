"""Several runs beside each other: what of a run is compared, in which settings they differ, which are seeds of one
config, and what of their scores is noise. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from visiontl.report import noise
from visiontl.report.formats import is_number
from visiontl.report.noise import Interval, Test
from visiontl.report.run import Report

OWN = ("run.folder", "run.name", "resume")  # what differs between any two runs
SEED = "train.seed"
NO_NUMBERS = ("run.", "loader.", "resume")  # settings that change no result
SAME = 1e-9  # a score and the mean of a column that differ by less, relative to 1 or to the score, are the same


@dataclass(frozen=True)
class Answers:
    """What each image of a split adds to its scores. files: N names; columns: (N,) each, NaN where there is none."""

    files: Sequence[str]
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Compared:
    """A run as it is compared. name: short, unlike all others. settings: its config, `a.b` each; metrics: the lines of
    metrics.jsonl; answers: per split; better: {score: "max" or "min"}, of those whose direction is known.
    ended: False where training was not through; then it has no scores. notes: what of it could not be read."""

    name: str
    report: Report
    settings: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]] = ()
    answers: Mapping[str, Answers] = field(default_factory=dict[str, Answers])
    better: Mapping[str, str] = field(default_factory=dict[str, str])
    ended: bool = True
    notes: Sequence[str] = ()

    @property
    def evaluation(self) -> bool:
        return self.ended and self.report.training is None

    def score(self, split: str, name: str) -> float | None:
        """A plain number among the scores of a split; None where there is none, or where it is not finite."""
        value = self.report.scores.get(split, {}).get(name)
        return float(value) if is_number(value) and math.isfinite(value) else None


# ------------------------------------------------------------------------------------------------------------ settings


def differences(runs: Sequence[Compared]) -> list[tuple[str, list[Any]]]:
    """(key, its value in each run) where they differ, in the order of the configs; `None` also where a run has no such
    key. Where and how a run is called is no difference."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if key not in OWN)
    values = {key: [run.settings.get(key) for run in runs] for key in keys}
    return [(key, found) for key, found in values.items() if any(one != found[0] for one in found[1:])]


def same_config(runs: Sequence[Compared]) -> list[list[int]]:
    """The runs that differ in nothing but the seed, as groups of their places; a run alone is a group too. Evaluations
    and runs without a config are always alone."""
    groups: dict[Any, list[int]] = {}
    for place, run in enumerate(runs):
        kept = {k: v for k, v in run.settings.items() if k != SEED and not k.startswith(NO_NUMBERS)}
        alone = run.evaluation or not run.settings
        groups.setdefault(place if alone else tuple(sorted((k, repr(v)) for k, v in kept.items())), []).append(place)
    return list(groups.values())


def splits(runs: Sequence[Compared]) -> list[str]:
    """Names of the splits that any run has scores of, val and test first."""
    found = dict.fromkeys(split for run in runs for split in run.report.scores)
    return sorted(found, key=lambda name: ("val", "test", name).index(name))


def picking(runs: Sequence[Compared]) -> str | None:
    """The score that picked the first run's weights, or, for evaluations alone, the first whose direction is known."""
    for run in runs:
        best = run.report.training.best if run.report.training else None
        if best is not None:
            return best.score
    known = (
        name
        for run in runs
        for name in run.better
        if any(run.score(split, name) is not None for split in run.report.scores)
    )
    return next(known, None)


def ranked_scores(runs: Sequence[Compared]) -> list[str]:
    """Scores of which it is known which way is better, the one that picked the weights first."""
    first = picking(runs)
    names: list[str] = list(
        dict.fromkeys([*([first] if first else []), *(name for run in runs for name in run.better)])
    )
    return [
        name for name in names if any(run.score(split, name) is not None for run in runs for split in run.report.scores)
    ]


def direction(runs: Sequence[Compared], score: str) -> str | None:
    """max, min, or None where no run knows, or where they say different things."""
    said = {run.better[score] for run in runs if score in run.better}
    return said.pop() if len(said) == 1 else None


# --------------------------------------------------------------------------------------------------------------- noise


@dataclass(frozen=True)
class Verdict:
    """One run against the best of a split by one score.

    value: None where the run has none. interval: of the value, from the run's own images. test: against the best, its p
    raised by Holm's rule where there are several. words: in short.
    """

    value: float | None
    interval: Interval | None = None
    test: Test | None = None
    words: str = ""


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in nothing but the seed. places: of the runs, each seed once; values: their score; deviation:
    with n - 1, None for one run. test: against the best group; words: in short."""

    places: Sequence[int]
    values: Sequence[float]
    test: Test | None = None
    words: str = ""

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


def best_place(values: Sequence[float | None], better: str | None) -> int | None:
    """Where the best value is; the first one that is known where nobody knows which way is better."""
    known = [(value, place) for place, value in enumerate(values) if value is not None]
    if not known:
        return None
    if better is None:
        return known[0][1]
    sign = 1 if better == "max" else -1
    return max(known, key=lambda one: (sign * one[0], -one[1]))[1]


def column_of(runs: Sequence[Compared], split: str, score: str) -> str | None:
    """The column of the runs' answers whose mean is the score, in each run that has both; None where there is none."""
    pairs = [(run.answers[split], run.score(split, score)) for run in runs if split in run.answers]
    known = [(answers, value) for answers, value in pairs if value is not None]

    def fits(answers: Answers, value: float, name: str) -> bool:
        column = answers.columns.get(name)
        if column is None or np.isnan(column).all():
            return False
        return abs(float(np.nanmean(column)) - value) <= SAME * max(1.0, abs(value))

    names = dict.fromkeys(name for answers, _ in known for name in answers.columns)
    return next((name for name in names if all(fits(answers, value, name) for answers, value in known)), None)


def verdicts(runs: Sequence[Compared], split: str, score: str) -> list[Verdict]:
    """Each run against the best one, in the order of the runs."""
    values = [run.score(split, score) for run in runs]
    better = direction(runs, score)
    best = best_place(values, better)
    if best is None:
        return [Verdict(None, words="no such score") for _ in runs]
    column = column_of(runs, split, score)
    found = [
        None if place == best or value is None else against(runs[place], runs[best], split, column)
        for place, value in enumerate(values)
    ]
    tests = _raised([one if isinstance(one, Test) else None for one in found])
    made: list[Verdict] = []
    for place, (value, outcome, test) in enumerate(zip(values, found, tests, strict=True)):
        words = outcome if isinstance(outcome, str) else said(test, better) if test else ""
        if place == best:
            words = "the best here" if better else "the first"
        made.append(
            Verdict(value, _interval(runs[place], split, column), test, words if value is not None else "no such score")
        )
    return made


def against(run: Compared, other: Compared, split: str, column: str | None) -> Test | str:
    """A test of two runs by a column of their images, paired where both judged the same ones; or why there is none."""
    without = [one.name for one in (run, other) if split not in one.answers]
    if without:
        return f"not known: {' and '.join(without)} kept no numbers per image"
    if column is None:
        return "not known: this score is no mean over images; several seeds would tell"
    one, two = run.answers[split], other.answers[split]
    a, b = one.columns[column], two.columns[column]
    if list(one.files) != list(two.files):
        places = [{file: i for i, file in enumerate(answers.files)} for answers in (one, two)]
        common = [file for file in places[0] if file in places[1]]
        if len(common) < 2:
            a, b = a[~np.isnan(a)], b[~np.isnan(b)]
            return noise.unpaired(a, b) if min(len(a), len(b)) > 1 else "not known: too few images"
        a, b = a[[places[0][file] for file in common]], b[[places[1][file] for file in common]]
    both = ~(np.isnan(a) | np.isnan(b))
    return noise.paired(a[both], b[both]) if both.sum() > 1 else "not known: too few images"


def seeds(runs: Sequence[Compared], split: str, score: str) -> list[Seeds]:
    """The runs by config, each with its seeds; empty where no config ran with two seeds or more."""
    groups: list[Seeds] = []
    for places in same_config(runs):
        by_seed = {repr(runs[place].settings.get(SEED, place)): place for place in reversed(places)}
        kept = sorted(place for place in by_seed.values() if runs[place].score(split, score) is not None)
        if kept:
            groups.append(Seeds(kept, [runs[place].score(split, score) or 0.0 for place in kept]))
    if not any(len(group.places) > 1 for group in groups):
        return []
    better = direction(runs, score)
    best = best_place([group.mean for group in groups], better) or 0
    arrays = [np.array(group.values) for group in groups]
    tests = _raised(
        [
            None if place == best or min(len(one), len(arrays[best])) < 2 else noise.unpaired(one, arrays[best])
            for place, one in enumerate(arrays)
        ]
    )
    made: list[Seeds] = []
    for place, (group, test) in enumerate(zip(groups, tests, strict=True)):
        words = said(test, better) if test else "not known: one seed alone says nothing of seeds"
        if place == best:
            words = "the best here" if better else "the first"
        made.append(Seeds(group.places, group.values, test, words))
    return made


def said(test: Test, better: str | None) -> str:
    """What a test says, in short."""
    p = "p < 0.001" if test.p < 0.001 else f"p {test.p:.3f}" if test.p < 0.9995 else "p 1"
    if test.p >= noise.LEVEL:
        return f"within noise ({p})"
    more = test.difference > 0
    word = ("higher" if more else "lower") if better is None else "better" if more == (better == "max") else "worse"
    return f"{word}, beyond noise ({p})"


def _raised(tests: Sequence[Test | None]) -> list[Test | None]:
    """The tests with Holm's p."""
    raised = iter(noise.holm([test.p for test in tests if test is not None]))
    return [None if test is None else replace(test, p=next(raised)) for test in tests]


def _interval(run: Compared, split: str, column: str | None) -> Interval | None:
    answers = run.answers.get(split)
    if answers is None or column is None or column not in answers.columns:
        return None
    values = answers.columns[column]
    return noise.interval(values[~np.isnan(values)])
