"""A task's model on a backbone: built, exported to a self-contained folder, and built again from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from visiontl import __version__, checkpoint, plugins
from visiontl.backbone import Backbone, ImageSpec
from visiontl.backbones.weights import LoadReport, make_backbone
from visiontl.config import Resolved, resolve, to_yaml
from visiontl.errors import BackboneError, CheckpointError, ConfigError
from visiontl.freeze import backbone_prefix


@dataclass(frozen=True)
class Built:
    """A task's model with what belongs to it."""

    resolved: Resolved
    backbone: Backbone
    model: nn.Module
    meta: Mapping[str, Any]


def through_json(meta: Mapping[str, Any]) -> dict[str, Any]:
    """meta as it will be after loading, so that training sees the same (int keys become str, tuples lists)."""
    return json.loads(json.dumps(meta, allow_nan=False))


def pretrained_backbone(resolved: Resolved) -> tuple[Backbone, LoadReport, str | None]:
    """The config's backbone with its weights, and a note on how its name was read."""
    section = resolved.config.backbone
    try:
        entry, note = plugins.backbone_entry(section.name)
    except BackboneError as error:
        raise ConfigError(f"backbone.name: {error}", resolved.source) from None
    backbone, report = make_backbone(
        entry,
        section.weights,
        image_size=section.image_size,
        in_channels=section.in_channels,
        output_stride=section.output_stride,
    )
    given = section.preprocessing.given()
    if given:
        backbone.set_spec(replace(backbone.spec, **given))
    return backbone, report, note


def load_backbone(name: str, weights: str = "default", image_size: tuple[int, int] | None = None) -> Backbone:
    """A backbone of the registry with its weights, in eval mode: for notebooks and for a task's judge or tools.

    weights: default | a tag | none | a local file | hf-hub:owner/name; image_size: (H, W) in pixels.
    """
    entry, _ = plugins.backbone_entry(name)
    return make_backbone(entry, weights, image_size=image_size)[0].eval()


def build_model(resolved: Resolved, backbone: Backbone, meta: Mapping[str, Any]) -> Built:
    model = resolved.task.model(resolved.cfg, backbone, meta)
    backbone_prefix(model, backbone)
    return Built(resolved, backbone, model, meta)


def export(folder: Path, built: Built, weights: Mapping[str, Tensor]) -> None:
    """Write `model/`: weights, config, meta and preprocessing, enough to predict on another machine."""
    spec = built.backbone.spec.to_json()
    checkpoint.write_folder(
        folder,
        {
            "model.safetensors": weights,
            "config.yaml": to_yaml(built.resolved),
            "meta.json": json.dumps(built.meta, indent=1),
            "preprocessing.json": json.dumps(spec, indent=1),
            "visiontl.json": json.dumps({"version": __version__, "task": built.resolved.task.name}),
        },
    )


def model_folder(run: str | Path) -> Path:
    """A run folder, or its `model/` alone -> the folder that holds the exported model."""
    run = Path(run)
    if not run.exists():
        near = sorted(path.name for path in run.parent.glob("*") if path.is_dir()) if run.parent.is_dir() else []
        hint = f"; {run.parent} holds {', '.join(near[:8])}" if near else ""
        raise CheckpointError(f"{run}: no such run folder{hint}")
    for folder in (run / "model", run):
        if (folder / "model.safetensors").exists() or (folder / checkpoint.MANIFEST).exists():
            checkpoint.require(folder)
            return folder
    raise CheckpointError(f"{run}: holds no exported model (model/model.safetensors); has the run trained yet?")


def load_model(run: str | Path) -> Built:
    """The model of a run as it was exported, in eval mode on the CPU. Needs no data and no network."""
    folder = model_folder(run)
    resolved = resolve(folder / "config.yaml")
    meta = checkpoint.read_json(folder, "meta.json")
    spec = ImageSpec.from_json(checkpoint.read_json(folder, "preprocessing.json"))
    section = resolved.config.backbone
    entry, _ = plugins.backbone_entry(section.name)
    backbone = entry.build(
        spec=spec, in_channels=section.in_channels, output_stride=section.output_stride, image_size=spec.size
    )
    built = build_model(resolved, backbone, meta)
    weights = checkpoint.read_tensors(folder, "model.safetensors")
    try:
        built.model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise CheckpointError(
            f"{folder}: its weights do not fit the model that its config builds; another version of the task or of "
            f"the backbone's library? {' '.join(line.strip() for line in lines[1:3])[:300]}"
        ) from error
    built.model.eval()
    return built
