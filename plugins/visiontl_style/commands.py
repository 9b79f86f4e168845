"""The plugin's own subcommands, as the command line needs them before torch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from visiontl import Command, Section, lazy


def as_list(value: Any) -> Any:
    """One file or layer is a list of one."""
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(as_list)]


class JudgeSection(Section):
    """Who judges, and by which layers."""

    backbone: str = Field("torchvision/vgg16", description="the judge, of the registry")
    weights: str = Field("default", description="default, a tag, a local file, or hf-hub:owner/name")
    content_layers: Names | None = Field(None, description="null: the recipe's, else by stride")
    style_layers: Names | None = Field(None, description="likewise")


class OptimizeOptions(JudgeSection):
    style: Annotated[Names, Field(min_length=1)] = Field(description="a picture, or a list of several, which are mixed")
    size: int = Field(512, ge=32, description="pixels of the longer side")
    style_size: int | None = Field(None, ge=32, description="pixels of the style's shorter side; null: as size")
    style_weight: float = Field(4.0, gt=0)
    content_weight: float = Field(1.0, ge=0)
    tv_weight: float = Field(3.0, ge=0, description="total variation")
    optimizer: Literal["adam", "lbfgs"] = "adam"
    steps: int = Field(150, ge=1, description="evaluations of the loss")
    lr: float | None = Field(None, gt=0, description="null: 0.03 with adam, 1 with lbfgs")
    jitter: int = Field(8, ge=0, description="pixels, adam only; 0: none")
    start: Literal["photo", "noise"] = "photo"
    keep_colors: bool = Field(False, description="the photo's colors with the result's brightness")
    seed: int = Field(0, description="of jitter and noise")

    @model_validator(mode="after")
    def jitter_within_size(self) -> OptimizeOptions:
        if self.jitter >= self.size // 2:
            raise ValueError(f"jitter {self.jitter} is not below half of size {self.size}")
        return self


class JudgeOptions(JudgeSection):
    style: str = Field(description="the style picture of all results")
    paintings: Names = Field([], description="other paintings, among which the style is to be found: files or folders")
    size: int = Field(256, ge=32, description="pixels of the squares that are judged")
    style_size: int = Field(256, ge=32, description="pixels of a painting's shorter side")


class SheetOptions(Section):
    columns: dict[str, str] = Field({}, description="results, matched by name: columns.TITLE=FOLDER")
    side: int = Field(320, ge=32, description="pixels of a cell")


def optimize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", type=Path, help="a picture")
    parser.add_argument("out", metavar="DIR", type=Path, help="a new or empty folder for the result")
    parser.add_argument(
        "--preview-every", type=int, default=25, metavar="N", help="steps between pictures; 0: none (default: 25)"
    )


def judge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a folder of stylized pictures, or a run")
    parser.add_argument(
        "photos",
        metavar="PHOTO",
        nargs="*",
        help="files or folders, matched by name; of a run: default its val photos",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, help="also write the table, as Markdown")


def sheet_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="FILE", type=Path, help="the picture to write (.png or .jpg)")
    parser.add_argument("photos", metavar="PHOTO", nargs="+", help="files or folders: one row each")


COMMANDS = (
    Command(
        "optimize",
        "paint one photo by optimizing its pixels; needs no trained run",
        optimize_arguments,
        lazy("visiontl_style.optimize:command"),
        options=OptimizeOptions,
    ),
    Command(
        "judge",
        "measure stylized pictures with any backbone: distances, and whether photo and painting are recognized",
        judge_arguments,
        lazy("visiontl_style.judge:command"),
        options=JudgeOptions,
    ),
    Command(
        "sheet",
        "photos and results side by side in one picture",
        sheet_arguments,
        lazy("visiontl_style.sheet:command"),
        options=SheetOptions,
    ),
)
