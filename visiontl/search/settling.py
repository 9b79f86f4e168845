"""The best few of a ranking, settled by real runs: all for a quarter of the epochs, the better half for all of them
(successive halving, Jamieson and Talwalkar 2016)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visiontl.config.resolve import Resolved
from visiontl.errors import VisionTLError
from visiontl.report import compared
from visiontl.report.console import Console
from visiontl.runs.comparing import FEWEST, read_runs
from visiontl.search.ranking import Ranked
from visiontl.search.sweep import Sweep, one_run
from visiontl.search.trials import Trial, by_score

SHORT = 4  # the first round's part of the epochs


@dataclass(frozen=True)
class Settled:
    """One backbone's run. epochs: of its last round; value: its score on val; said: against the best of that round."""

    row: Ranked
    epochs: int
    value: float | None
    run: str
    said: str
    failure: str = ""


def settle(
    sweep: Sweep, resolved: Resolved, rows: Sequence[Ranked], ends: float, console: Console
) -> tuple[list[Settled], list[str]]:
    """(the runs, the best first; notes). ends: the moment (time.monotonic) by which a round after the first must be
    over, judged by the time that the one before took."""
    epochs = resolved.config.train.epochs
    rounds = [max(1, epochs // SHORT), epochs] if epochs >= SHORT else [epochs]
    left, found, notes = list(rows), dict[str, Settled](), list[str]()
    for number, length in enumerate(rounds, start=1):
        began = time.monotonic()
        trials = [(row, one_trial(sweep, row, number, length)) for row in left]
        for row, trial in trials:
            console.say(f"round {number} of {len(rounds)}, {length} epochs: {row.candidate.title}")
            one_run(sweep, trial, sweep.parts[0], None, console)
        said = against_the_best(sweep, [trial for _, trial in trials if trial.whole])
        for row, trial in trials:
            label, place = sweep.parts[0].label, str(sweep.place(trial, sweep.parts[0]))
            found[row.candidate.title] = Settled(
                row, length, trial.values.get(label), place, said.get(trial.name, ""), trial.failed.get(label, "")
            )
        order = by_score([trial for _, trial in trials], sweep.better)
        left = [row for one in order[: max(1, -(-len(order) // 2))] for row, trial in trials if trial is one]
        if number == len(rounds) or len(left) < 2:
            break
        took = time.monotonic() - began
        needed = took * len(left) / len(trials) * rounds[number] / length
        if time.monotonic() + needed > ends:
            notes.append(f"the budget ends after round {number} of {len(rounds)} of the runs: {length} epochs each")
            break
    return sorted(found.values(), key=order_of(sweep)), notes


def one_trial(sweep: Sweep, row: Ranked, number: int, epochs: int) -> Trial:
    """What one backbone does in one round."""
    return Trial(f"r{number}-{row.candidate.slug}", (*row.candidate.words, f"train.epochs={epochs}"))


def order_of(sweep: Sweep) -> Callable[[Settled], tuple[float, float]]:
    """Longer runs first, then by score."""
    sign = -1 if sweep.better == "max" else 1
    return lambda one: (-one.epochs, float("inf") if one.value is None else sign * one.value)


def against_the_best(sweep: Sweep, trials: Sequence[Trial]) -> dict[str, str]:
    """{trial: what its images say of the difference from the round's best}"""
    if len(trials) < FEWEST:
        return {}
    places = [sweep.place(trial, sweep.parts[0]) for trial in trials]
    try:
        runs, _ = read_runs(places)
    except VisionTLError:
        return {}
    if len(runs) < len(trials):
        return {}
    verdicts = compared.verdicts(runs, "val", sweep.score)
    return {trial.name: verdict.words for trial, verdict in zip(trials, verdicts, strict=True)}


def tied(settled: Sequence[Settled]) -> list[Settled]:
    """The runs of the longest round that do not differ from its best by more than noise, that one first."""
    last = [one for one in settled if settled and one.epochs == settled[0].epochs and one.value is not None]
    return [one for i, one in enumerate(last) if i == 0 or not one.said.startswith("worse")]
