"""Distillation: a student learns from the answers (Hinton et al. 2015) or the attention maps (Zagoruyko and Komodakis
2017) of a teacher, which stays as it is, in eval mode, beside the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl import plugins
from visiontl.backbone import Backbone
from visiontl.backbones.weights import make_backbone
from visiontl.config.schema import TeacherConfig
from visiontl.errors import BackboneError, WeightsError
from visiontl.methods.cotuning import taught_by
from visiontl.methods.regularizers import levels_of
from visiontl.methods.terms import Look, Pass, Situation, fingerprint

KINDS = ("logits", "binary", "embedding")


@dataclass(frozen=True)
class Teacher:
    """model: of a run, None for a bare backbone. pairs: (level of the student's maps, of the teacher's).
    other: why its classes are not the student's, or an empty string."""

    section: TeacherConfig
    here: Situation
    model: nn.Module | None
    backbone: Backbone
    cfg: Any
    meta: Mapping[str, Any]
    pairs: Sequence[tuple[int, int]]
    other: str
    started: str
    name: str = "teacher"
    needs_images: bool = True

    @property
    def watches(self) -> bool:
        return bool(self.pairs)

    @property
    def maps(self) -> tuple[int, ...]:
        return tuple(level for level, _ in self.pairs)

    def __call__(self, seen: Pass) -> Tensor:
        parts = [self.section.maps * self.map_distance(look) for look in seen.looks if self.pairs]
        if self.section.answers > 0:
            parts.append(self.section.answers * self.answer_distance(seen))
        return torch.stack(parts).sum()

    def answer_distance(self, seen: Pass) -> Tensor:
        assert self.model is not None
        task = self.here.resolved.task
        assert task.teach is not None
        ours = taught_by(self.here, seen)
        with torch.no_grad():
            with self.here.autocast():
                outputs = self.model(seen.batch)
            theirs = dict(task.teach(self.cfg, outputs, dict(seen.batch), self.meta))
        kinds = [kind for kind in KINDS if kind in ours]
        found: list[Tensor] = []
        for kind in kinds:
            if kind not in theirs or theirs[kind].shape != ours[kind].shape or (kind != "embedding" and self.other):
                shapes = (
                    f"{tuple(ours[kind].shape)} here, {tuple(theirs[kind].shape) if kind in theirs else None} there"
                )
                raise self.here.refused("teacher", f"its answers are others than this model's ({self.other or shapes})")
            found.append(distance(kind, ours[kind].float(), theirs[kind].float(), self.section.temperature, ours))
        return torch.stack(found).sum()

    def map_distance(self, look: Look) -> Tensor:
        with torch.no_grad(), self.here.autocast():
            theirs = self.backbone(look.image, maps=[level for _, level in self.pairs]).maps
        found = [
            attention_distance(look.map(ours).float(), other.float())
            for (ours, _), other in zip(self.pairs, theirs, strict=True)
        ]
        return torch.stack(found).sum()


def distance(kind: str, ours: Tensor, theirs: Tensor, temperature: float, taught: Mapping[str, Tensor]) -> Tensor:
    """The mean over places that count of each image, then over images, ()."""
    if kind == "embedding":
        return 0.5 * (functional.normalize(ours, dim=1) - functional.normalize(theirs, dim=1)).square().sum(1).mean()
    values = softened(ours, theirs, temperature) if kind == "logits" else softened_binary(ours, theirs, temperature)
    values = values.reshape(len(values), -1)  # (B, places)
    valid = taught["valid"].reshape(len(values), -1).to(values.dtype) if "valid" in taught else torch.ones_like(values)
    return ((values * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()


def softened(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """Logits (B, K, ...) twice -> T^2 KL(softmax(theirs / T) || softmax(ours / T)), (B, ...) (Hinton et al. 2015)."""
    p, q = (functional.log_softmax(one / temperature, 1) for one in (theirs, ours))
    return temperature**2 * (p.exp() * (p - q)).sum(1)


def softened_binary(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """The same for K answers of yes or no each, the mean over them, (B, ...)."""
    total: Tensor = ours.new_zeros(())
    for sign in (1, -1):
        p, q = (functional.logsigmoid(sign * one / temperature) for one in (theirs, ours))
        total = total + p.exp() * (p - q)
    return temperature**2 * total.mean(1)


def attention_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Maps (B, C, h, w), (B, D, h', w') -> half the squared distance of their normalized attention maps, the mean over
    images, (). A map's attention is the mean of its squares over channels (Zagoruyko and Komodakis 2017, eq. 2)."""
    size = min(ours.shape[2], theirs.shape[2]), min(ours.shape[3], theirs.shape[3])
    attended = [functional.adaptive_avg_pool2d(one.square().mean(1, keepdim=True), size) for one in (ours, theirs)]
    a, b = (functional.normalize(one.flatten(1), dim=1) for one in attended)  # (B, h w)
    return 0.5 * (a - b).square().sum(1).mean()


def make_teacher(here: Situation, section: TeacherConfig) -> Teacher:
    task, device = here.resolved.task, here.backbone.mean.device
    if section.answers == 0 and section.maps == 0:
        raise here.refused("teacher", "answers and maps are both 0, so nothing is learned from it")
    if section.maps > 0:
        here.require_training("teacher.maps")
    model, cfg, meta, other = None, None, {}, ""
    if Path(section.model).is_dir():
        built = here.load(section.model)
        if built.resolved.task.name != task.name:
            theirs = f"{section.model} is a run of the task {built.resolved.task.name}"
            raise here.refused("teacher", f"{theirs}; a run of {task.name} was expected")
        model, backbone, cfg, meta = built.model, built.backbone, built.resolved.cfg, built.meta
        other = other_names(meta, here.meta)
        source: nn.Module = model
    else:
        if section.answers > 0:
            bare_alone = "of a bare backbone, which has maps alone, set answers to 0"
            raise here.refused("teacher", f"{section.model} is no folder; name that of a run; {bare_alone}")
        backbone = bare(here, section)
        source = backbone
    if section.answers > 0 and task.teach is None:
        raise here.refused("teacher", f"task {task.name} has no answers to teach: set answers to 0, and maps")
    source.to(device).eval().requires_grad_(False)
    source.training = model is not None  # outputs as in training, of layers as in evaluation
    pairs = pairs_of(here, backbone, section) if section.maps > 0 else []
    return Teacher(section, here, model, backbone, cfg, meta, pairs, other, fingerprint(source.state_dict()))


def bare(here: Situation, section: TeacherConfig) -> Backbone:
    try:
        entry, note = plugins.backbone_entry(section.model)
    except BackboneError as error:
        raise here.refused("teacher", f"model: no folder of that name, and {error}") from None
    if note:
        here.say(note)
    if section.weights == "none":
        here.say(f"method.teacher: {section.model} has random weights (method.teacher.weights: none): it knows nothing")
    try:
        return make_backbone(entry, section.weights)[0]
    except (BackboneError, WeightsError) as error:  # whose words name the key of the student's
        raise here.refused("teacher", str(error).replace("backbone.weights", "method.teacher.weights")) from None


def other_names(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first list of names in meta that both have and that differs, in words."""
    for key, value in ours.items():
        if isinstance(value, list) and value and isinstance(value[0], str) and key in theirs and theirs[key] != value:
            return f"it has other {key}"
    return ""


def pairs_of(here: Situation, teacher: Backbone, section: TeacherConfig) -> list[tuple[int, int]]:
    """Levels of student and teacher of the same stride."""
    found = []
    for level in levels_of(here, "teacher", section.levels):
        stride = here.backbone.strides[level]
        if stride not in teacher.strides:
            if section.levels is None:
                continue
            raise here.refused(
                "teacher", f"{teacher.name} has no maps of stride {stride}; it has {list(teacher.strides)}"
            )
        found.append((level, list(teacher.strides).index(stride)))
    if not found:
        raise here.refused("teacher", f"{teacher.name} and {here.backbone.name} have no maps of one stride")
    return found
