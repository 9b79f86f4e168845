"""visiontl export"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from visiontl.commands.arguments import split_arguments, warn_of_plugins
from visiontl.commands.predict import options_help
from visiontl.commands.results import answer, speech_flags
from visiontl.errors import ConfigError
from visiontl.task import Command

FORMATS = ("onnx", "torch", "safetensors")
PRECISIONS = ("fp32", "fp16", "int8")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")
    parser.add_argument("rest", metavar="option=value", nargs="*", help="of predict, settled in what is written")
    parser.add_argument("--format", default="onnx", metavar="NAME", help=f"{', '.join(FORMATS)}; default: onnx")
    parser.add_argument("--size", metavar="H,W", help="a graph of this one size, in pixels")
    parser.add_argument("--dynamic", action="store_true", help="a graph that takes images of any size")
    parser.add_argument(
        "--precision", default="fp32", metavar="NAME", help="fp32, fp16 or int8 (onnx); says what it costs in the score"
    )
    parser.add_argument("--out", metavar="DIR", help="the new folder; default: export-FORMAT in the run")
    speech_flags(parser, "what was written and compared")


def run(given: argparse.Namespace) -> None:
    from visiontl.config.overrides import option_values

    rest, assigned = split_arguments(given.rest)
    if rest:
        raise ConfigError(f"one run was expected; got {given.run}, {', '.join(rest)}")
    for flag, value, known in (("format", given.format, FORMATS), ("precision", given.precision, PRECISIONS)):
        if value not in known:
            raise ConfigError(f"--{flag}: one of {', '.join(known)} was expected; got {value!r}")
    size = size_of(given.size)
    warn_of_plugins()
    from visiontl.engine import exporting

    wanted = exporting.Wanted(given.format, size, given.dynamic, given.precision)
    done = exporting.export_run(given.run, given.out, wanted, option_values(assigned, "export"))
    compared = done["compared"]
    said = f"{done['folder']}/{done['file']}: outputs within {compared['outputs']:.2g} of the run's"
    answer({key: value for key, value in done.items() if key not in ("meta", "section")}, said)


def size_of(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,5})(?:[,x](\d{1,5}))?", text)
    sides = [int(side) for side in found.groups(default=found[1])] if found else [0]
    if min(sides) < 1:
        raise ConfigError(f"--size: height and width in pixels were expected, such as 224,224; got {text!r}")
    return sides[0], sides[1]


def help_of_options(words: Sequence[str]) -> str:
    return options_help(words).replace("`visiontl predict RUN --help`", "`visiontl export RUN --help`")


COMMAND = Command("export", "write a run's model for other programs, proved equal", arguments, run, help_of_options)
