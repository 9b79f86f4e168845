"""visiontl import-weights"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from visiontl.errors import sentence
from visiontl.report.layout import tell
from visiontl.task import Command


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a checkpoint (.pth, .pt, .bin, .ckpt, .pkl, .npz)")
    parser.add_argument("out", metavar="OUT.safetensors", help="what is written; it must not exist")


def run(given: argparse.Namespace) -> None:
    from visiontl.backbones.importing import import_weights
    from visiontl.kit.words import some

    done = import_weights(Path(given.file).expanduser(), Path(given.out).expanduser())
    said = f"{done.path}: {done.tensors:,} tensors, {done.values:,} values; nothing that the file names was run"
    tell(sentence(said), sys.stdout)
    if done.training:
        print(f"left out: {done.training:,} tensors of the optimizer and its like")
    if done.left:
        print(f"left out, being no tensors: {some(done.left)}")


COMMAND = Command("import-weights", "take the tensors out of a checkpoint without running it", arguments, run)
