"""visiontl doctor"""

from __future__ import annotations

import argparse

from visiontl.commands.arguments import OVERRIDES, config_and_overrides, read_config, warn_of_plugins
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    config_and_overrides(parser)
    parser.add_argument("--json", metavar="FILE", help="also write everything that was found, with all names")


def run(given: argparse.Namespace) -> int:
    warn_of_plugins()
    resolved = read_config(given.config, given.overrides)
    from visiontl.doctor import diagnose as doctor

    return doctor.doctor(resolved, given.json)


COMMAND = Command("doctor", "read all data of a config and say what is wrong with it", arguments, run, OVERRIDES)
