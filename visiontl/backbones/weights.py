"""Backbones with weights: from a tag, a local file or the hub, the same for every source that offers some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visiontl.backbone import Backbone
from visiontl.backbones import files
from visiontl.backbones.downloads import HUB, downloaded, in_cache, network
from visiontl.backbones.listing import preparation
from visiontl.backbones.matching import LoadReport, adopt
from visiontl.entry import BackboneEntry
from visiontl.errors import BackboneError, WeightsError, did_you_mean
from visiontl.kit.packaged import FACT, version
from visiontl.kit.words import some
from visiontl.spec import ImageSpec

STATED = ("stages", "stage_of", "channels", "strides", "embed_dim")  # what a backbone sets when it is made
Fetched = tuple[Mapping[str, Any], ImageSpec | None]  # (tensors, their specification where it is stated)


def make_backbone(
    entry: BackboneEntry,
    source: str = "default",
    image_size: tuple[int, int] | None = None,
    in_channels: int = 3,
    output_stride: int | None = None,
    strict: bool = True,
) -> tuple[Backbone, LoadReport]:
    """Build an entry's backbone for the weights of `source`, with their specification, and load them.

    source: default | a tag | none | a local file | hf-hub:owner/name.
    image_size: (H, W) in pixels; None: the size that the weights' specification states.
    strict: refuse weights that lack the first convolution, statistics of batch norm or tables of positions.
    Raises BackboneError and WeightsError.
    """
    kind, value = resolve(entry, source)
    hub = downloaded(value) if kind == "hub" else None
    spec = hub[1] if hub is not None else tag_spec(entry, value) if kind == "tag" else None
    backbone = entry.build(spec=spec, in_channels=in_channels, output_stride=output_stride, image_size=image_size)
    check_backbone(backbone, entry.name)
    chosen = backbone.spec.size
    report = _load(backbone, entry, source, (kind, value), hub, strict)
    if backbone.spec.size != chosen:
        backbone.set_spec(replace(backbone.spec, size=chosen))
    return backbone, report


def check_backbone(backbone: Any, name: str) -> None:
    """Raise BackboneError, in words, for what is no backbone or does not state what a backbone states."""
    if not isinstance(backbone, Backbone):
        raise BackboneError(
            f"{name}: its build function made a {type(backbone).__name__}; a visiontl.Backbone was expected"
        )
    lacking = [attribute for attribute in STATED if not hasattr(backbone, attribute)]
    if lacking:
        raise BackboneError(
            f"{name}: {type(backbone).__name__} sets no {', '.join(lacking)}; every backbone does in its __init__"
        )


def resolve(entry: BackboneEntry, source: str) -> tuple[str, str]:
    """A `weights:` value -> ("none" | "tag" | "file" | "hub", tag, path or repository). Raises WeightsError."""
    source = str(source).strip()
    tags = [one.tag for one in entry.weights]
    if source == "none":
        return "none", ""
    if source == "default":
        if not tags:
            raise WeightsError(
                f"{entry.name} has no pretrained weights; set backbone.weights to none, to a local file "
                f"({', '.join(files.TYPES[:3])}) or to {HUB}owner/name"
            )
        return "tag", tags[0]
    if source.startswith(HUB):
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", source.removeprefix(HUB)):
            raise WeightsError(f"weights {source!r}: expected {HUB}owner/name")
        return "hub", source.removeprefix(HUB)
    if source in tags:
        return "tag", source
    path = Path(source).expanduser()
    if path.suffix.lower() in files.TYPES or path.is_file() or "/" in source or "\\" in source:
        return "file", str(path)
    hint = did_you_mean(source, [*tags, "default", "none"])
    raise WeightsError(
        f"{entry.name} has no weights {source!r} (known: default, none, its tags ({some(tags) or 'it has none'}), "
        f"a local file, {HUB}owner/name){hint}"
    )


def on_this_machine(entry: BackboneEntry, kind: str, value: str) -> bool:
    """Whether what `resolve` gave is loaded without a network: no weights, a file, or a tag that a package carries."""
    return kind in ("none", "file") or (kind == "tag" and value in entry.facts.get(FACT, {}))


def on_disk(entry: BackboneEntry, tag: str) -> bool:
    """Whether a tag's weights are on this machine already: in a package, or in the cache of torch or of the hub. Of a
    source that does not say where they lie nothing is known: no."""
    if tag in entry.facts.get(FACT, {}):
        return version(entry.facts[FACT][tag][0]) is not None
    source = next((one.source for one in entry.weights if one.tag == tag), "")
    return in_cache(source)


def tag_spec(entry: BackboneEntry, tag: str) -> ImageSpec | None:
    """The input specification of a tag's weights; None where the source leaves it to the built backbone.

    Raises BackboneError for a source that gives something else.
    """
    spec = entry.spec(tag) if entry.spec is not None else None
    if spec is not None and not isinstance(spec, ImageSpec):
        raise BackboneError(f"{entry.name}: its `spec` gave a {type(spec).__name__}; a visiontl.ImageSpec was expected")
    return spec


def tag_state(entry: BackboneEntry, tag: str) -> Mapping[str, Any]:
    """The tensors of a tag, as its source gives them. Raises WeightsError where it gives none."""
    if entry.state is None:
        raise WeightsError(
            f"{entry.name} names weights {tag!r} but offers no way to load them: its entry has no `state`"
        )
    others = "".join(f"{name} ({file.command}), to " for name, (file, _) in entry.facts.get(FACT, {}).items())
    with network(f"the weights {tag!r} of {entry.name}", others):
        state = entry.state(tag)
    if not isinstance(state, Mapping):
        raise WeightsError(
            f"{entry.name}: its `state` gave a {type(state).__name__} for the weights {tag!r}; a mapping from names to "
            "tensors was expected. Nothing was loaded"
        )
    return state


def _load(
    backbone: Backbone,
    entry: BackboneEntry,
    source: str,
    resolved: tuple[str, str],
    hub: Fetched | None,
    strict: bool,
) -> LoadReport:
    """resolved: the source's (kind, value). hub: what was downloaded, where the kind is "hub"."""
    kind, value = resolved
    lines: tuple[str, ...] = ()
    if kind == "none":
        return LoadReport("none")
    if kind == "file":
        return adopt(backbone, files.read_file(Path(value)), str(source), (assumed(backbone.spec),), strict)
    if kind == "hub":
        assert hub is not None
        state, spec = hub
        lines = () if spec is not None else (assumed(backbone.spec, f"what was found of {HUB}{value}"),)
    else:
        state, spec = tag_state(entry, value), tag_spec(entry, value)
        source = source if source == value else f"{source} ({value})"
    report = adopt(backbone, state, str(source), lines, strict)
    if spec is not None:
        _take_spec(backbone, spec)
    return report


def assumed(spec: ImageSpec, what: str = "the file") -> str:
    """The line that says how images will be prepared for weights that do not say it. what: does not state it."""
    return (
        f"{what} states no preprocessing, so the architecture's own is assumed: {preparation(spec)}, unless "
        "backbone.preprocessing says otherwise"
    )


def _take_spec(backbone: Backbone, spec: ImageSpec) -> None:
    """Set the weights' specification; the size only where the body takes it."""
    own = backbone.spec
    fits = own.sizing == "any" or (own.sizing == "multiple" and not any(s % own.pad_to for s in spec.size))
    size = spec.size if fits else own.size
    backbone.set_spec(replace(spec, size=size, pad_to=own.pad_to, sizing=own.sizing))
