"""What a person reads of a backbone on offer, whoever offers it. Imports neither torch nor a model library."""

from __future__ import annotations

from collections.abc import Sequence

from visiontl.entry import BackboneEntry, Weights
from visiontl.kit.packaged import FACT, version
from visiontl.spec import ImageSpec


def cells(entry: BackboneEntry) -> dict[str, str]:
    """Column -> text, as far as the entry states its numbers."""
    facts = entry.facts
    params, size = facts.get("params"), facts.get("size")
    return {
        "name": entry.name,
        "parameters": readable(int(params)) if params else "",
        "embed width": str(facts.get("embed_dim") or ""),
        "strides": joined_strides(tuple(facts.get("strides") or ())),
        "input size": f"{size[0]}x{size[1]}" if size else "",
        "weights (license)": str(facts.get("problem") or joined_tags(entry.weights)),
    }


def readable(count: int) -> str:
    """23508032 -> '23.5M'."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)


def joined_strides(strides: tuple[int, ...]) -> str:
    """(16, 16, 16) -> '16 x3'; (4, 8, 16, 32) -> '4 8 16 32'."""
    if len(strides) > 2 and len(set(strides)) == 1:
        return f"{strides[0]} x{len(strides)}"
    return " ".join(map(str, strides))


def joined_tags(tags: Sequence[Weights]) -> str:
    return ", ".join(f"{tag.tag} ({tag.license})" for tag in tags) or "none"


def packaged(entry: BackboneEntry) -> list[str]:
    """Lines on each set of weights that a Python package carries: where it is from, how it wants images, and whether it
    is on this machine."""
    by_tag = {one.tag: one for one in entry.weights}
    lines: list[str] = []
    for tag, (file, spec) in entry.facts.get(FACT, {}).items():
        found = version(file)
        here = f"installed: {file.distribution} {found}" if found else f"not installed: {file.command}"
        lines += [
            f"{entry.name}, weights: {tag} ({by_tag[tag].license})",
            f"    from {by_tag[tag].source or file.distribution}",
            *([f"    images: {preparation(spec)}"] if spec is not None else []),
            f"    {here}",
        ]
    return lines


def preparation(spec: ImageSpec) -> str:
    """How images are prepared by a specification: '224 x 224 pixels cut from 256 x 256 pixels (crop 0.875), ...'."""
    height, width = spec.size
    around = round(height / spec.crop), round(width / spec.crop)
    cut = f"cut from {around[1]} x {around[0]} pixels" if around != spec.size else "whole"
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in (spec.mean, spec.std))
    return f"{width} x {height} pixels {cut} (crop {spec.crop:.3g}), {spec.interpolation}, mean {mean}, std {std}"


def matches(name: str, pattern: str | None) -> bool:
    """A pattern with wildcards must fit the whole name; without them it may be any part of it."""
    from fnmatch import fnmatch

    if not pattern:
        return True
    pattern, name = pattern.lower(), name.lower()
    return fnmatch(name, pattern) if set(pattern) & set("*?[") else pattern in name
