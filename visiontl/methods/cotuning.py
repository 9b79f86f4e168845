"""Co-Tuning (You et al. 2020, Co-Tuning for Transfer Learning): the pretrained classifier stays in the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl.backbone import Features, OriginalHead
from visiontl.config.schema import CoTuningConfig
from visiontl.errors import BackboneError
from visiontl.methods.terms import Pass, Situation, fingerprint
from visiontl.processes import ranks


@dataclass(frozen=True)
class CoTuning:
    """The cross entropy of the pretrained classifier's answer with what it said of images of the same class at the
    start. The classifier itself keeps its weights; what learns is the backbone below it.

    relation: (K, S) the mean probability of each of its S classes over the training images of each of K classes (the
    direct estimate of p(y_s | y_t), sec. 4.1).
    """

    weight: float
    head: OriginalHead
    relation: Tensor
    task: Situation
    started: str
    maps: tuple[int, ...]
    name: str = "co_tuning"
    watches: bool = True
    needs_images: bool = False

    def __call__(self, seen: Pass) -> Tensor:
        taught = taught_by(self.task, seen)
        look = seen.looks[-1]
        features = look.features if self.head.reads == "pooled" else Features([look.map(self.maps[0])])
        with self.task.autocast():
            logits = self.head(features).float()  # (B, S)
        return self.weight * soft_cross_entropy(logits, expected(taught["label"], self.relation))


def expected(label: Tensor, relation: Tensor) -> Tensor:
    """label: (B,) classes or (B, K) shares of them; relation: (K, S) -> (B, S)."""
    return relation[label] if label.ndim == 1 else label.to(relation.dtype) @ relation


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """(B, S) twice -> -sum of target log softmax(logits), the mean over images, ()."""
    return -(target * functional.log_softmax(logits, 1)).sum(1).mean()


def taught_by(here: Situation, seen: Pass) -> dict[str, Tensor]:
    """What the task says of a pass that can be taught."""
    task = here.resolved.task
    assert task.teach is not None
    return dict(task.teach(here.resolved.cfg, seen.outputs, dict(seen.batch), here.meta))


def make_co_tuning(here: Situation, section: CoTuningConfig) -> CoTuning:
    here.require_training("co_tuning")
    if here.resolved.task.teach is None:
        raise here.refused("co_tuning", f"task {here.resolved.task.name} gives no class of an image")
    try:
        head = here.backbone.classifier()
    except BackboneError as error:
        raise here.refused("co_tuning", f"{error}; it needs the classifier that the weights came with") from None
    if not here.backbone.head_state:
        raise here.refused("co_tuning", "the weights came without their classifier; choose weights with one")
    head = head.to(next(here.model.parameters()).device).eval().requires_grad_(False)
    last = len(here.backbone.channels) - 1
    if head.reads == "pooled" and not all(pooled for _, _, pooled, _ in here.calls):
        raise here.refused("co_tuning", "the classifier reads the pooled embedding, which the task does not ask for")
    maps = (last,) if head.reads == "map" else ()
    relation = ranks.on_main(lambda: relation_of(here, head, maps))
    started = fingerprint({"relation": relation, **head.state_dict()})
    return CoTuning(section.weight, head, relation.to(here.backbone.mean.device), here, started, maps)


def relation_of(here: Situation, head: OriginalHead, maps: tuple[int, ...]) -> Tensor:
    """(K, S), on the CPU. A class without images gets zeros, which nothing reads."""
    sums: dict[int, Tensor] = {}
    counts: dict[int, int] = {}
    modes: dict[nn.Module, bool] = {module: module.training for module in here.model.modules()}
    classes = 0
    here.model.eval()
    with torch.no_grad():
        for batch in here.images():
            with here.autocast():
                outputs = here.model(batch)
                features = here.backbone(batch["image"], maps=maps, pooled=not maps)
                answers = head(features).float().softmax(1).double().cpu()  # (B, S)
            taught = taught_by(here, Pass(outputs, batch, ()))
            label = taught.get("label")
            if label is None or label.ndim != 1:
                raise here.refused("co_tuning", "the task gives no single class of an image")
            classes = taught["logits"].shape[1]
            for one, answer in zip(label.tolist(), answers, strict=True):
                sums[one] = sums.get(one, torch.zeros_like(answer)) + answer
                counts[one] = counts.get(one, 0) + 1
    for module, training in modes.items():
        module.training = training
    width = next(iter(sums.values())).shape[0]
    rows = [sums[k] / counts[k] if k in counts else torch.zeros(width).double() for k in range(classes)]
    return torch.stack(rows).float()
