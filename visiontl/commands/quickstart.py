"""visiontl quickstart"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from visiontl.commands.arguments import split_arguments, warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError, Stopped, did_you_mean, first_line, sentence, shortened
from visiontl.processes import garbage
from visiontl.report.formats import number
from visiontl.report.layout import tell
from visiontl.task import Command

READY = "quickstart"  # a task's ready config of this name is its quick start
RANDOM = "backbone.weights=none"
COLUMNS = ("task", "score", "reached", "random weights", "seconds", "report")
WORDS = 60  # characters of what went wrong, in the table


@dataclass(frozen=True)
class Outcome:
    """What came of one task's quick start.

    score: its name, on which split, and which way is better; or what went wrong. random: the same config with random
    weights. seconds: of the run with pretrained weights, data and report included. trivial: what the same ruler gives
    answers that need no training. other: that ruler under random weights, where it is another one.
    """

    task: str
    score: str
    reached: float | None = None
    random: float | None = None
    seconds: float | None = None
    report: str = ""
    trivial: float | None = None
    other: float | None = None

    def row(self) -> tuple[Any, ...]:
        seconds = None if self.seconds is None else round(self.seconds)
        return self.task, self.score, self.reached, self.random, seconds, self.report or None


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("rest", metavar="TASK | a.b=c", nargs="*", help="default: all tasks; config values to replace")
    parser.add_argument("--no-random", action="store_true", help="leave out the runs with random weights")
    speech_flags(parser, "the table")


def run(given: argparse.Namespace) -> int:
    names, overrides = split_arguments(given.rest)
    warn_of_plugins()
    tasks = chosen(names)
    refuse_a_launcher()
    from visiontl.config.resolve import resolve

    for task in tasks:  # mistakes in what is to be replaced are told before anything runs
        resolve(f"{task}/{READY}", overrides)
    outcomes: list[Outcome] = []
    code = 0
    for task in tasks:
        try:
            outcomes.append(quick_start(task, overrides, random=not given.no_random, done=outcomes))
        except (KeyboardInterrupt, Stopped) as stopped:
            say(str(stopped) or "interrupted")
            if not outcomes or outcomes[-1].task != task:
                outcomes.append(Outcome(task, "stopped"))
            code = stopped.exit_code if isinstance(stopped, Stopped) else 130
            break
        if outcomes[-1].reached is None:
            code = 1
    show(outcomes, tasks, not given.no_random)
    rows = [dict(zip(COLUMNS, outcome.row(), strict=True)) for outcome in outcomes]
    answer(rows, "; ".join(told(outcome) for outcome in outcomes))
    return code


def chosen(names: Sequence[str]) -> list[str]:
    """The tasks that are named, or all that are installed and have a quick start. Raises ConfigError."""
    from visiontl import plugins
    from visiontl.config import ready

    configs = ready.runs()
    known = [task for task in plugins.tasks() if f"{task}/{READY}" in configs]
    for name in names:
        if name not in known:
            lacks = f": there is no ready config {name}/{READY}" if name in plugins.tasks() else ""
            raise ConfigError(f"no quick start {name!r}{lacks}{did_you_mean(name, known)}")
    if not known:
        raise ConfigError("no task that is installed has a quick start; see `visiontl list plugins`")
    return list(dict.fromkeys(names)) or known


def refuse_a_launcher() -> None:
    from visiontl.processes.launch import world_size

    if world_size() > 1:
        raise ConfigError(
            "quickstart runs on one process; start it without a launcher, or launch `visiontl train TASK/quickstart`"
        )


def quick_start(task: str, overrides: Sequence[str], random: bool, done: list[Outcome]) -> Outcome:
    """Run one, and the same with random weights. What fails is an outcome in words; where the second is asked to stop,
    the first is left in `done`."""
    stamp = datetime.now().strftime("%m%d-%H%M%S")
    outcome = one_run(task, [*overrides, f"run.name={task}-{stamp}"])
    if outcome.reached is None or not random:
        return outcome
    done.append(outcome)
    beside = one_run(task, [*overrides, RANDOM, f"run.name={task}-random-{stamp}"])
    done.pop()
    if not same_ruler(outcome.trivial, beside.trivial):  # a score that the backbone itself measures, such as a distance
        return replace(outcome, other=beside.trivial)
    return replace(outcome, random=beside.reached)


def same_ruler(ours: float | None, theirs: float | None) -> bool:
    """Whether an answer that needs no training is worth the same in both: it knows of no weights."""
    return ours is None or theirs is None or math.isclose(ours, theirs, rel_tol=1e-4, abs_tol=1e-6)


def one_run(task: str, overrides: Sequence[str]) -> Outcome:
    with garbage.uncollected():
        from visiontl.engine.train import train
    config = f"{task}/{READY}"
    say(f"== visiontl train {config} {' '.join(overrides)}")
    began = time.perf_counter()
    try:
        report = train(config, *overrides)
        name, split, value = headline(report)
    except Stopped:
        raise
    except Exception as error:  # of a plugin too; the other tasks go on
        tell(sentence(f"error: {task}: {error or type(error).__name__}"), sys.stderr)
        return Outcome(task, f"failed: {shortened(first_line(error), WORDS)}")
    finally:
        sys.stdout.flush()
    seconds = time.perf_counter() - began
    place = str(Path(report["run"]) / "report.html")
    score = f"{name} ({split}){better(task, overrides, name)}"
    return Outcome(task, score, value, None, seconds, place, trivial_of(report))


def trivial_of(report: Mapping[str, Any]) -> float | None:
    """What the ranked score is for the trivial answer on val, where the task knows one."""
    return ((report.get("trivial") or {}).get("val") or {}).get("value")


def headline(report: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """(score, split, value): the score that picked the weights, of the split that nothing chose where there is one."""
    name, scores = report["best"]["score"], report["scores"]
    split = next((one for one in ("test", "val") if scores.get(one, {}).get(name) is not None), "val")
    return name, split, scores.get(split, {}).get(name)


def better(task: str, overrides: Sequence[str], name: str) -> str:
    """`, less is better` where it is so."""
    from visiontl.config.resolve import ranked, resolve

    resolved = resolve(f"{task}/{READY}", overrides)
    return ", less is better" if ranked(resolved.task, resolved.cfg).get(name) == "min" else ""


def told(outcome: Outcome) -> str:
    if outcome.reached is None:
        return f"{outcome.task} {outcome.score}"
    beside = "" if outcome.random is None else f", {number(outcome.random)} with random weights"
    return f"{outcome.task} {outcome.score} {number(outcome.reached)}{beside}"


def say(text: str) -> None:
    from visiontl.report.console import Console

    Console().write(sentence(text))


def show(outcomes: Sequence[Outcome], tasks: Sequence[str], random: bool) -> None:
    """The table, and what it leaves open."""
    from visiontl.report.console import Console

    console = Console()
    keep = [i for i, name in enumerate(COLUMNS) if random or name != COLUMNS[3]]
    console.table("", [COLUMNS[i] for i in keep], [[outcome.row()[i] for i in keep] for outcome in outcomes])
    left = [task for task in tasks if task not in {outcome.task for outcome in outcomes}]
    if left:
        console.write(f"not run: {', '.join(left)}")
    for one in outcomes:
        if one.trivial is not None and one.other is not None:
            console.write(
                f"{one.task}: the backbone itself measures this score, so random weights' own does not compare "
                f"(the trivial answer is worth {number(one.trivial)} here, {number(one.other)} there)"
            )
    if random:
        console.write(f"random weights: the same config with {RANDOM}, really run; the seconds are without it")


EXAMPLES = """Each is `visiontl train TASK/quickstart`, on samples that are drawn on the spot,
and then the same with random weights."""

COMMAND = Command(READY, "run the quick start of each task, and put random weights beside it", arguments, run, EXAMPLES)
