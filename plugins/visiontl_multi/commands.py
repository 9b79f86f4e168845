"""The subcommands `visiontl multi ...`. Imports no torch."""

from __future__ import annotations

import argparse

from visiontl import Command, lazy


def part_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder of several tasks, or its model/ alone")
    parser.add_argument("part", metavar="PART", help="whose model, by its name in task.tasks")
    parser.add_argument("out", metavar="MODEL", help="a new folder for the model of that part alone")


COMMANDS = (
    Command(
        "part",
        "take one part out as a model of its own task, which that task's commands read",
        part_arguments,
        lazy("visiontl_multi.usage:part"),
    ),
)
