"""The trials of a sweep: each an ordinary run folder per seed and fold, and what came of them. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visiontl.errors import ConfigError
from visiontl.report import noise
from visiontl.report.noise import Test
from visiontl.runs.files import write_text

FILE = "sweep.json"


@dataclass(frozen=True)
class Part:
    """One run of a trial. fold: K/N, None where the data's own val is used."""

    seed: int
    fold: str | None = None

    @property
    def label(self) -> str:
        return f"s{self.seed}" + (f"-f{self.fold.partition('/')[0]}" if self.fold else "")


@dataclass
class Trial:
    """name: of its run folders, before the part's label. words: its settings, `a.b=c` each. values: of the score, by
    label of the part; failed: why a part has none; pruned: stopped early because others were better by then."""

    name: str
    words: tuple[str, ...]
    values: dict[str, float] = field(default_factory=dict[str, float])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    pruned: bool = False
    seconds: float = 0.0

    @property
    def title(self) -> str:
        return " ".join(self.words) or "as the config has it"

    @property
    def whole(self) -> bool:
        return bool(self.values) and not self.failed and not self.pruned

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values()))) if self.values else math.nan

    @property
    def spread(self) -> float | None:
        """Standard deviation over the runs, with n - 1; None for one."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else None

    @property
    def state(self) -> str:
        if self.pruned:
            return "pruned"
        if self.failed:
            return f"{len(self.failed)} of {len(self.failed) + len(self.values)} failed"
        return "done" if self.values else "not run"


def parts_of(seed: int, seeds: int, folds: int | None) -> list[Part]:
    """The runs of every trial, in the order in which they are run."""
    numbers = [None] if folds is None else [f"{k}/{folds}" for k in range(1, folds + 1)]
    return [Part(seed + i, fold) for i in range(seeds) for fold in numbers]


def by_score(trials: Sequence[Trial], better: str) -> list[Trial]:
    """The trials that are whole, the best first; equal ones in the order in which they were tried."""
    sign = -1 if better == "max" else 1
    return sorted((one for one in trials if one.whole), key=lambda one: sign * one.mean)


def against(one: Trial, best: Trial) -> Test | None:
    """A trial against the best by their common runs, seed by seed and fold by fold; None for fewer than two."""
    both = [label for label in best.values if label in one.values]
    if len(both) < 2:
        return None
    return noise.paired(
        np.array([one.values[label] for label in both]) + 0.0, np.array([best.values[label] for label in both]) + 0.0
    )


def margin(ranked: Sequence[Trial], score: str) -> str:
    """The sentence on the best trial: by how much it leads, and whether that is more than noise."""
    if not ranked:
        return "no trial is whole, so none is the best"
    best, told = ranked[0], f"best: {ranked[0].title}: {score} {ranked[0].mean:.4f}"
    if best.spread is not None:
        told += f" ± {best.spread:.4f} over {len(best.values)} runs"
    if len(ranked) == 1:
        return f"{told}; it is the only one that is whole"
    lead = f"{abs(best.mean - ranked[1].mean):.4f} ahead of {ranked[1].title}"
    tests = [against(one, best) for one in ranked[1:]]
    if None in tests:
        return f"{told}, {lead}; one run each says nothing of noise: --seeds 3 or --folds 5 would"
    raised = noise.holm([test.p for test in tests if test is not None])
    close = sum(p >= noise.LEVEL for p in raised)
    if not close:
        return f"{told}, {lead}, beyond the noise of the runs"
    which = f"{close} of the {len(tests)} others lie" if len(tests) > 1 else "the other one lies"
    return f"too close to call: {told}, {lead}, and {which} within the noise of the runs"


def require_own(folder: Path, question: str) -> None:
    """Raises ConfigError for a folder (by run.name) that holds a run, or a sweep that asked something else: its trials
    would be taken for this one's."""
    if (folder / "config.yaml").exists():
        raise ConfigError(f"{folder} is a run, not a sweep; choose another run.name")
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        known, command = found["question"], found["command"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # none yet, or of a version that did not say
        return
    if known != question:
        raise ConfigError(f"{folder} holds another sweep (`{command}`); choose another run.name")


def write_first(folder: Path, about: Mapping[str, Any]) -> None:
    """What is asked, before anything came of it; what an earlier call found stays."""
    if not (folder / FILE).exists():
        write(folder, about, ())


def write(folder: Path, about: Mapping[str, Any], trials: Sequence[Trial]) -> None:
    """What a sweep asked and found, for scripts and for its continuation."""
    found = [
        {
            "name": one.name,
            "settings": list(one.words),
            "state": one.state,
            "mean": None if math.isnan(one.mean) else one.mean,
            "spread": one.spread,
            "values": one.values,
            "failed": one.failed,
            "seconds": round(one.seconds, 1),
        }
        for one in trials
    ]
    write_text(folder / FILE, json.dumps({**about, "trials": found}, indent=1) + "\n")
