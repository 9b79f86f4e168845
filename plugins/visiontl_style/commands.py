"""The plugin's own subcommands, as the command line needs them before torch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from visiontl import Command, lazy


def backbone_arguments(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--backbone", default=default, help="the judge, of the registry (default: %(default)s)")
    parser.add_argument("--weights", default="default", help="default, a tag, a local file, or hf-hub:owner/name")


def layer_list(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def optimize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", metavar="PHOTO", type=Path, help="a picture")
    parser.add_argument(
        "--style", metavar="PICTURE", action="append", required=True, help="repeatable: styles are mixed"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new or empty folder for the result")
    backbone_arguments(parser, "torchvision/vgg16")
    parser.add_argument("--size", type=int, default=512, help="pixels of the longer side (default: %(default)s)")
    parser.add_argument("--style-size", type=int, help="pixels of the style's shorter side; default: as --size")
    parser.add_argument(
        "--content-layers", type=layer_list, help="comma-separated; default: the recipe's, else by stride"
    )
    parser.add_argument("--style-layers", type=layer_list, help="likewise")
    parser.add_argument("--style-weight", type=float, default=4.0, help="(default: %(default)s)")
    parser.add_argument("--content-weight", type=float, default=1.0, help="(default: %(default)s)")
    parser.add_argument("--tv-weight", type=float, default=3.0, help="(default: %(default)s)")
    parser.add_argument("--optimizer", choices=("adam", "lbfgs"), default="adam", help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=150, help="evaluations of the loss (default: %(default)s)")
    parser.add_argument("--lr", type=float, help="default: 0.03 with adam, 1 with lbfgs")
    parser.add_argument("--jitter", type=int, default=8, help="pixels, adam only; 0: none (default: %(default)s)")
    parser.add_argument("--start", choices=("photo", "noise"), default="photo", help="(default: %(default)s)")
    parser.add_argument("--keep-colors", action="store_true", help="the photo's colors with the result's brightness")
    parser.add_argument("--preview-every", type=int, default=25, help="steps between pictures; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of jitter and noise (default: %(default)s)")


def judge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", metavar="RESULTS", type=Path, help="a folder of stylized pictures, or a run")
    parser.add_argument(
        "--photos", nargs="+", default=[], help="files or folders, matched by name; of a run: default its val photos"
    )
    parser.add_argument("--style", required=True, help="the style picture of all results")
    parser.add_argument(
        "--paintings", nargs="+", default=[], help="other paintings, among which the style is to be found"
    )
    backbone_arguments(parser, "torchvision/vgg16")
    parser.add_argument(
        "--size", type=int, default=256, help="pixels of the squares that are judged (default: %(default)s)"
    )
    parser.add_argument("--style-size", type=int, default=256, help="pixels of a painting's shorter side")
    parser.add_argument(
        "--content-layers", type=layer_list, help="comma-separated; default: the recipe's, else by stride"
    )
    parser.add_argument("--style-layers", type=layer_list, help="likewise")
    parser.add_argument("--out", metavar="FILE", type=Path, help="also write the table, as Markdown")


def sheet_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="FILE", type=Path, help="the picture to write (.png or .jpg)")
    parser.add_argument("--photos", nargs="+", required=True, help="files or folders: one row each")
    parser.add_argument(
        "--column", action="append", default=[], metavar="TITLE=FOLDER", help="results, matched by name; repeatable"
    )
    parser.add_argument("--side", type=int, default=320, help="pixels of a cell (default: %(default)s)")


COMMANDS = (
    Command(
        "optimize",
        "paint one photo by optimizing its pixels; needs no trained run",
        optimize_arguments,
        lazy("visiontl_style.optimize:command"),
    ),
    Command(
        "judge",
        "measure stylized pictures with any backbone: distances, and whether photo and painting are recognized",
        judge_arguments,
        lazy("visiontl_style.judge:command"),
    ),
    Command(
        "sheet", "photos and results side by side in one picture", sheet_arguments, lazy("visiontl_style.sheet:command")
    ),
)
