"""Where the trials of a sweep come from: the grid of its lists, or optuna's sampler with its pruner for ranges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from visiontl.errors import CheckpointError, ConfigError, VisionTLError
from visiontl.search.space import Choice, Range, Space
from visiontl.search.trials import Trial

JOURNAL = "optuna.journal"  # in the folder of the sweep; `optuna.storages.JournalStorage` reads it
INSTALL = "pip install 'visiontl[sweep]'"


class Pruned(VisionTLError):
    """A run that the pruner ended."""


class Source(Protocol):
    """trials(): the next one to run, as long as there is one. report: a score while the first run of the newest trial
    trains; raises Pruned where it is not worth going on. tell: what came of the newest trial."""

    def trials(self) -> Iterator[Trial]: ...
    def report(self, step: int, value: float) -> None: ...
    def tell(self, trial: Trial) -> None: ...


class Listed:
    """Trials that are all known before."""

    def __init__(self, settings: Sequence[tuple[str, ...]], names: Sequence[str] = ()):
        width = max(2, len(str(len(settings))))
        self.names = list(names) or [f"t{i:0{width}d}" for i in range(1, len(settings) + 1)]
        self.settings = list(settings)

    def trials(self) -> Iterator[Trial]:
        for name, words in zip(self.names, self.settings, strict=True):
            yield Trial(name, tuple(words))

    def report(self, step: int, value: float) -> None:
        return None

    def tell(self, trial: Trial) -> None:
        return None


class Sampled:
    """Trials that optuna's default sampler (TPE) draws one by one, and its median pruner ends early.

    All of it is kept in a journal in the sweep's folder. One that was cut off is given again first, with its settings.
    """

    def __init__(self, space: Space, folder: Path, count: int, seed: int, better: str, prune: bool):
        self.optuna = optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.count, self.done = space, count, 0
        try:
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL)))
            known = storage.get_all_studies()
        except (ValueError, KeyError, TypeError, AssertionError) as error:  # lines that optuna did not write
            raise CheckpointError(
                f"{folder / JOURNAL}: damaged ({type(error).__name__}); remove the file to draw anew, or give another "
                "run.name"
            ) from None
        before = sum(storage.get_n_trials(one._study_id) for one in known)
        self.study = optuna.create_study(
            storage=storage,
            study_name="sweep",
            load_if_exists=True,
            direction="maximize" if better == "max" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=seed + before),  # a continuation does not draw the same ones again
            pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        )
        self.newest: Any = None

    def trials(self) -> Iterator[Trial]:
        """Those that were cut off, then those that have ended, from the journal, then new ones."""
        states = self.optuna.trial.TrialState
        for frozen in self.study.get_trials(deepcopy=False):
            ended = frozen.state in (states.COMPLETE, states.PRUNED, states.FAIL)
            if frozen.state != states.RUNNING and not ended:
                continue
            self.newest = None if ended else self.optuna.trial.Trial(self.study, frozen._trial_id)
            values = self._values(frozen.params) if ended else self._draw(self.newest)
            if values is not None:
                self.done += 1
                trial = self._trial(frozen.number, values)
                trial.pruned = frozen.state == states.PRUNED
                yield trial
        while self.done < self.count:
            self.newest = self.study.ask()
            self.done += 1
            yield self._trial(self.newest.number, self._draw(self.newest))

    def _trial(self, number: int, values: dict[str, Any]) -> Trial:
        return Trial(f"t{number + 1:03d}", self.space.words(values))

    def _values(self, params: dict[str, Any]) -> dict[str, Any] | None:
        return params if all(axis.key in params for axis in self.space.axes) else None

    def _draw(self, trial: Any) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for axis in self.space.axes:
            if isinstance(axis, Choice):
                values[axis.key] = trial.suggest_categorical(axis.key, list(axis.values))
            else:
                values[axis.key] = _suggest(trial, axis)
        return values

    def report(self, step: int, value: float) -> None:
        if self.newest is None or not math.isfinite(value) or step in self._reported():
            return
        self.newest.report(value, step)
        if self.newest.should_prune():
            raise Pruned("the median of the trials before was better by then")

    def _reported(self) -> dict[int, float]:
        """What a run that goes on has said already."""
        return self.newest.storage.get_trial(self.newest._trial_id).intermediate_values

    def tell(self, trial: Trial) -> None:
        if self.newest is None:
            return
        states = self.optuna.trial.TrialState
        if trial.pruned:
            self.study.tell(self.newest, state=states.PRUNED)
        elif trial.whole:
            self.study.tell(self.newest, trial.mean)
        else:
            self.study.tell(self.newest, state=states.FAIL)
        self.newest = None


def _suggest(trial: Any, axis: Range) -> float:
    if axis.whole:
        return trial.suggest_int(axis.key, round(axis.low), round(axis.high), log=axis.log)
    return trial.suggest_float(axis.key, axis.low, axis.high, log=axis.log)


def import_optuna() -> Any:
    """Raises ConfigError where it is not installed."""
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise ConfigError(
            f"ranges (low..high) are searched by optuna, which is not installed: {INSTALL}; lists (a,b,c) need none"
        ) from None
    return optuna
