"""A new run from the weights of another one: `init` in a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from visiontl import plugins
from visiontl.backbone import NORMALIZATION, Backbone
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.model import Built, model_folder, read_spec
from visiontl.entry import BackboneEntry
from visiontl.errors import CheckpointError
from visiontl.freezing.layout import backbone_prefix
from visiontl.kit.words import some
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.runs import store

OTHER_SHAPE = "absent there or of another shape"


def backbone_like(resolved: Resolved, entry: BackboneEntry) -> Backbone:
    """The backbone of the run that `init` names, with random weights. Raises CheckpointError for another one."""
    assert resolved.config.init is not None
    section = resolved.config.backbone
    try:
        folder = model_folder(resolved.config.init)
    except CheckpointError as error:
        raise CheckpointError(f"init: {error}") from None
    theirs, _ = plugins.backbone_entry(resolve(folder / "config.yaml").config.backbone.name)
    if theirs.name != entry.name:
        raise CheckpointError(f"init: {folder} has the backbone {theirs.name}, the config {entry.name}; name the same")
    spec = read_spec(folder)
    spec = replace(spec, **section.preprocessing.given())
    return entry.build(
        spec=spec,
        in_channels=section.in_channels,
        output_stride=section.output_stride,
        image_size=section.image_size or spec.size,
    )


def warm_start(built: Built, console: Console) -> bool:
    """Load the weights of the run that `init` names, where names and shapes agree, and say so. True: the whole model.

    The backbone must fit, under whatever name the run's model holds it; what the run's task cut off of it comes from
    this config's own backbone.weights. The rest of the model (the head) is loaded from a run of the same task, unless
    its meta holds other lists of names: a head that answers with other classes would be a wrong start. Raises
    CheckpointError.
    """
    if built.resolved.config.init is None:
        return False
    folder = model_folder(built.resolved.config.init)
    given, own = store.read_tensors(folder, "model.safetensors"), built.model.state_dict()
    prefix = backbone_prefix(built.model, built.backbone)
    body, cut = _backbone_in(folder, given, built)
    why = _other_head(folder, built)
    fitting = {} if why else {k: given[k] for k, v in own.items() if k in given and given[k].shape == v.shape}
    fitting = {k: v for k, v in fitting.items() if not k.startswith(prefix)}
    fitting |= {f"{prefix}{name}": tensor for name, tensor in body.items()}
    store.require_finite(folder / "model.safetensors", given | fitting, dict(built.model.named_parameters()))
    lacking = [name for name in own if name not in fitting]
    spec = built.backbone.spec
    built.model.load_state_dict({**own, **fitting})
    built.backbone.set_spec(spec)  # the config's own preprocessing wins over the other run's statistics
    start = f"init: a new run from the weights of {folder}: {len(fitting) - len(cut)} of {len(own)} tensors"
    if lacking:
        start += f"; new and random: {', '.join(lacking[:6])}{' ...' * (len(lacking) > 6)} ({why or OTHER_SHAPE})"
    console.say(start, keep=True)
    if cut:
        told = console.warn if built.resolved.config.backbone.weights == "none" else partial(console.say, keep=True)
        told(
            f"init: that run's task cut {len(cut)} tensors off its backbone ({some(cut)}); they are from this config's "
            f"backbone.weights: {built.resolved.config.backbone.weights}"
        )
    return not lacking


def _backbone_in(folder: Path, given: Mapping[str, Tensor], built: Built) -> tuple[dict[str, Tensor], list[str]]:
    """({name in the backbone: tensor}, the names that the run's task had cut off) for all of the backbone. Raises
    CheckpointError where the run's backbone is another one."""
    own, prefix = built.backbone.state_dict(), backbone_prefix(built.model, built.backbone)
    last = NORMALIZATION[0]  # every backbone has it, so it shows where one begins
    places = [name.removesuffix(last) for name in given if name == last or name.endswith(f".{last}")]
    place = max(
        [prefix, *places],
        key=lambda p: sum(f"{p}{k}" in given and given[f"{p}{k}"].shape == v.shape for k, v in own.items()),
    )
    found = {name: given[f"{place}{name}"] for name in own if f"{place}{name}" in given}
    broken = [name for name, tensor in found.items() if tensor.shape != own[name].shape]
    absent = [name for name in own if name not in found]
    if broken or len(absent) == len(own):
        name = (broken or absent)[0]
        shapes = f"{tuple(found[name].shape)} there, " if broken else "absent there, "
        raise CheckpointError(
            f"init: {folder}: {len(broken or absent)} tensors of its backbone do not fit, such as {prefix}{name} "
            f"({shapes}{tuple(own[name].shape)} here); use the same backbone settings (image_size, in_channels)"
        )
    if absent:
        section = built.resolved.config.backbone
        entry, _ = plugins.backbone_entry(section.name)
        make = partial(
            make_backbone,
            entry,
            section.weights,
            image_size=section.image_size or built.backbone.spec.size,
            in_channels=section.in_channels,
            output_stride=section.output_stride,
            strict=section.strict,
        )
        with seeded(mix(built.resolved.config.train.seed, INIT)):  # what no file gives is the same on every rank
            whole, _ = ranks.main_first(make)
        values = whole.state_dict()
        found |= {name: values[name] for name in absent}
    return found, absent


def _other_head(folder: Path, built: Built) -> str:
    """Why the run's head is not taken over; "" where it may be."""
    theirs = store.read_json(folder, "visiontl.json").get("task") if (folder / "visiontl.json").exists() else None
    if theirs is not None and theirs != built.resolved.task.name:
        return f"the run is of the task {theirs}"
    other = _other_names(store.read_json(folder, "meta.json"), built.meta)
    return f"the run has other {other}" if other else ""


def _other_names(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first key of meta under which both hold a list of texts, and not the same."""
    for key, value in ours.items():
        texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        if texts and key in theirs and theirs[key] != value:
            return key
    return ""
