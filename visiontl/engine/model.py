"""A task's model on a backbone: built, exported to a self-contained folder, and built again from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visiontl import __version__, plugins
from visiontl.backbone import Backbone
from visiontl.backbones.weights import LoadReport, make_backbone
from visiontl.config.resolve import Resolved, as_begun, resolve
from visiontl.config.write import to_yaml
from visiontl.config.yaml_text import parse_text
from visiontl.engine.wrapping import load_model_state
from visiontl.errors import CheckpointError, DataError
from visiontl.freezing.layout import backbone_prefix
from visiontl.kit.statements import sound
from visiontl.report.values import json_value
from visiontl.runs import folders, hub, store
from visiontl.runs.recent import no_such_run
from visiontl.spec import ImageSpec


@dataclass(frozen=True)
class Built:
    """A task's model with what belongs to it.

    loaded: what came of loading the backbone's weights; None where all weights come from another run.
    scores: of the val split, of the weights as they were saved."""

    resolved: Resolved
    backbone: Backbone
    model: nn.Module
    meta: Mapping[str, Any]
    loaded: LoadReport | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch_size(self) -> int:
        """Images per process and forward pass where nothing is trained."""
        section = self.resolved.config.train
        return section.eval_batch_size or section.batch_size

    def averaged(self, model: nn.Module) -> Built:
        """The same with a copy of the model that holds other weights."""
        return replace(self, model=model, backbone=next(one for one in model.modules() if isinstance(one, Backbone)))


def load_backbone(name: str, weights: str = "default", image_size: tuple[int, int] | None = None) -> Backbone:
    """A backbone of the registry with its weights, in eval mode: for notebooks and for a task's judge or tools.

    weights: default | a tag | none | a local file | hf-hub:owner/name; image_size: (H, W) in pixels.
    """
    entry, _ = plugins.backbone_entry(name)
    return make_backbone(entry, weights, image_size=image_size)[0].eval()


def build_model(
    resolved: Resolved, backbone: Backbone, meta: Mapping[str, Any], loaded: LoadReport | None = None
) -> Built:
    model = resolved.task.model(resolved.cfg, backbone, meta)
    backbone_prefix(model, backbone)
    return Built(resolved, backbone, model, meta, loaded)


def export(folder: Path, built: Built, weights: Mapping[str, Tensor], scores: Mapping[str, Any] | None = None) -> None:
    """Write `model/`: weights, config, meta and preprocessing, enough to predict on another machine, and the scores
    that these weights have on val, where they were measured."""
    spec = built.backbone.spec.to_json()
    files: dict[str, store.Content] = {
        "model.safetensors": weights,
        "config.yaml": to_yaml(as_begun(built.resolved)),
        "meta.json": json.dumps(built.meta, indent=1),
        "preprocessing.json": json.dumps(spec, indent=1),
        "visiontl.json": json.dumps({"version": __version__, "task": built.resolved.task.name}),
    }
    if scores:
        files["scores.json"] = json.dumps(json_value(scores, "scores"), indent=1, allow_nan=False)
    store.write_folder(folder, files)


def save_model(folder: str | Path, built: Built) -> Path:
    """Write a model that a task's command has changed as a new model folder, which `load` and `init` take. Raises
    DataError for a folder that exists."""
    folder = Path(folder)
    if folder.exists():
        raise DataError(f"{folder} exists already and is never overwritten; choose another folder")
    folders.require_outside(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    export(folder, built, built.model.state_dict(), built.scores)
    return folder


def model_folder(run: str | Path) -> Path:
    """A run folder, its `model/` alone, or hf-hub:owner/name -> the folder that holds the exported model."""
    run = hub.fetched(run)
    if not run.exists():
        raise CheckpointError(no_such_run(run))
    for folder in (run / "model", run):
        if (folder / "model.safetensors").exists() or (folder / store.MANIFEST).exists():
            store.require(folder)
            return folder
    raise CheckpointError(f"{run}: holds no exported model (model/model.safetensors); has the run trained yet?")


def bare_backbone(resolved: Resolved, spec: ImageSpec) -> Backbone:
    """The config's backbone with random weights, for weights that were saved with this preprocessing."""
    section = resolved.config.backbone
    entry, _ = plugins.backbone_entry(section.name)
    return entry.build(
        spec=spec, in_channels=section.in_channels, output_stride=section.output_stride, image_size=spec.size
    )


def read_spec(folder: Path) -> ImageSpec:
    """preprocessing.json of an exported model. Raises CheckpointError for one that states no preprocessing."""
    values = store.read_json(folder, "preprocessing.json")
    try:
        return sound(ImageSpec.from_json(values))
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'preprocessing.json'}: {error}; was it written by another version?") from None


def resolve_run(folder: Path, overrides: Sequence[str] = ()) -> Resolved:
    """The config of an exported model. One from before `data.depth` was a key read 16 bits as 16, and goes on so."""
    file = folder / "config.yaml"
    found = resolve(file, overrides)
    data = parse_text(file.read_text(encoding="utf-8-sig"), str(file)).values.get("data")
    older = isinstance(data, Mapping) and "depth" not in data
    return resolve(file, ["data.depth=16", *overrides]) if older else found


def load_model(run: str | Path) -> Built:
    """The model of a run as it was exported, in eval mode on the CPU. Needs no data and no network."""
    folder = model_folder(run)
    resolved = resolve_run(folder)
    meta = store.read_json(folder, "meta.json")
    spec = read_spec(folder)
    try:
        built = build_model(resolved, bare_backbone(resolved, spec), meta)
    except (LookupError, TypeError, AttributeError, ValueError) as error:  # what a task makes of a strange meta
        raise CheckpointError(
            f"{folder / 'meta.json'}: is not what task {resolved.task.name} builds a model from "
            f"({type(error).__name__}: {error}); was it written by another version?"
        ) from error
    load_model_state(built.model, store.read_tensors(folder, "model.safetensors"), folder / "model.safetensors")
    built.model.eval()
    scores = store.read_json(folder, "scores.json") if (folder / "scores.json").exists() else {}
    return replace(built, scores=scores)
