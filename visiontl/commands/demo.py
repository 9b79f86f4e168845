"""visiontl demo"""

from __future__ import annotations

import argparse
import sys

from visiontl.commands.arguments import warn_of_plugins
from visiontl.commands.results import answer, speech_flags
from visiontl.commands.serve import run_of
from visiontl.outlet import say
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a run folder, its model/ alone, hf-hub:owner/name, or an exported model.onnx"
    )
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="0 takes a free one; default: 7860")
    parser.add_argument("--upload", type=float, default=20, metavar="MB", help="of a picture at most; default: 20")
    parser.add_argument("--pixels", type=float, default=50, metavar="M", help="millions in a picture; default: 50")
    parser.add_argument("--seconds", type=float, default=60, metavar="S", help="for an answer; default: 60")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of a prediction; default: all cores")
    speech_flags(parser, "the address, once it answers,")


def run(given: argparse.Namespace) -> None:
    from visiontl.serving.limits import Limits
    from visiontl.serving.server import Served, demonstrate, require

    require("demo")
    named, model = given.run, run_of(given)
    upload, pixels = int(given.upload * 1e6), int(given.pixels * 1e6)
    limits = Limits(upload=upload, pixels=pixels, seconds=given.seconds)
    warn_of_plugins()

    def ready(address: str) -> None:
        said = f"a page of {named} at {address}, for this machine alone; Ctrl-C ends it"
        if not (given.quiet or given.json):
            say(said, sys.stdout)
        answer({"address": address}, said)

    demonstrate(Served(model, threads=given.threads, port=given.port, limits=limits), ready)


COMMAND = Command("demo", "try a run or an exported model on photos in the browser", arguments, run)
