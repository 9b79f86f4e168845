"""One command on a bad input, and the promises that hold for every one of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visiontl import cli

LINES = 12  # an error is told in at most so many
COLUMNS = 2000  # and no line of it is a wall of text

Tree = dict[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Outcome:
    """What a command did. new: paths that were not there before, or are changed, relative to the place."""

    code: int
    out: str
    err: str
    new: list[str]


def tree(place: Path) -> Tree:
    """Every path below a folder with what would change if somebody wrote to it; links are not followed."""
    found: Tree = {}
    for folder, folders, files in os.walk(place):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            told = os.lstat(path)
            kept = (told.st_mode,) if name in folders else (told.st_mode, told.st_size, told.st_mtime_ns)
            found[os.path.relpath(path, place)] = kept
    return found


def command(capsys: Any, place: Path, *arguments: Any) -> Outcome:
    """Run one command in this process, with `place` watched for what it writes."""
    before = tree(place)
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    after = tree(place)
    changed = [path for path in sorted({*before, *after}) if before.get(path) != after.get(path)]
    return Outcome(code, said.out, said.err, changed)


def check_written(done: Outcome, allowed: Iterable[str]) -> None:
    """Nothing outside the allowed folders, and nothing half-written inside them."""
    allowed = tuple(allowed)
    above = {str(parent) for one in allowed for parent in [Path(one), *Path(one).parents]}
    strays = [path for path in done.new if path not in above and not path.startswith(tuple(f"{a}/" for a in allowed))]
    assert not strays, f"written outside {allowed}: {strays[:5]}"
    halves = [path for path in done.new if Path(path).name.startswith((".writing-", ".old-")) or path.endswith(".tmp")]
    assert not halves, f"left half-written: {halves[:5]}"


def check_words(text: str) -> None:
    lines = text.splitlines()
    assert len(lines) <= LINES, text
    assert all(len(line) <= COLUMNS for line in lines), [len(line) for line in lines]
    assert "Traceback" not in text
    assert 'File "' not in text
    assert "run again with --debug" not in text, text  # what the command line says of an error nobody foresaw


def check_refused(done: Outcome, *words: str, allowed: Iterable[str] = ()) -> None:
    """The user's mistake: exit code 2, few words that hold `words`, nothing written but to `allowed`."""
    assert done.code == 2, (done.code, done.err, done.out[-500:])
    check_words(done.err)
    assert "error: " in done.err
    for word in words:
        assert word in done.err, f"{word!r} is not in {done.err}"
    check_written(done, allowed)


def check_served(done: Outcome, allowed: Iterable[str] = ()) -> None:
    """All went well: exit code 0, no error, nothing that is not a number, nothing written but to `allowed`."""
    assert done.code == 0, done.err
    check_words(done.err)
    assert "error: " not in done.err
    assert "nan" not in done.out.lower().replace("nanometer", "").split(), done.out
    check_written(done, allowed)


def finite(value: Any) -> bool:
    """No null, NaN or infinity anywhere among the numbers of a JSON value."""
    if isinstance(value, Mapping):
        return all(finite(one) for one in value.values())
    if isinstance(value, list):
        return all(finite(one) for one in value)
    return value is not None and (not isinstance(value, float) or abs(value) < float("inf"))
