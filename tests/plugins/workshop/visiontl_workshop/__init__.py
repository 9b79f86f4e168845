"""A source of backbones, a freeze policy, a command and a tracker. This module imports no torch."""

import argparse
from pathlib import Path

from pydantic import Field

from visiontl import BackboneEntry, Command, ImageSpec, Section, Weights, hookimpl, lazy
from visiontl.errors import PolicyError

visiontl_contract = 1

SPEC = ImageSpec(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop=1.0, pad_to=8, sizing="multiple")


@hookimpl
def visiontl_backbones():
    return [
        BackboneEntry(
            name="workshop/ladder",
            build=lazy("visiontl_workshop.ladder:build"),
            weights=(Weights("drawn", "drawn from a seed", "cc0-1.0"),),
            spec=lambda tag: SPEC,
            state=lazy("visiontl_workshop.ladder:weights"),
            facts={"embed_dim": 32, "strides": (2, 4, 8), "size": SPEC.size},
        )
    ]


def upward(argument=None):
    """upward: {upward: {last: n, all_from: k}}: the deepest n stages train, and from epoch k on all of them."""
    given = {"last": 1, "all_from": None, **(argument if isinstance(argument, dict) else {})}
    whole = [given["last"], given["all_from"] if given["all_from"] is not None else 0]
    good = argument is None or isinstance(argument, dict)
    if not good or len(given) > 2 or any(type(one) is not int or one < 0 for one in whole) or given["last"] < 1:
        raise PolicyError(f"freeze.policy: upward takes {{last: 2, all_from: 3}}, whole numbers; got {argument!r}")

    def policy(epoch, stages):
        open_to_all = given["all_from"] is not None and epoch >= given["all_from"]
        first = 0 if open_to_all else max(0, len(stages) - given["last"])
        return {stage: "train" if place >= first else "frozen" for place, stage in enumerate(stages)}

    return policy


@hookimpl
def visiontl_freeze_policies():
    return {"upward": upward}


class Options(Section):
    image_size: int | None = Field(None, ge=8, description="pixels of the side of an image; by default the backbone's")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="BACKBONE", help="its name, as `visiontl list backbones` has it")


def stages(given: argparse.Namespace) -> None:
    from visiontl import load_backbone
    from visiontl.kit.words import count

    size = given.options.image_size
    backbone = load_backbone(given.name, "none", size and (size, size))
    tensors = dict(backbone.named_parameters())
    for stage in backbone.stages:
        own = [tensor.numel() for name, tensor in tensors.items() if backbone.stage_of[name] == stage]
        print(f"{stage:<12} {count(len(own), 'tensor'):>12} {sum(own):>12,} values")


@hookimpl
def visiontl_commands():
    return [Command("stages", "list the stages of a backbone", arguments, stages, options=Options)]


NOW: dict[str, Path] = {}  # the file of the run that is watched


@hookimpl
def visiontl_started(report):
    """A run that is resumed goes on in the same file."""
    NOW["file"] = Path(report["run"]) / "workshop.tsv"


@hookimpl
def visiontl_logged(step, values):
    file = NOW.get("file")
    if file is None or not file.parent.is_dir():
        return  # nobody said which run it is
    with file.open("a", encoding="utf-8") as lines:
        lines.writelines(f"{step}\t{name}\t{value!r}\n" for name, value in values.items())
