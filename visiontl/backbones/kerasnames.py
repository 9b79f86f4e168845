"""Layers of keras-applications by the names of the same layers in timm. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FACTS = {  # parameters without a classifier, width, strides
    "resnet50": (23_508_032, 2048, (2, 4, 8, 16, 32)),
    "mobilenetv2": (2_223_872, 1280, (2, 4, 8, 16, 32)),
    "efficientnetb0": (4_007_548, 1280, (2, 4, 8, 16, 32)),
    "vgg16": (14_714_688, 512, (1, 2, 4, 8, 16, 32)),
}
KINDS = ("conv2d", "depthwise_conv2d", "batch_normalization", "dense", "normalization")
RESNET = (3, 4, 6, 3)  # blocks of a stage
MOBILENET = (1, 2, 3, 4, 3, 3, 1)
EFFICIENTNET = (1, 2, 2, 3, 3, 4, 1)
VGG = (2, 2, 3, 3, 3)


def names_of(kind: str, layers: Iterable[str]) -> Mapping[str, str]:
    """{name of a layer in the file: of the same in timm}, of those that the file has. Where its layers have no names of
    their own (`conv2d_3`), each is the next of its kind, in the order in which Keras goes through them."""
    table, given = TABLES[kind](), list(dict.fromkeys(layers))
    if any(name in table for name in given):
        return {name: table[name] for name in given if name in table}
    found: dict[str, str] = {}
    for sort in KINDS:
        ordered = sorted((one for one in given if re.fullmatch(rf"{sort}(_\d+)?", one)), key=number)
        known = [name for name in table if sort_of(name) == sort]
        if sort != "normalization" and len(ordered) >= len(known) - (sort == "dense"):
            found |= {file: table[name] for file, name in zip(ordered, known, strict=False)}
    return found


def number(name: str) -> int:
    last = name.rpartition("_")[2]
    return int(last) if last.isdecimal() else 0


def sort_of(name: str) -> str:
    """The kind of a layer, from its name in keras-applications."""
    if name == "predictions":
        return "dense"
    if re.search(r"(?i)(bn|_BN)(_Conv1)?$|^bn_", name) or name.endswith("_bn"):
        return "batch_normalization"
    return "depthwise_conv2d" if name.endswith(("depthwise", "dwconv")) else "conv2d"


@cache
def resnet() -> dict[str, str]:
    """In the order of Keras' layers: of a block with a shortcut of its own that one comes after the second."""
    made = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    for stage, blocks in enumerate(RESNET, start=1):
        for block in range(blocks):
            file, ours = f"conv{stage + 1}_block{block + 1}", f"layer{stage}.{block}"
            for place in (1, 2, 0, 3) if block == 0 else (1, 2, 3):
                conv, norm = (f"conv{place}", f"bn{place}") if place else ("downsample.0", "downsample.1")
                made |= {f"{file}_{place}_conv": f"{ours}.{conv}", f"{file}_{place}_bn": f"{ours}.{norm}"}
    return {**made, "predictions": "fc"}


@cache
def mobilenet() -> dict[str, str]:
    made, number = {"Conv1": "conv_stem", "bn_Conv1": "bn1"}, 0
    for stage, blocks in enumerate(MOBILENET):
        for block in range(blocks):
            file = f"block_{number}_" if number else "expanded_conv_"
            ours = f"blocks.{stage}.{block}"
            if number:
                made |= {f"{file}expand": f"{ours}.conv_pw", f"{file}expand_BN": f"{ours}.bn1"}
            last = ("conv_pwl", "bn3") if number else ("conv_pw", "bn2")
            first = "bn2" if number else "bn1"
            made |= {f"{file}depthwise": f"{ours}.conv_dw", f"{file}depthwise_BN": f"{ours}.{first}"}
            made |= {f"{file}project": f"{ours}.{last[0]}", f"{file}project_BN": f"{ours}.{last[1]}"}
            number += 1
    return {**made, "Conv_1": "conv_head", "Conv_1_bn": "bn2", "predictions": "classifier"}


@cache
def efficientnet() -> dict[str, str]:
    made = {"stem_conv": "conv_stem", "stem_bn": "bn1"}
    for stage, blocks in enumerate(EFFICIENTNET):
        for block in range(blocks):
            file, ours = f"block{stage + 1}{chr(97 + block)}_", f"blocks.{stage}.{block}"
            if stage:
                made |= {f"{file}expand_conv": f"{ours}.conv_pw", f"{file}expand_bn": f"{ours}.bn1"}
            made |= {f"{file}dwconv": f"{ours}.conv_dw", f"{file}bn": f"{ours}.{'bn2' if stage else 'bn1'}"}
            made |= {f"{file}se_reduce": f"{ours}.se.conv_reduce", f"{file}se_expand": f"{ours}.se.conv_expand"}
            last = ("conv_pwl", "bn3") if stage else ("conv_pw", "bn2")
            made |= {f"{file}project_conv": f"{ours}.{last[0]}", f"{file}project_bn": f"{ours}.{last[1]}"}
    return {**made, "top_conv": "conv_head", "top_bn": "bn2", "predictions": "classifier"}


@cache
def vgg() -> dict[str, str]:
    made, place = {}, 0
    for block, convs in enumerate(VGG, start=1):
        for conv in range(1, convs + 1):
            made[f"block{block}_conv{conv}"] = f"features.{place}"
            place += 2  # a ReLU stands between
        place += 1  # and a maximum after a block
    return made


TABLES = {"resnet50": resnet, "mobilenetv2": mobilenet, "efficientnetb0": efficientnet, "vgg16": vgg}
