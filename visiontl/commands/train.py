"""visiontl train"""

from __future__ import annotations

import argparse

from visiontl.commands.arguments import OVERRIDES, config_and_overrides, read_config, warn_of_plugins
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    config_and_overrides(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="one batch of everything: train, evaluate, save, load, predict"
    )


def run(given: argparse.Namespace) -> None:
    warn_of_plugins()
    resolved = read_config(given.config, given.overrides)  # mistakes are told before torch is imported
    from visiontl.engine.train import train

    train(resolved, dry_run=given.dry_run)


COMMAND = Command("train", "train a model as a config file says", arguments, run, OVERRIDES)
