"""visiontl configs"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from visiontl.commands.results import answer, json_flag
from visiontl.errors import ConfigError, did_you_mean, sentence
from visiontl.report.layout import tell
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    json_flag(parser, "the list")
    parser.add_argument("action", metavar="cp", nargs="?", help="copy one; without it, list all")
    parser.add_argument("name", metavar="READY", nargs="?", help="such as classification/quickstart")
    parser.add_argument("file", metavar="FILE", nargs="?", help="where to; default: its own name, here")


def run(given: argparse.Namespace) -> None:
    from visiontl.config import ready

    found = ready.configs()
    if given.action is None:
        from visiontl.report.console import Console

        rows = [[name, ready.about(file)] for name, file in found.items()]
        answer([{"config": name, "what": what} for name, what in rows])
        if not given.json:
            Console().table("", ["config", "what"], rows)
        return
    if given.action != "cp":
        raise ConfigError(f"cannot {given.action!r} a config; `visiontl configs cp NAME [FILE]` copies one")
    if given.name is None:
        raise ConfigError("which one? `visiontl configs` lists them; visiontl configs cp NAME [FILE]")
    if given.name not in found:
        raise ConfigError(
            f"no ready config {given.name!r}{did_you_mean(given.name, found) or '; see `visiontl configs`'}"
        )
    target = Path(given.file or found[given.name].name)
    if target.is_dir():
        target /= found[given.name].name
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(found[given.name].read_text(encoding="utf-8"))
    except FileExistsError:
        raise ConfigError(f"{target} is there already; nothing is overwritten") from None
    answer({"file": str(target)})
    if not given.json:
        tell(sentence(str(target)), sys.stdout)


EXAMPLES = """`visiontl train classification/quickstart` runs one by its name where no such file exists.
What a config asks for is given as a.b=c or written into a copy."""

COMMAND = Command("configs", "list the ready configs, or copy one", arguments, run, EXAMPLES)
