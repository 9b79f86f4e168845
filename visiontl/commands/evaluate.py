"""visiontl evaluate"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from visiontl.commands.arguments import OVERRIDES, read_config, split_arguments, warn_of_plugins
from visiontl.errors import ConfigError
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or a config whose model is measured untrained")
    parser.add_argument(
        "rest", metavar="DATA | a.b=c", nargs="*", default=[], help="other data; config values to replace"
    )
    parser.add_argument(
        "--split",
        action="append",
        metavar="NAME",
        help="train, val or test; repeatable; default: val and test",
    )
    parser.add_argument("--out", metavar="DIR", help="where the report goes; default: in the run, or beside a model/")


def run(given: argparse.Namespace) -> None:
    data, overrides = split_arguments(given.rest)
    if len(data) > 1:
        raise ConfigError(f"one data set was expected; got {', '.join(data)}")
    warn_of_plugins()
    measured: Any = given.run
    from visiontl.config import ready

    named = measured in ready.runs() and not Path(measured).exists()
    if named or Path(measured).is_file() or Path(measured).suffix in (".yaml", ".yml"):
        measured, overrides = read_config(measured, overrides), []
    from visiontl.engine import evaluate as evaluation

    evaluation.evaluate(measured, data[0] if data else None, given.split, overrides, given.out)


COMMAND = Command("evaluate", "measure a finished run, also on other data", arguments, run, OVERRIDES)
