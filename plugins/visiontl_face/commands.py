"""The subcommands `visiontl face ...`. Imports no torch."""

from __future__ import annotations

import argparse

from visiontl import Command, lazy


def align_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="FOLDER", help="where the images are")
    parser.add_argument(
        "--landmarks", required=True, metavar="CSV", help="file,x1,y1,...,x5,y5: eyes, nose, mouth corners"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for the crops")
    parser.add_argument("--size", type=int, default=112, metavar="PIXELS", help="side of a crop (default: 112)")


def run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")


def threshold_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--far",
        type=float,
        metavar="SHARE",
        help="of pairs of different people that may be called the same: takes the threshold that the validation run "
        "measured for it (default: task.far, or the nearest larger one measured)",
    )
    parser.add_argument("--threshold", type=float, metavar="COSINE", help="a threshold of your own, -1 to 1")


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("first", metavar="IMAGE")
    parser.add_argument("second", metavar="IMAGE")
    threshold_arguments(parser)


def enroll_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("people", metavar="FOLDER", help="a folder per person (FOLDER/anna/1.jpg)")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for the gallery")


def identify_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("gallery", metavar="GALLERY", help="a folder that enroll made, with this very model")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or globs")
    parser.add_argument("--out", metavar="FILE", help="also write the answers there, as JSON lines")
    parser.add_argument("--top", type=int, default=3, metavar="N", help="people listed per photo (default: 3)")
    threshold_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("people", metavar="FOLDER", help="a folder per new person (FOLDER/anna/1.jpg)")
    parser.add_argument("--out", required=True, metavar="DIR", help="a new folder for the larger model")


COMMANDS = (
    Command(
        "align",
        "cut out faces by five landmarks each, as ArcFace's models want them",
        align_arguments,
        lazy("visiontl_face.usage:align"),
    ),
    Command(
        "compare",
        "whether two images show the same person",
        compare_arguments,
        lazy("visiontl_face.usage:compare"),
    ),
    Command(
        "enroll",
        "make a gallery of known people",
        enroll_arguments,
        lazy("visiontl_face.usage:enroll"),
    ),
    Command(
        "identify",
        "who of a gallery is in each photo, or unknown",
        identify_arguments,
        lazy("visiontl_face.usage:identify"),
    ),
    Command(
        "add",
        "give a trained head new identities, to train on from there (init=DIR)",
        add_arguments,
        lazy("visiontl_face.usage:add"),
    ),
)
