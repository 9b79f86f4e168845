"""The subcommands `visiontl face ...`. Imports no torch."""

from __future__ import annotations

import argparse
from typing import Literal

from pydantic import Field, model_validator

from visiontl import Command, Section, lazy


class AlignOptions(Section):
    size: int = Field(112, ge=16, le=4096, description="pixels of a crop's side; 112 is what ArcFace's models take")


class ThresholdOptions(Section):
    far: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of pairs of different people that may be called the same: takes the threshold that the "
        "validation run measured for it; null: task.far, or the nearest larger one measured",
    )
    threshold: float | None = Field(None, ge=-1, le=1, description="a cosine of your own")

    @model_validator(mode="after")
    def one_threshold(self) -> ThresholdOptions:
        if self.far is not None and self.threshold is not None:
            raise ValueError("far and threshold: give one of the two")
        return self


class EnrollOptions(Section):
    add: bool = Field(False, description="add the people to a gallery that is there already")
    known: Literal["error", "replace"] = Field(
        "error",
        description="with add=true, people who are there already; replace: the new images in place of the old",
    )

    @model_validator(mode="after")
    def known_in_a_gallery(self) -> EnrollOptions:
        if self.known == "replace" and not self.add:
            raise ValueError("known=replace is for a gallery that is there already: add=true known=replace")
        return self


class IdentifyOptions(ThresholdOptions):
    top: int = Field(3, ge=1, description="people listed per photo")


def align_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", metavar="FOLDER", help="where the images are")
    parser.add_argument("landmarks", metavar="CSV", help="file,x1,y1,...,x5,y5: eyes, nose, mouth corners")
    parser.add_argument("out", metavar="CROPS", help="a new folder for the crops")


def run_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or its model/ alone")


def compare_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("first", metavar="IMAGE")
    parser.add_argument("second", metavar="IMAGE")


def enroll_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("people", metavar="FOLDER", help="a folder per person (FOLDER/anna/1.jpg)")
    parser.add_argument(
        "out", metavar="GALLERY", help="a folder for the gallery: a new one, or with add=true one of enroll's"
    )


def people_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("gallery", metavar="GALLERY", help="a folder that enroll made")


def remove_arguments(parser: argparse.ArgumentParser) -> None:
    people_arguments(parser)
    parser.add_argument("people", metavar="PERSON", nargs="+", help="names, as `visiontl face people` lists them")


def identify_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("gallery", metavar="GALLERY", help="a folder that enroll made, with this very model")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or globs")
    parser.add_argument("--out", metavar="FILE", help="also write the answers there, as JSON lines")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    parser.add_argument("people", metavar="FOLDER", help="a folder per new person (FOLDER/anna/1.jpg)")
    parser.add_argument("out", metavar="MODEL", help="a new folder for the larger model")


COMMANDS = (
    Command(
        "align",
        "cut out faces by five landmarks each, as ArcFace's models want them",
        align_arguments,
        lazy("visiontl_face.usage:align"),
        options=AlignOptions,
    ),
    Command(
        "compare",
        "whether two images show the same person",
        compare_arguments,
        lazy("visiontl_face.usage:compare"),
        options=ThresholdOptions,
    ),
    Command(
        "enroll",
        "make a gallery of known people, or add people to one",
        enroll_arguments,
        lazy("visiontl_face.usage:enroll"),
        options=EnrollOptions,
    ),
    Command(
        "people",
        "who is in a gallery, and of how many images",
        people_arguments,
        lazy("visiontl_face.usage:people"),
    ),
    Command(
        "remove",
        "take people out of a gallery",
        remove_arguments,
        lazy("visiontl_face.usage:remove"),
    ),
    Command(
        "identify",
        "who of a gallery is in each photo, or unknown",
        identify_arguments,
        lazy("visiontl_face.usage:identify"),
        options=IdentifyOptions,
    ),
    Command(
        "add",
        "give a trained head new identities, to train on from there (init=MODEL)",
        add_arguments,
        lazy("visiontl_face.usage:add"),
    ),
)
