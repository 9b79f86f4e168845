"""visiontl merge"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from visiontl.commands.arguments import split_arguments, warn_of_plugins
from visiontl.commands.results import answer, headline, speech_flags
from visiontl.errors import ConfigError
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN | how=value", nargs="+", help="2 or more runs of one task on one data set")
    speech_flags(parser, "the report")
    parser.add_argument("--out", metavar="DIR", help="where model and report go; default: beside the first run")


def run(given: argparse.Namespace) -> None:
    from visiontl.config.merging import MergeOptions
    from visiontl.config.overrides import option_values, parse_options
    from visiontl.runs.recent import instead_of_config, is_config, no_such_run

    runs, assigned = split_arguments(given.runs)
    options = parse_options(MergeOptions, option_values(assigned, "merge"), "merge")
    assert isinstance(options, MergeOptions)
    for one in runs:
        if is_config(one):
            raise ConfigError(instead_of_config(one, ["merge", *given.runs]))
        if not Path(one).exists():
            raise ConfigError(no_such_run(Path(one)))
    if len(runs) < 2 or (options.how == "path" and len(runs) != 2):
        wanted = "two runs" if options.how == "path" else "2 or more runs"
        raise ConfigError(f"{wanted} are merged; got {len(runs)}: visiontl merge RUN RUN ...")
    warn_of_plugins()
    from visiontl.engine import merging
    from visiontl.engine.alike import whole_run

    out = given.out or whole_run(runs[0]).parent / f"merge-{datetime.now():%Y%m%d-%H%M%S}"
    report = merging.merge(runs, out, options)
    answer(report, headline(report))


def options_help(words: Sequence[str]) -> str:
    from visiontl.config.merging import MergeOptions
    from visiontl.config.overrides import option_lines

    return "\n".join(["what can be asked (name=value):", *option_lines(MergeOptions)])


COMMAND = Command(
    "merge", "one model from the weights of several runs: soups, and the path between two", arguments, run, options_help
)
