"""Where a model begins: the backbone's weights, those of another run, the training data itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from visiontl import plugins
from visiontl.backbone import Backbone
from visiontl.backbones.weights import LoadReport, make_backbone
from visiontl.config.resolve import Resolved, resolve, with_task_data
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.model import Built, bare_backbone, build_model, model_folder, read_spec, through_json
from visiontl.engine.order import evaluation_keys
from visiontl.engine.rows import still_batches
from visiontl.entry import BackboneEntry, ImageSpec
from visiontl.errors import BackboneError, CheckpointError, ConfigError, DataError, PluginError, VisionTLError
from visiontl.freezing.layout import backbone_prefix
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.bar import Bar
from visiontl.report.console import Console
from visiontl.runs import store
from visiontl.task import Data


def build(resolved: Resolved, backbone: Backbone, loaded: LoadReport | None, console: Console) -> tuple[Built, Data]:
    """A config's model on a backbone, before any training, and its data."""
    resolved = with_example(resolved, console)
    found = ranks.main_first(lambda: read_data(resolved, backbone.spec, None))
    for line in found.notes:
        console.say(line, keep=True)
    return build_model(resolved, backbone, through_json(found.meta), loaded), found


def read_data(resolved: Resolved, spec: ImageSpec, meta: Mapping[str, Any] | None) -> Data:
    """The task's data. meta: of the model that is evaluated on it; None for the run's own."""
    found = resolved.task.data(resolved.cfg, spec, meta)
    if not isinstance(found, Data):
        raise PluginError(
            f"task {resolved.task.name}: its `data` gave a {type(found).__name__}; visiontl.Data was expected"
        )
    return found


def with_example(resolved: Resolved, console: Console) -> Resolved:
    """`task.data: example` -> a small data set made on the spot, beside the runs."""
    if not resolved.example:
        return resolved
    make = resolved.task.example
    if make is None:
        raise DataError(f"task {resolved.task.name} makes no example data; give task.data a path")
    folder = Path(resolved.config.run.folder) / f"example-{resolved.task.name}"
    place = ranks.on_main(lambda: make(folder))
    console.say(f"the data is a small example made on the spot, in {folder}; no real photos", keep=True)
    return with_task_data(resolved, place)


def pretrained_backbone(resolved: Resolved, console: Console) -> tuple[Backbone, LoadReport | None]:
    """The config's backbone with its weights; says how its name was read and what was loaded. With `init` it has random
    weights and the other run's preprocessing; `warm_start` then loads the whole model, so nothing is reported."""
    section = resolved.config.backbone
    try:
        entry, note = plugins.backbone_entry(section.name)
    except BackboneError as error:
        raise ConfigError(f"backbone.name: {error}", resolved.source) from None
    if note:
        console.say(note, keep=True)
    if resolved.config.init is not None:
        return backbone_like(resolved, entry), None
    backbone, report = make_backbone(
        entry,
        section.weights,
        image_size=section.image_size,
        in_channels=section.in_channels,
        output_stride=section.output_stride,
    )
    console.say(str(report), keep=True)
    given = section.preprocessing.given()
    if given:
        backbone.set_spec(replace(backbone.spec, **given))
    return backbone, report


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


def backbone_to_train(resolved: Resolved, console: Console) -> tuple[Backbone, LoadReport | None, Path | None]:
    """`pretrained_backbone` and None. Where those weights are gone and the run is resumed: with random weights and the
    preprocessing of the run's newest whole checkpoint; and that checkpoint, whose weights are then the model's."""
    try:
        return (*pretrained_backbone(resolved, console), None)
    except (VisionTLError, OSError) as error:
        newest = newest_checkpoint(resolved.config.resume)
        spec = store.read_json(newest, "state.json").get("preprocessing") if newest is not None else None
        if spec is None:
            raise
        console.warn(f"what the run began with cannot be read ({error}); all weights come from {newest}")
        return bare_backbone(resolved, ImageSpec.from_json(spec)), None, newest


def newest_checkpoint(resume: str | None) -> Path | None:
    """The newest whole checkpoint of the run that is resumed, if any: it holds all that a task's `start` sets."""
    return None if resume is None else store.newest_whole(Path(resume) / "checkpoints", lambda text: None)


def start_from_data(
    accelerator: Accelerator, built: Built, found: Data, cache: FeatureCache | None, console: Console
) -> None:
    """The task's `start` on the main process; the other ranks take over its parameters and buffers."""
    start = built.resolved.task.start
    split, cache = (found.train, cache) if found.still is None else (found.still, None)
    assert start is not None
    assert split is not None
    keys = evaluation_keys(len(split), built.batch_size)

    def batches(bar: Bar) -> Iterator[dict[str, Any]]:
        for done, (ids, batch) in enumerate(still_batches(accelerator, built, split, keys, cache), start=1):
            yield batch
            bar.update(done, images=len(ids))

    def compute() -> None:
        bar = console.progress(total=len(keys), unit="batch", what="start from the training data")
        seed = mix(built.resolved.config.train.seed, INIT, 1)
        with seeded(seed), torch.no_grad(), accelerator.autocast(), bar as progress:
            start(built.resolved.cfg, built.model, batches(progress), built.meta)

    built.model.eval()
    ranks.on_main(compute)
    ranks.broadcast_module(built.model)
