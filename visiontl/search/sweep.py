"""Running the trials of a sweep, one after the other, each an ordinary run that goes on where it was cut off."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontl import plugins
from visiontl.config.resolve import Resolved, resolve
from visiontl.config.write import config_hash
from visiontl.errors import BackboneError, ConfigError, PluginError, Stopped, first_line, sentence
from visiontl.hookspecs import hookimpl
from visiontl.report.console import Console, Manner, speaking
from visiontl.search.sampling import Pruned, Source
from visiontl.search.trials import Part, Trial

WATCHER = "visiontl-sweep"


@dataclass(frozen=True)
class Sweep:
    """What is asked. config: a file or a ready config's name; fixed: words that hold in every trial; parts: the runs of
    each trial; folder: of the sweep, in which the runs lie; score, better: of val, "max" or "min"; question: which
    sweep it is, the name that its folder has by itself."""

    config: str
    fixed: tuple[str, ...]
    parts: tuple[Part, ...]
    folder: Path
    score: str
    better: str
    question: str = ""

    def words(self, trial: Trial, part: Part) -> list[str]:
        """What stands behind `visiontl train CONFIG` for one run."""
        fold = [] if part.fold is None else [f"data.fold={part.fold}"]
        return [*self.fixed, *trial.words, *fold, f"train.seed={part.seed}"]

    def place(self, trial: Trial, part: Part) -> Path:
        return self.folder / f"{trial.name}-{part.label}"


def folder_name(resolved: Resolved, question: Sequence[Any]) -> str:
    """The same for the same config and question, so that the same command goes on with the same sweep."""
    text = json.dumps([config_hash(resolved), *question], sort_keys=True, default=str)
    stem = Path(resolved.source).stem or resolved.task.name
    return f"sweep-{stem}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def check(sweep: Sweep, settings: Sequence[tuple[str, ...]]) -> None:
    """Raises ConfigError for settings that no run can have, and for two that are one, before anything runs."""
    wrong: dict[str, None] = {}
    known: dict[str, str] = {}
    backbones: set[str] = set()
    for words in settings:
        try:
            resolved, title = resolve(sweep.config, [*sweep.fixed, *words]), " ".join(words)
            same = config_hash(resolved)
        except ConfigError as error:
            wrong |= dict.fromkeys(error.problems)
            continue
        backbones.add(resolved.config.backbone.name)
        if known.setdefault(same, title) != title:
            wrong[f"{known[same]} and {title} are one setting; it would be trained twice and compared with itself"] = (
                None
            )
    for name in sorted(backbones):
        try:
            plugins.backbone_entry(name)
        except (BackboneError, PluginError) as error:
            wrong[f"backbone.name: {error}"] = None
    if wrong:
        raise ConfigError(list(wrong), sweep.config)


def run_trials(
    sweep: Sweep, source: Source, console: Console, told: Callable[[Sequence[Trial]], None], total: int
) -> list[Trial]:
    """All trials. told: called whenever something came of one. Raises Stopped, or KeyboardInterrupt, with all that was
    done on disk."""
    trials: list[Trial] = []
    for trial in source.trials():
        trials.append(trial)
        if trial.pruned:
            continue
        for i, part in enumerate(sweep.parts):
            label = f"trial {len(trials)} of {total}, {part.label}: {trial.title}"
            try:
                one_run(sweep, trial, part, source if i == 0 else None, console)
            except Pruned as error:
                trial.pruned = True
                console.say(f"{label}: pruned ({error})")
                break
            reached = trial.values.get(part.label)
            came = f"failed: {trial.failed[part.label]}" if reached is None else f"{sweep.score} {reached:.4f}"
            console.say(f"{label}: {came}")
            told(trials)
            if reached is None:  # a trial with a gap is compared with none, so its other runs would be for nothing
                break
        source.tell(trial)
        told(trials)
    return trials


def one_run(sweep: Sweep, trial: Trial, part: Part, source: Source | None, console: Console) -> None:
    """Train one, or go on with it; a run that has ended gives its score again. Another error than a request to stop is
    the run's failure, in words."""
    from visiontl.engine.train import train

    place, began = sweep.place(trial, part), time.perf_counter()
    own = [f"run.folder={place.parent}", f"run.name={place.name}", "resume=auto"]
    try:
        with speaking(Manner(quiet=True, stream=sys.stderr)), watched(sweep, source):
            report = train(sweep.config, *sweep.words(trial, part), *own)
        value = value_of(report)
        if value is None:
            raise ConfigError("its data has no val split, so no score tells which is better: --folds 5 makes some")
        trial.values[part.label] = value
    except (Stopped, KeyboardInterrupt):
        raise
    except Exception as error:  # of a plugin too; the other trials go on
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Pruned):
            cause = cause.__cause__
        if isinstance(cause, Pruned):
            raise cause from None
        trial.failed[part.label] = sentence(first_line(error) or type(error).__name__)
    finally:
        trial.seconds += time.perf_counter() - began
        release_memory()


def value_of(report: Mapping[str, Any]) -> float | None:
    """The score of val that picked the weights; None without val."""
    best = report.get("best") or (report.get("training") or {}).get("best") or {}
    return best.get("value")


def release_memory() -> None:
    """Give back what the last run's model held, on a device too, before the next one is built."""
    import gc

    torch = sys.modules.get("torch")
    gc.collect()
    if torch is None:
        return
    from visiontl.engine.cpu import give_back_freed_memory

    give_back_freed_memory()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def watched(sweep: Sweep, source: Source | None) -> Iterator[None]:
    """Within the block scores of val are told to the source of the trials, which may end the run (Pruned)."""
    if source is None:
        yield
        return

    class Watcher:
        @staticmethod
        @hookimpl
        def visiontl_logged(step: int, values: Mapping[str, float]) -> None:
            if (value := values.get(f"val/{sweep.score}")) is not None:
                source.report(step, value)

    manager = plugins.manager()
    manager.register(Watcher(), WATCHER)
    try:
        yield
    finally:
        manager.unregister(name=WATCHER)


def stopped(error: BaseException, command: str) -> Stopped | BaseException:
    """A request to stop, with the command that goes on with the whole sweep."""
    if not isinstance(error, Stopped):
        return error
    return Stopped(f"{str(error).partition('; to continue')[0]}; the same command goes on: {command}")
