"""visiontl serve"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from visiontl.commands.arguments import run_here, split_arguments, warn_of_plugins
from visiontl.commands.predict import EXPORTED, options_help
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.outlet import say
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a run folder, its model/ alone, hf-hub:owner/name, or an exported model.onnx"
    )
    parser.add_argument("rest", metavar="option=value", nargs="*", help="of predict, settled for every request")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at; default: this machine alone")
    parser.add_argument("--no-options", action="store_true", help="requests bring no options of their own")
    limit_flags(parser, "a request", port=8000, seconds=30)
    for flag, read, default, unit, what in (
        ("--batch", number(1, 1024, int), 8, "N", "pictures seen at once"),
        ("--gather", number(0, 60_000), 5, "MS", "a batch waits for more"),
        ("--waiting", number(1, 100_000, int), 64, "N", "pictures that may wait"),
    ):
        parser.add_argument(flag, type=read, default=default, metavar=unit, help=f"{what}; default: {default}")
    speech_flags(parser, "the address, once it answers,")


def limit_flags(parser: argparse.ArgumentParser, asked: str, port: int, seconds: float) -> None:
    """Where a model answers, and what one who asks may cost it. asked: what is sent, in words."""
    parser.add_argument("--port", type=int, default=port, metavar="N", help=f"0 takes a free one; default: {port}")
    for flag, read, default, unit, what in (
        ("--upload", number(0.001, 1000), 20, "MB", f"of {asked} at most; default: 20"),
        ("--pixels", number(0.0001, 10_000), 50, "M", "millions in a picture; default: 50"),
        ("--seconds", number(0.01, 86_400), seconds, "S", f"for {asked}; default: {seconds}"),
        ("--threads", number(0, 1024, int), 0, "N", "of a prediction; default: all cores"),
    ):
        parser.add_argument(flag, type=read, default=default, metavar=unit, help=what)


def number(low: float, high: float, kind: type[float] = float) -> Callable[[str], float]:
    """What reads a flag's number, both bounds included: what is beyond them, or is none, is said by argparse with the
    flag's name."""
    what = f"a {'whole ' if kind is int else ''}number from {low:g} to {high:,g}"

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # nan is beyond both
            raise argparse.ArgumentTypeError(f"{what} was expected; got {text!r:.40}")
        return value

    return read


def announced(given: argparse.Namespace, said: str, address: str) -> None:
    """Say where a model answers, in `said`, or as --json and --quiet want it."""
    if not (given.quiet or given.json):
        say(said, sys.stdout)
    answer({"address": address}, said)


def run(given: argparse.Namespace) -> None:
    from visiontl.config.overrides import option_values
    from visiontl.serving.limits import Limits
    from visiontl.serving.server import Served, serve

    rest, assigned = split_arguments(given.rest)
    if rest:
        raise ConfigError(f"one run was expected; got {given.run}, {', '.join(rest)}")
    named, given.run = given.run, run_of(given)
    limits = Limits(
        upload=int(given.upload * 1e6),
        pixels=int(given.pixels * 1e6),
        seconds=given.seconds,
        batch=given.batch,
        gather=given.gather / 1000,
        waiting=given.waiting,
    )
    warn_of_plugins()

    def ready(address: str) -> None:
        announced(given, f"serving {named} at {address}; Ctrl-C ends it", address)

    options = option_values(assigned, "serve")
    serve(Served(given.run, options, given.no_options, given.threads, given.host, given.port, limits), ready)


def run_of(given: argparse.Namespace) -> str:
    """The run that is named. Raises ConfigError where there is none, or no such port."""
    from visiontl.runs.recent import no_such_run

    found = run_here(given.run)
    if not os.path.exists(found):
        raise ConfigError(no_such_run(Path(found)))
    if os.path.isfile(found) and not found.lower().endswith(EXPORTED):
        raise ConfigError(f"{found} is a file; a run folder, hf-hub:owner/name or an exported model.onnx was expected")
    if not getattr(given, "host", "localhost").strip():  # which would be every address of this machine
        raise ConfigError("--host: got nothing; an address was expected, such as 127.0.0.1, or 0.0.0.0 for every one")
    if not 0 <= given.port <= 65_535:
        raise ConfigError(f"--port: 0 to 65535 was expected; got {given.port}")
    return found


def help_of_options(words: Sequence[str]) -> str:
    return options_help(words).replace("`visiontl predict RUN --help`", "`visiontl serve RUN --help`")


COMMAND = Command("serve", "answer pictures over HTTP by a run or an exported model", arguments, run, help_of_options)
