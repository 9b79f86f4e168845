"""visiontl doctor"""

from __future__ import annotations

import argparse

from visiontl.commands.arguments import OVERRIDES, config_and_overrides, read_config, warn_of_plugins
from visiontl.commands.results import ALONE, answer, wants_json
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    config_and_overrides(parser)
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const=ALONE,
        help="print everything that was found, with all names, as JSON, and all else on stderr; FILE: write it there",
    )


def run(given: argparse.Namespace) -> int:
    warn_of_plugins()
    resolved = read_config(given.config, given.overrides)
    from visiontl.doctor import diagnose as doctor

    if not wants_json(given):
        return doctor.doctor(resolved, given.json)
    from visiontl.report.console import Console

    console = Console()
    found = doctor.diagnose(resolved, console)
    doctor.show(found, console)
    answer(doctor.to_json(found, resolved))
    return found.exit_code


COMMAND = Command("doctor", "read all data of a config and say what is wrong with it", arguments, run, OVERRIDES)
