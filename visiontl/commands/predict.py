"""visiontl predict"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from visiontl.commands.arguments import split_arguments, warn_of_plugins
from visiontl.errors import ConfigError
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")
    parser.add_argument(
        "rest",
        metavar="IMAGE | option=value",
        nargs="*",
        help="files, folders or globs; what the task offers",
    )
    parser.add_argument("--out", metavar="DIR", help="where predictions are written; default: beside the run")
    parser.add_argument("--no-pictures", action="store_true", help="draw nothing on the images")


def run(given: argparse.Namespace) -> None:
    from visiontl.config import yaml_text

    images, assigned = split_arguments(given.rest)
    if not images:
        raise ConfigError("no images; name files, folders or globs: visiontl predict RUN IMAGE ...")
    options = {}
    for text in assigned:
        key, _, value = text.partition("=")
        try:
            options[key] = yaml_text.parse_value(value)
        except ConfigError as error:
            raise ConfigError([f"option {text!r}: {line}" for line in error.problems]) from None
    warn_of_plugins()
    from visiontl.engine import predict as prediction

    prediction.predict_files(given.run, images, out=given.out, options=options, pictures=not given.no_pictures)


def options(words: Sequence[str]) -> str:
    """Below the help: what the task of the named run can be asked."""
    named = next((word for word in words if not word.startswith("-") and Path(word).exists()), None)
    if named is None:
        return "`visiontl predict RUN --help` lists the options of that run's task."
    from visiontl.engine import predict as prediction

    return prediction.options_help(named)


COMMAND = Command("predict", "use a finished run on images", arguments, run, options)
