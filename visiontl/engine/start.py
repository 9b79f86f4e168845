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
from visiontl.config.resolve import Resolved
from visiontl.engine.announcements import announce_weights
from visiontl.engine.depth import with_depth
from visiontl.engine.example import with_example
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.given import through_json
from visiontl.engine.init import backbone_like
from visiontl.engine.model import Built, bare_backbone, build_model
from visiontl.engine.order import evaluation_keys
from visiontl.engine.rows import still_batches
from visiontl.engine.state import read_state
from visiontl.errors import BackboneError, ConfigError, VisionTLError
from visiontl.kit import memory
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.bar import Bar
from visiontl.report.console import Console
from visiontl.runs import opened, store
from visiontl.spec import ImageSpec
from visiontl.task import Data


def build(resolved: Resolved, backbone: Backbone, loaded: LoadReport | None, console: Console) -> tuple[Built, Data]:
    """A config's model on a backbone, before any training, and its data."""
    resolved = with_example(resolved, console)
    memory.recall_from(None if resolved.config.resume is None else Path(resolved.config.resume))
    found = ranks.main_first(lambda: opened.noted(lambda: read_data(resolved, backbone.spec, None)))
    for line in found.notes:
        console.say(line, keep=True)
    return build_model(resolved, backbone, through_json(found.meta), loaded), found


def read_data(resolved: Resolved, spec: ImageSpec, meta: Mapping[str, Any] | None) -> Data:
    """The task's data. meta: of the model that is evaluated on it; None for the run's own."""
    return with_depth(resolved.config.data.depth, lambda: resolved.task.data(resolved.cfg, spec, meta))


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
        strict=section.strict,
    )
    announce_weights(report, console)
    backbone.set_spec(replace(backbone.spec, **section.preprocessing.given()))
    return backbone, report


def backbone_to_train(resolved: Resolved, console: Console) -> tuple[Backbone, LoadReport | None, Path | None]:
    """`pretrained_backbone` and None. Where those weights are gone and the run is resumed: with random weights and the
    preprocessing of the run's newest whole checkpoint; and that checkpoint, whose weights are then the model's."""
    try:
        return (*pretrained_backbone(resolved, console), None)
    except (VisionTLError, OSError) as error:
        newest = newest_checkpoint(resolved.config.resume)
        if newest is None:
            raise
        spec = read_state(newest)["preprocessing"]
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
        for done, (ids, batch) in enumerate(still_batches(accelerator, built, split, keys, console, cache), start=1):
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
