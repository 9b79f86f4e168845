"""A new run from the weights of another one: `init` in a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from visiontl import plugins
from visiontl.backbone import Backbone
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.model import Built, model_folder, read_spec
from visiontl.entry import BackboneEntry
from visiontl.errors import CheckpointError
from visiontl.freezing.layout import backbone_prefix
from visiontl.report.console import Console
from visiontl.runs import store


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

    The backbone must fit whole. The rest of the model (the head) is loaded unless the run's meta holds other lists
    of names: a head that answers with other classes would be a wrong start. Raises CheckpointError.
    """
    if built.resolved.config.init is None:
        return False
    folder = model_folder(built.resolved.config.init)
    given, own = store.read_tensors(folder, "model.safetensors"), built.model.state_dict()
    prefix = backbone_prefix(built.model, built.backbone)
    other = _other_names(store.read_json(folder, "meta.json"), built.meta)
    fitting = {
        name: given[name]
        for name, tensor in own.items()
        if name in given and given[name].shape == tensor.shape and (name.startswith(prefix) or not other)
    }
    lacking = [name for name in own if name not in fitting]
    broken = [name for name in lacking if name.startswith(prefix)]
    if broken:
        shapes = f"{tuple(given[broken[0]].shape)} there, " if broken[0] in given else "absent there, "
        raise CheckpointError(
            f"init: {folder}: {len(broken)} tensors of its backbone do not fit, such as {broken[0]} "
            f"({shapes}{tuple(own[broken[0]].shape)} here); use the same backbone settings (image_size, in_channels)"
        )
    spec = built.backbone.spec
    built.model.load_state_dict({**own, **fitting})
    built.backbone.set_spec(spec)  # the config's own preprocessing wins over the other run's statistics
    start = f"init: a new run from the weights of {folder}: {len(fitting)} of {len(own)} tensors"
    if lacking:
        why = f"the run has other {other}" if other else "absent there or of another shape"
        start += f"; new and random: {', '.join(lacking[:6])}{' ...' * (len(lacking) > 6)} ({why})"
    console.say(start, keep=True)
    return not lacking


def _other_names(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first key of meta under which both hold a list of texts, and not the same."""
    for key, value in ours.items():
        texts = isinstance(value, list) and value and all(isinstance(item, str) for item in value)
        if texts and key in theirs and theirs[key] != value:
            return key
    return ""
