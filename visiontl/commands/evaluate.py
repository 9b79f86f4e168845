"""visiontl evaluate"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visiontl.commands.arguments import OVERRIDES, read_config, run_here, split_arguments, warn_of_plugins
from visiontl.commands.results import answer, headline, speech_flags
from visiontl.errors import ConfigError, closest, did_you_mean
from visiontl.processes import garbage
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run folder, a config whose model is measured untrained, or a whole model: torchvision/NAME[:TAG]",
    )
    parser.add_argument(
        "rest", metavar="DATA | a.b=c", nargs="*", default=[], help="other data; config values to replace"
    )
    speech_flags(parser, "the report")
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
    options, overrides = asked_options(overrides)
    warn_of_plugins()
    from visiontl.runs.recent import is_config, is_whole, no_such_run

    measured: Any = run_here(given.run)
    if is_config(measured):
        measured, overrides = read_config(measured, overrides), []
    elif not os.path.exists(measured) and not is_whole(measured):
        raise ConfigError(no_such_run(Path(measured)))
    with garbage.uncollected():
        from visiontl.engine import evaluate as evaluation

    report = evaluation.evaluate(measured, data[0] if data else None, given.split, overrides, given.out, **options)
    answer(report, headline(report))


OPTIONS = ("flip", "scales")


def asked_options(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """(what flip=... and scales=... say, the other words). They are no values of a config: they change how the model is
    asked."""
    from visiontl.config.overrides import option_values

    own = [word for word in words if word.partition("=")[0].strip() in OPTIONS]
    for word in words:
        key = word.partition("=")[0].strip()
        if key not in OPTIONS and "." not in key and closest(key, OPTIONS):
            raise ConfigError(f"{word}: evaluate has no option {key!r}{did_you_mean(key, OPTIONS)}")
    return option_values(own, "evaluate"), [word for word in words if word not in own]


EPILOG = f"""{OVERRIDES}
flip=true looks at each photo and at its mirror image, as predict does, and averages what is said of both;
scales=0.75,1,1.25 looks at each photo in these sizes, in tasks whose predict does."""

COMMAND = Command("evaluate", "measure a finished run, also on other data", arguments, run, EPILOG)
