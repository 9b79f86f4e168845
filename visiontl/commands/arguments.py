"""What the command lines of several commands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from visiontl.report.console import quiet
from visiontl.report.layout import tell

if TYPE_CHECKING:
    from visiontl.config.resolve import Resolved

ASSIGNED = re.compile(r"[A-Za-z_]\w*(\.\w+)*=")
OVERRIDES = """a.b=c replaces one value of the config: train.epochs=5 freeze.policy='{first: 2}'.
`visiontl config CONFIG` prints every key with its meaning."""


def config_and_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a ready config")
    parser.add_argument("overrides", metavar="a.b=c", nargs="*", default=[], help="config values to replace")


def read_config(config: str, overrides: Sequence[str]) -> Resolved:
    """The run that the words name. Says so where it is a ready config of that name."""
    from visiontl.config import ready
    from visiontl.config.resolve import resolve

    resolved = resolve(config, overrides)
    if resolved.source.startswith(ready.PREFIX) and rank() == 0 and not quiet():
        tell(f"config {config} of the package", sys.stderr)
    return resolved


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """(paths, a.b=c): an existing path is a path, whatever is in its name."""
    assigned = [a for a in arguments if ASSIGNED.match(a) and not os.path.exists(a)]
    return [a for a in arguments if a not in assigned], assigned


def run_here(run: str) -> str:
    """The run that a command line names; of hf-hub:owner/name the folder that it was downloaded to."""
    if not run.startswith("hf-hub:"):
        return run
    from visiontl.runs.hub import fetched

    return str(fetched(run))


def warn_of_plugins() -> None:
    """What is installed and cannot be used; it stops nobody who does not ask for it."""
    from visiontl import plugins

    if rank() == 0:
        for line in plugins.warnings():
            tell(f"warning: {line}", sys.stderr)


def rank() -> int:
    """Known before the process group is: launchers set it in the environment."""
    text = os.environ.get("RANK", "0")
    return int(text) if text.isdecimal() else 0
