"""How a command speaks: `--quiet`, `--verbose`, and `--json` for scripts."""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TextIO, cast

from visiontl.commands.arguments import rank
from visiontl.errors import clean
from visiontl.outlet import Outlet, say
from visiontl.report.console import Manner, speaking
from visiontl.report.formats import number
from visiontl.report.layout import tell
from visiontl.report.values import json_value

ALONE = "-"  # the value of doctor's --json without a FILE


@dataclass(frozen=True)
class Wanted:
    """What was asked of the command that runs. stdout: the real one, for results, where `json` is set."""

    quiet: bool = False
    json: bool = False
    stdout: Outlet | None = None


_wanted: ContextVar[Wanted | None] = ContextVar("wanted", default=None)


def speech_flags(parser: argparse.ArgumentParser, result: str) -> None:
    """result: what --json prints, for the help."""
    json_flag(parser, result)
    parser.add_argument("-q", "--quiet", action="store_true", help="print warnings, errors and one line at the end")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print the whole config, all warnings and the trace of an error"
    )


def json_flag(parser: argparse.ArgumentParser, result: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {result} as JSON, and all else on stderr")


def wants_json(given: argparse.Namespace) -> bool:
    return getattr(given, "json", None) in (True, ALONE)


@contextmanager
def spoken(given: argparse.Namespace) -> Iterator[Outlet | None]:
    """Within the block a command speaks as its flags say. Gives where its results go, where they are JSON."""
    quiet, as_json = bool(getattr(given, "quiet", False)), wants_json(given)
    with warned_once(bool(getattr(given, "verbose", False))):
        if not as_json:
            with speaking(Manner(quiet)), wanting(Wanted(quiet)):
                yield None
            return
        with results_alone() as stdout, speaking(Manner(quiet, sys.stderr)), wanting(Wanted(quiet, True, stdout)):
            yield stdout


@contextmanager
def wanting(wanted: Wanted) -> Iterator[None]:
    before = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(before)


def answer(value: Any, line: str = "") -> None:
    """The result of a command, where somebody waits for one: as JSON on stdout, or else, where it is to be quiet, its
    one line. On several processes the main one alone answers."""
    wanted = _wanted.get()
    if wanted is None or rank() > 0:
        return
    if wanted.stdout is not None:
        say(as_json(value), wanted.stdout)
    elif wanted.quiet and line:
        tell(line, sys.stdout)


def as_json(value: Any) -> str:
    """One line of JSON, in ASCII: a file's name may hold what no encoding has. NaN and infinity become null."""
    return json.dumps(json_value(value, "result"), allow_nan=False)


def headline(report: Mapping[str, Any]) -> str:
    """What came of a run or an evaluation, in one line: the first score of each split, or the one that picked the best
    weights."""
    best = ((report.get("training") or {}).get("best") or {}).get("score")
    parts: list[str] = []
    for split, scores in (report.get("scores") or {}).items():
        plain = {name: value for name, value in scores.items() if isinstance(value, int | float)}
        name = best if best in plain else next(iter(plain), None)
        parts += [f"{split} {name} {number(plain[name])}"] if name is not None else []
    what = ", ".join(parts) or "no score"
    return f"{what}; {report.get('status')}: {report.get('run')}"


@contextmanager
def results_alone() -> Iterator[Outlet]:
    """Within the block all that is printed goes to stderr, what libraries and loader processes print too. Gives the
    stream of what stdout was."""
    stdout, stderr = Outlet.of(sys.stdout), Outlet.of(sys.stderr)
    stdout.flush()
    try:
        handle, other = stdout.fileno(), stderr.fileno()
    except (AttributeError, OSError, ValueError):  # a stream of Python alone, or none
        with redirect_stdout(cast(TextIO, stderr)):
            yield stdout
        return
    kept = os.dup(handle)
    os.dup2(other, handle)
    try:
        with open(os.dup(kept), "w", encoding=stdout.encoding) as results:
            yield Outlet(results)
    finally:
        try:
            stdout.flush()
        finally:
            os.dup2(kept, handle)
            os.close(kept)


@contextmanager
def warned_once(verbose: bool) -> Iterator[None]:
    """Within the block a warning of a library is one line, said once: not again from another line of code, another
    loader process or another rank. verbose: each time, as Python has it."""
    told: set[str] = set()

    def show(message: Warning | str, category: type[Warning], file: str, line: int, *_: Any) -> None:
        text = " ".join(str(message).split())
        if text in told or rank() > 0 or _loader_process():
            return
        told.add(text)
        tell(clean(f"warning: {text} ({category.__name__} of {os.path.basename(file)}:{line})"), sys.stderr)

    with warnings.catch_warnings():
        if verbose:
            warnings.simplefilter("always")
        else:
            warnings.showwarning = show  # type: ignore[assignment]
        yield


def _loader_process() -> bool:
    """Whether this is a loader process other than the first."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return info is not None and info.id > 0
