"""visiontl sweep"""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visiontl.commands.arguments import read_config, warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.search.space import Space, read_space
from visiontl.task import Command

if TYPE_CHECKING:
    from visiontl.config.resolve import Resolved
    from visiontl.search.sweep import Sweep
    from visiontl.search.trials import Trial

TRIALS = 20  # of a sweep with ranges
GRID = 1000  # trials, and runs of each; more are a mistake rather than a wish


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a ready config")
    parser.add_argument(
        "overrides", metavar="a.b=c", nargs="*", default=[], help="a.b=x,y,z or a.b=low..high is tried, a.b=c holds"
    )
    parser.add_argument("--seeds", metavar="N", type=positive, default=1, help="runs of each trial, by other seeds")
    parser.add_argument("--folds", metavar="N", type=positive, help="cross-validate each trial on N parts of train")
    parser.add_argument("--trials", metavar="N", type=positive, help=f"with ranges: how many; default {TRIALS}")
    parser.add_argument("--heads", metavar="N", type=positive, help="try N linear heads at once on frozen features")
    parser.add_argument("--no-prune", action="store_true", help="with ranges: train every trial to its end")
    speech_flags(parser, "the trials")


def positive(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:20]) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def run(given: argparse.Namespace) -> int:
    space = read_space(given.overrides)
    warn_of_plugins()
    resolved = read_config(given.config, space.fixed)
    if given.heads is not None:
        return at_once(given, space, resolved)
    sweep = asked(given, space, resolved)
    from visiontl.report.console import Console
    from visiontl.runs import folders
    from visiontl.search import shown
    from visiontl.search import sweep as running
    from visiontl.search.trials import by_score, margin, write, write_first

    console = Console()
    folders.require_writable(sweep.folder)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    folders.lock(sweep.folder)
    command = shlex.join(["visiontl", "sweep", given.config, *given.overrides, *flags(given)])
    about = {"command": command, "question": sweep.question, "score": sweep.score, "better": sweep.better}
    write_first(sweep.folder, about)
    trials: list[Trial] = []

    def told(found: Sequence[Trial]) -> None:
        trials[:] = found
        write(sweep.folder, about, found)

    try:
        source, total = source_of(given, space, resolved, sweep)
        runs = f"{total} trials" + (f" of {len(sweep.parts)} runs" if len(sweep.parts) > 1 else "")
        console.say(f"{runs} in {sweep.folder}; the best by val {sweep.score}")
        running.run_trials(sweep, source, console, told, total)
    except BaseException as error:
        if trials:
            shown.write_page(sweep, space.axes, trials, command, ["the sweep was stopped before its end"])
        raise running.stopped(error, command) from None
    finally:
        folders.release(sweep.folder)
    grid = shown.table(sweep, trials)
    console.table("", grid.columns, grid.rows)
    ranked = by_score(trials, sweep.better)
    failed = [one for one in trials if one.failed]
    for one in failed:
        console.warn(f"{one.name} ({one.title}) failed: {next(iter(one.failed.values()))}")
    verdict = margin(ranked, sweep.score)
    console.say(verdict)
    page = shown.write_page(sweep, space.axes, trials, command)
    console.say(
        f"page: {page}" if page else f"no page: it compares runs, and fewer than two have ended in {sweep.folder}"
    )
    if ranked:
        line = ["visiontl", "train", given.config, *sweep.fixed, *ranked[0].words]
        console.say(f"next: {shlex.join(line)}")
    answer(told_of(sweep, trials, verdict, page), f"{verdict}: {page or sweep.folder}")
    return 1 if failed and not ranked else 0


def at_once(given: argparse.Namespace, space: Space, resolved: Resolved) -> int:
    """Many heads on features that are computed once."""
    if space.axes or given.folds or given.seeds > 1 or given.trials:
        raise ConfigError("--heads chooses its own rates and decays: give no lists, no ranges and no other flags")
    if resolved.task.probe is None:
        raise ConfigError(f"--heads: task {resolved.task.name!r} does not say the labels of its images (no `probe`)")
    from visiontl.engine.example import with_example
    from visiontl.report.console import Console
    from visiontl.search import at_once, heads

    console = Console()
    found, seconds = at_once.tried_heads(with_example(resolved, console), given.heads, console)
    console.table("", ["layer", "optim.lr", "optim.weight_decay", "val accuracy"], at_once.rows(found))
    verdict = heads.verdict(found)
    console.say(f"{verdict} ({seconds:.1f} s of training for all)")
    best = next((one.head for one in found if one.head.layer == "pooled"), found[0].head)
    if best is not found[0].head:
        console.say("what is trained below reads the pooled embedding, as the task's own head does: the best of those")
    words = [f"optim.lr={best.lr:.3g}", f"optim.weight_decay={best.decay:g}", "freeze.policy=all"]
    console.say(f"next: {shlex.join(['visiontl', 'train', given.config, *space.fixed, *words])}")
    answer(at_once.told_of(found, seconds, verdict), verdict)
    return 0


def asked(given: argparse.Namespace, space: Space, resolved: Resolved) -> Sweep:
    """Raises ConfigError for a sweep that cannot be run, before torch is imported."""
    from visiontl.config.resolve import ranked
    from visiontl.processes.launch import world_size
    from visiontl.search.sweep import Sweep, check, folder_name
    from visiontl.search.trials import parts_of, require_own

    if world_size() > 1:
        raise ConfigError("sweep runs its trials on one process; start it without a launcher")
    if not space.axes and given.seeds == 1 and given.folds is None:
        raise ConfigError(
            "nothing to try: write a list (optim.lr=0.01,0.003) or a range (optim.lr=1e-4..1e-2), or ask for --seeds 3"
        )
    if given.folds == 1:
        raise ConfigError("--folds 1: at least 2 parts are needed to train on one and be judged on another")
    if given.trials is not None and not space.ranges:
        raise ConfigError("--trials is for ranges (low..high); lists are tried in all their combinations")
    for axis in space.axes:
        own = {"train.seed": "--seeds 3", "data.fold": "--folds 5"}.get(axis.key)
        if own or axis.key in ("run.folder", "run.name", "resume", "train.best"):
            raise ConfigError(f"{axis.key} cannot be tried{f'; {own} does that' if own else ''}")
    require_few(given, space)
    settings = space.grid()
    scores = ranked(resolved.task, resolved.cfg)
    score = resolved.config.train.best or next(iter(scores))
    section = resolved.config
    parts = parts_of(section.train.seed, given.seeds, given.folds)
    question = [[repr(axis) for axis in space.axes], given.folds, given.seeds if space.ranges else None]
    own = folder_name(resolved, question)
    fixed = tuple(word for word in space.fixed if word.partition("=")[0] not in ("run.name", "run.folder", "resume"))
    sweep = Sweep(
        given.config,
        fixed,
        tuple(parts),
        Path(section.run.folder) / (section.run.name or own),
        score,
        scores[score],
        own,
    )
    check(sweep, settings)
    require_own(sweep.folder, own)
    return sweep


def require_few(given: argparse.Namespace, space: Space) -> None:
    """Raises ConfigError for more runs than anybody waits for, before they are listed."""
    trials = given.trials or TRIALS if space.ranges else math.prod(len(one.values) for one in space.lists)
    parts = given.seeds * (given.folds or 1)
    if trials > GRID or parts > GRID:
        made = f"{trials:,} trials" + (f" of {parts:,} runs" if parts > 1 else "")
        raise ConfigError(f"that makes {made}; {GRID:,} of each are the most: try fewer at a time")


def source_of(given: argparse.Namespace, space: Space, resolved: Resolved, sweep: Sweep) -> tuple[Any, int]:
    """(where trials come from, how many there are)"""
    from visiontl.search.sampling import Listed, Sampled

    if not space.ranges:
        settings = space.grid()
        return Listed(settings), len(settings)
    total, seed = given.trials or TRIALS, resolved.config.train.seed
    return Sampled(space, sweep.folder, total, seed, sweep.better, not given.no_prune), total


def flags(given: argparse.Namespace) -> list[str]:
    """The flags that were given, as they are typed."""
    named = {"--seeds": given.seeds if given.seeds > 1 else None, "--folds": given.folds, "--trials": given.trials}
    words = [word for flag, value in named.items() if value is not None for word in (flag, str(value))]
    return [*words, *(["--no-prune"] if given.no_prune else [])]


def told_of(sweep: Sweep, trials: Sequence[Trial], verdict: str, page: Path | None) -> dict[str, Any]:
    from visiontl.search.trials import by_score

    return {
        "folder": str(sweep.folder),
        "page": None if page is None else str(page),
        "score": sweep.score,
        "better": sweep.better,
        "verdict": verdict,
        "best": next((list(one.words) for one in by_score(trials, sweep.better)), None),
        "trials": [
            {
                "name": one.name,
                "settings": list(one.words),
                "state": one.state,
                "mean": one.mean if one.values else None,
                "spread": one.spread,
                "values": one.values,
                "failed": one.failed,
            }
            for one in trials
        ],
    }


EXAMPLES = """Lists are tried in all their combinations, ranges by optuna (pip install 'visiontl[sweep]').
Each trial is an ordinary run; the same command goes on with what was cut off.
  visiontl sweep photos.yaml optim.lr=0.01,0.003,0.001 --seeds 3
  visiontl sweep photos.yaml 'optim.lr=1e-4..1e-1 log' train.batch_size=16,32 --folds 5"""

COMMAND = Command(
    "sweep", "try settings of a config against each other, by several seeds or folds", arguments, run, EXAMPLES
)
