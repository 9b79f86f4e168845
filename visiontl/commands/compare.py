"""visiontl compare"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.task import Command

MARK = "visiontl compare</title>"  # by which a page of this command is known
HEAD = 2000  # bytes of a file that are looked at for it


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", help="2 to 20 folders of runs or evaluations of one task")
    speech_flags(parser, "the table")
    parser.add_argument("--out", metavar="FILE", help="the page; default: compare.html beside the first run")


def run(given: argparse.Namespace) -> None:
    from visiontl.report import comparison
    from visiontl.report.console import Console
    from visiontl.runs.comparing import read_runs
    from visiontl.runs.files import write_text

    folders = [Path(one) for one in given.runs]
    place = Path(given.out) if given.out else folders[0].absolute().parent / "compare.html"
    replaced = refuse_another_file(place)
    console = Console()
    runs, left_out = read_runs(folders)
    for line in [*left_out, *comparison.remarks(runs)]:
        console.say(line)
    table = comparison.overview(runs)
    console.table("", table.columns, table.rows)
    differing = comparison.settings_grid(runs)
    keys = [row[0] for row in differing.rows] if differing else []
    console.say(f"settings that differ: {', '.join(keys)}" if keys else "no setting differs")
    write_text(place, comparison.page(runs, left_out, shlex.join(["visiontl", "compare", *given.runs])))
    console.say(f"{'page, replacing the one before' if replaced else 'page'}: {place}")
    answer({**comparison.told(runs, left_out), "page": str(place)}, str(place))


def refuse_another_file(place: Path) -> bool:
    """Whether an older page of this command stands there. Raises ConfigError for another file, or where none can be."""
    if place.is_dir():
        raise ConfigError(f"--out {place}: is a folder; name a file: --out {place / 'compare.html'}")
    if not place.parent.is_dir():
        raise ConfigError(f"--out {place}: there is no folder {place.parent}")
    if not place.exists():
        return False
    with place.open("rb") as file:
        if MARK.encode() not in file.read(HEAD):
            raise ConfigError(
                f"{place} is no page of `visiontl compare` and stays as it is: name another file, --out FILE"
            )
    return True


COMMAND = Command("compare", "set runs beside each other: settings, curves, scores, noise, time", arguments, run)
