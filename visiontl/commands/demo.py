"""visiontl demo"""

from __future__ import annotations

import argparse

from visiontl.commands.arguments import warn_of_plugins
from visiontl.commands.results import speech_flags
from visiontl.commands.serve import announced, limit_flags, run_of
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", metavar="RUN", help="a run folder, its model/ alone, hf-hub:owner/name, or an exported model.onnx"
    )
    limit_flags(parser, "a picture", port=7860, seconds=60)
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
        announced(given, f"a page of {named} at {address}, for this machine alone; Ctrl-C ends it", address)

    demonstrate(Served(model, threads=given.threads, port=given.port, limits=limits), ready)


COMMAND = Command("demo", "try a run or an exported model on photos in the browser", arguments, run)
