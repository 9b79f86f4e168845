"""visiontl train"""

from __future__ import annotations

import argparse
import sys

from visiontl.commands.arguments import OVERRIDES, config_and_overrides, rank, read_config, warn_of_plugins
from visiontl.commands.results import answer, headline, speech_flags
from visiontl.processes import garbage
from visiontl.report.layout import tell
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    config_and_overrides(parser)
    speech_flags(parser, "the report")
    parser.add_argument(
        "--dry-run", action="store_true", help="one batch of everything: train, evaluate, save, load, predict"
    )


def run(given: argparse.Namespace) -> None:
    warn_of_plugins()
    resolved = read_config(given.config, given.overrides)  # mistakes are told before torch is imported
    with garbage.uncollected():
        from visiontl.config.write import to_yaml
        from visiontl.engine.train import train

    if given.verbose and rank() == 0:
        tell(to_yaml(resolved, comments=False), sys.stderr)
    with garbage.left_out():
        report = train(resolved, dry_run=given.dry_run)
    answer(report, headline(report))


COMMAND = Command("train", "train a model as a config file says", arguments, run, OVERRIDES)
