"""visiontl tune"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from visiontl.commands.arguments import read_config, warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.commands.sweep import positive
from visiontl.errors import ConfigError, did_you_mean
from visiontl.task import Command

if TYPE_CHECKING:
    from visiontl.config.resolve import Resolved

WHAT = ("lr", "batch")
STEPS = 100  # updates of a range test


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="lr | batch | CONFIG", help="what to tune, both by default; then the config")
    parser.add_argument("rest", metavar="CONFIG | a.b=c", nargs="*", default=[], help="config values to replace")
    parser.add_argument("--steps", metavar="N", type=positive, default=STEPS, help="updates of the range test")
    parser.add_argument("--out", metavar="FILE", help="the config with what was found; of both: CONFIG-tuned.yaml")
    speech_flags(parser, "what was found")


def run(given: argparse.Namespace) -> int:
    what, config, overrides = split(given)
    if given.steps < 20:
        raise ConfigError(f"--steps {given.steps}: a range test needs 20 updates or more")
    warn_of_plugins()
    resolved = read_config(config, overrides)
    out = place_of(given.out or (None if len(what) < 2 else f"{Path(resolved.source).stem}-tuned.yaml"))
    refuse(resolved)
    from visiontl.config.resolve import resolve
    from visiontl.runs.folders import require_writable

    for place in (Path(resolved.config.run.folder), *([out.absolute().parent] if out else ())):
        require_writable(place)  # before the work of which the result goes there
    from visiontl.config.write import to_yaml
    from visiontl.engine.example import with_example
    from visiontl.report.console import Console
    from visiontl.runs.files import write_text
    from visiontl.search import tuning

    console, found = Console(), tuning.Tuned()
    resolved = with_example(resolved, console)
    if "batch" in what:
        tuning.tune_batch(resolved, console, found)
    if "lr" in what:
        tuning.tune_rate(resolve(resolved, [found.changes]), console, found, given.steps)
    for line in found.said:
        console.say(line)
    page = Path(resolved.config.run.folder) / f"tune-{Path(resolved.source).stem or resolved.task.name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    steps = [] if given.steps == STEPS else ["--steps", str(given.steps)]
    command = ["visiontl", "tune", given.what, *given.rest, *steps]
    tuning.write_page(page, resolved, found, shlex.join(command))
    console.say(f"page: {page}")
    words = tuning.as_words(found.changes)
    if out is not None and found.changes:
        write_text(out, to_yaml(resolve(resolved, [found.changes])))
        console.say(f"config: {out}")
        console.say(f"next: visiontl train {shlex.quote(str(out))}")
    elif found.changes:
        kept = [word for word in overrides if word.partition("=")[0] not in {one.partition("=")[0] for one in words}]
        console.say(f"next: {shlex.join(['visiontl', 'train', config, *kept, *words])}")
    values = {**tuning.told_of(found), "page": str(page), "config": str(out) if out else None}
    answer(values, " ".join(words) or str(page))
    return 0 if found.changes else 1


def split(given: argparse.Namespace) -> tuple[tuple[str, ...], str, list[str]]:
    """(what to tune, the config, overrides). Raises ConfigError where no config is named."""
    if given.what in WHAT and not os.path.exists(given.what):
        if not given.rest:
            raise ConfigError(f"tune {given.what}: name a config: visiontl tune {given.what} CONFIG")
        return (given.what,), given.rest[0], given.rest[1:]
    if given.rest and "=" not in given.rest[0]:
        raise ConfigError(f"cannot tune {given.what!r}{did_you_mean(given.what, WHAT)}; expected lr, batch or a config")
    return WHAT, given.what, list(given.rest)


def place_of(out: str | None) -> Path | None:
    """Raises ConfigError for a file that is there, or whose folder is not."""
    if out is None:
        return None
    place = Path(out)
    if place.exists() or place.is_symlink():
        raise ConfigError(f"{place} is there already; nothing is overwritten: name another file, --out FILE")
    if not place.parent.is_dir():
        raise ConfigError(f"--out {place}: there is no folder {place.parent}")
    return place


def refuse(resolved: Resolved) -> None:
    from visiontl.processes.launch import world_size

    if world_size() > 1:
        raise ConfigError("tune runs on one process; start it without a launcher")
    if resolved.config.train.epochs == 0:
        raise ConfigError("train.epochs is 0: nothing is trained, so there is nothing to tune")


EXAMPLES = """Real updates from the weights that training starts from, on the run's own data; nothing of them is kept.
  visiontl tune photos.yaml                the batch, then the rate, into photos-tuned.yaml
  visiontl tune lr photos.yaml             a range test, with its plot and the reason
  visiontl tune batch photos.yaml          the largest micro-batch that fits"""

COMMAND = Command("tune", "find the learning rate, and the largest batch that fits", arguments, run, EXAMPLES)
