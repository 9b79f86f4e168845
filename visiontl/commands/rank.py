"""visiontl rank"""

from __future__ import annotations

import argparse
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from visiontl.commands.arguments import config_and_overrides, read_config, warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.commands.sweep import positive
from visiontl.errors import ConfigError
from visiontl.kit.words import count
from visiontl.task import Command

if TYPE_CHECKING:
    from visiontl.config.resolve import Resolved
    from visiontl.report.console import Console
    from visiontl.search.ranking import Ranking
    from visiontl.search.settling import Settled

BUDGET = "10m"
IMAGES = 2000
SETTLED = 4
UNITS = {"s": 1, "m": 60, "h": 3600}


def arguments(parser: argparse.ArgumentParser) -> None:
    config_and_overrides(parser)
    parser.add_argument(
        "--backbones", metavar="PATTERN", nargs="+", default=[], help="'resnet*', a part of a name, or NAME=WEIGHTS; "
        "default: all whose weights are on this machine",
    )  # fmt: skip
    parser.add_argument("--licenses", metavar="LIST", default="", help="only weights of these, as mit,apache-2.0")
    parser.add_argument(
        "--budget", metavar="TIME", type=seconds, default=BUDGET, help=f"90s, 10m, 2h; default {BUDGET}"
    )
    parser.add_argument("--images", metavar="N", type=positive, default=IMAGES, help="training images read, at most")
    parser.add_argument(
        "--settle", metavar="N", type=natural, default=SETTLED, help="how many real runs decide between"
    )
    parser.add_argument("--fetch", action="store_true", help="download weights that are not on this machine")
    speech_flags(parser, "the ranking")


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not found or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 90s, 10m or 2h")
    return float(found[1]) * UNITS[found[2] or "s"]


def natural(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def apart(given: argparse.Namespace) -> None:
    """`a.b=c` of a config that stands behind --backbones is none of its patterns: no backbone is called so."""
    from visiontl.config.schema import Config

    words = [one for one in given.backbones if one.partition("=")[0].partition(".")[0] in Config.model_fields]
    of_config = [one for one in words if "." in one.partition("=")[0] and "=" in one]
    given.backbones = [one for one in given.backbones if one not in of_config]
    given.overrides = [*given.overrides, *of_config]


def run(given: argparse.Namespace) -> None:
    began = time.monotonic()
    apart(given)
    warn_of_plugins()
    resolved = read_config(given.config, given.overrides)
    refuse(resolved)
    from visiontl.runs.folders import require_writable

    require_writable(Path(resolved.config.run.folder))
    from visiontl.engine.example import with_example
    from visiontl.report.console import Console
    from visiontl.search import ranked
    from visiontl.search.candidates import Wanted, candidates
    from visiontl.search.ranking import rank

    licenses = [one for one in given.licenses.split(",") if one.strip()]
    found, notes = candidates(resolved, Wanted(given.backbones, licenses, given.fetch))
    console = Console()
    for line in notes:
        console.say(line)
    console.say(f"{count(len(found), 'backbone')}: {', '.join(one.title for one in found)}")
    ranking = rank(with_example(resolved, console), found, given.budget, given.images, console)
    ranking.notes[:0] = notes
    for row in ranking.rows:
        if row.failure:
            console.warn(f"{row.candidate.title} failed: {row.failure}")
    columns, rows = ranked.short_table(ranking)
    console.table("", columns, rows)
    settled = settle(given, resolved, ranking, began + given.budget, console)
    score = score_of(resolved)[0]
    if settled:
        grid = ranked.settled_table(settled, score)
        console.table("", grid.columns, grid.rows)
    verdict = ranked.verdict(ranking, settled)
    for line in verdict:
        console.say(line)
    page = Path(resolved.config.run.folder) / f"rank-{Path(resolved.source).stem or resolved.task.name}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    ranked.write_page(page, ranking, settled, score, shlex.join(as_typed(given)))
    console.say(f"page: {page}")
    words = ranked.choice(ranking, settled).candidate.words
    console.say(f"next: {shlex.join(['visiontl', 'train', given.config, *given.overrides, *words])}")
    answer(ranked.told_of(ranking, settled, page), f"{' '.join(verdict)} {page}")


def as_typed(given: argparse.Namespace) -> list[str]:
    """The command line that asks for the same ranking."""
    flags = [
        *(("--backbones", *given.backbones) if given.backbones else ()),
        *(("--licenses", given.licenses) if given.licenses else ()),
        *(("--budget", f"{given.budget:g}s") if given.budget != seconds(BUDGET) else ()),
        *(("--images", str(given.images)) if given.images != IMAGES else ()),
        *(("--settle", str(given.settle)) if given.settle != SETTLED else ()),
        *(("--fetch",) if given.fetch else ()),
    ]
    return ["visiontl", "rank", given.config, *given.overrides, *flags]


def refuse(resolved: Resolved) -> None:
    """Raises ConfigError for what cannot be ranked, before torch is imported."""
    from visiontl.processes.launch import world_size

    if world_size() > 1:
        raise ConfigError("rank runs on one process; start it without a launcher")
    if resolved.task.probe is None:
        raise ConfigError(
            f"task {resolved.task.name!r} does not say which labels its images have (it has no `probe`), so backbones "
            "cannot be ranked for it by their features; `visiontl sweep CONFIG backbone.name=a,b,c` trains with each"
        )


def score_of(resolved: Resolved) -> tuple[str, str]:
    """(score, max or min) that picks a run's weights."""
    from visiontl.config.resolve import ranked

    scores = ranked(resolved.task, resolved.cfg)
    score = resolved.config.train.best or next(iter(scores))
    return score, scores[score]


def settle(
    given: argparse.Namespace, resolved: Resolved, ranking: Ranking, ends: float, console: Console
) -> list[Settled]:
    """Real runs of the best few that features cannot tell apart, where there are two and time is left."""
    from visiontl.runs import folders
    from visiontl.search.settling import settle
    from visiontl.search.sweep import Sweep, folder_name, stopped
    from visiontl.search.trials import Part

    rows = [row for row in ranking.close if not row.candidate.random][: given.settle]
    if len(rows) < 2 or resolved.config.train.epochs == 0:
        return []
    if time.monotonic() > ends:
        ranking.notes.append("the budget was spent on features: no real runs were made")
        return []
    section = resolved.config
    name = folder_name(resolved, ["rank"]).replace("sweep-", "rank-", 1)
    own = ("run.name", "run.folder", "resume")
    fixed = tuple(word for word in given.overrides if word.partition("=")[0] not in own)
    part = Part(section.train.seed)
    sweep = Sweep(given.config, fixed, (part,), Path(section.run.folder) / name, *score_of(resolved))
    sweep.folder.mkdir(parents=True, exist_ok=True)
    folders.lock(sweep.folder)
    try:
        found, notes = settle(sweep, resolved, rows, ends, console)
    except BaseException as error:
        raise stopped(error, "visiontl rank") from None
    finally:
        folders.release(sweep.folder)
    ranking.notes += notes
    return found


EXAMPLES = """By a linear probe on frozen features of the run's own training images, cross-validated; nearest neighbors
and LogME beside it. Real runs settle those that the probe cannot tell apart. Random weights are always the floor.
  visiontl rank photos.yaml
  visiontl rank photos.yaml --backbones 'efficientnet_*' resnet18=mine.pth --licenses mit,apache-2.0 --budget 30m"""

COMMAND = Command("rank", "put pretrained backbones in order for a config's own images", arguments, run, EXAMPLES)
