"""visiontl export-backbone"""

from __future__ import annotations

import argparse
import sys

from visiontl.commands.arguments import warn_of_plugins
from visiontl.errors import sentence
from visiontl.report.layout import tell
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")
    parser.add_argument("file", metavar="FILE.safetensors", help="what is written; it must not exist")


def run(given: argparse.Namespace) -> None:
    warn_of_plugins()
    from visiontl.engine.export import export_backbone

    done = export_backbone(given.run, given.file)
    what = f"with its classifier of {done.classes} classes" if done.classes else "without a classifier"
    tell(sentence(f"{done.path}: {done.tensors} tensors of the backbone, {what}"), sys.stdout)
    if done.call:
        print(f"to load it elsewhere:\n  {done.call}")
        print(f"  model.load_state_dict(safetensors.torch.load_file({str(done.path)!r}), strict=True)")


COMMAND = Command("export-backbone", "write a run's backbone under the names of its own library", arguments, run)
