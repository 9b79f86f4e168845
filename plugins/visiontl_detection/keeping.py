"""Old classes keep their boxes while others are learned: the old detector's answers at the places where it sees most.

Two-stage heads: the old detector's regions with the least background are shown to both heads (Shmelkov et al. 2017,
Incremental learning of object detectors without catastrophic forgetting, eq. 1), and region proposals are held where
the old detector sees more in a place than the new one (Peng et al. 2020, Faster ILOD, eq. 3). One-stage heads answer at
the same places of every image, so there the same distance needs no regions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from visiontl import ConfigError, Old
from visiontl_detection.config import DetectionConfig
from visiontl_detection.model import Detector

PLACES = 64  # of an image, as in Shmelkov et al.
KEPT = "kept"  # the key of the distance among the outputs


def keep(
    cfg: DetectionConfig, model: nn.Module, meta: Mapping[str, Any], old: Old
) -> Callable[[Mapping[str, Any], dict[str, Any]], Tensor]:
    """Raises ConfigError where the two do not answer at the same places, or know no class in common."""
    assert isinstance(model, Detector)
    shared = [name for name in old.meta["classes"] if name in meta["classes"]]
    if not shared:
        raise ConfigError(f"the old detector knows none of the {len(meta['classes'])} classes")
    if old.cfg.head != cfg.head:
        raise ConfigError(f"the old detector has task.head={old.cfg.head}, this one {cfg.head}")
    if old.meta.get("anchors") != meta.get("anchors"):
        raise ConfigError("the old detector predicts from other anchors; use anchors: default in both")
    first = model.first_label
    ours, theirs = ([first + list(one["classes"]).index(name) for name in shared] for one in (meta, old.meta))
    held = (Regions if cfg.head == "faster_rcnn" else Places)(model, old.model, ours, theirs)
    for module, hook in held.hooks().items():
        # a function: a method's object, and the old model in it, would be copied with each copy of the model
        module.register_forward_hook(lambda *given, hook=hook: hook(*given))
    return lambda outputs, batch: outputs[KEPT]


@dataclass
class Places:
    """A one-stage head of which the answers at the places where the old one sees most are held.

    ours, theirs: the columns of the same classes in both. seen: what the new head gave in the pass that is under way.
    """

    model: Any  # a Detector, as is the old one
    old: Any
    ours: Sequence[int]
    theirs: Sequence[int]
    seen: list[Any] = field(default_factory=list[Any])

    def hooks(self) -> dict[nn.Module, Callable[..., Any]]:
        return {self.model.net.head: self.note, self.model: self.add}

    def note(self, module: nn.Module, given: Any, outputs: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self.seen.append(outputs)

    def add(self, module: nn.Module, given: tuple[Any, ...], outputs: dict[str, Any]) -> dict[str, Any] | None:
        """Runs inside the model's pass, so that several processes share its gradients as all others."""
        if not module.training or not torch.is_grad_enabled():
            return None
        seen, self.seen = self.seen, []
        found = self.distance(seen, given[0]["image"])
        self.old.peaks.taken()  # of its heads, which were asked one by one
        return {**outputs, KEPT: found}

    def distance(self, seen: Sequence[Mapping[str, Tensor]], images: Sequence[Tensor]) -> Tensor:
        with torch.no_grad():
            laid, _ = self.old.net.transform(list(images))
            before = self.old.net.head(list(self.old.net.backbone(laid.tensors).values()))
        return torch.stack(
            [self.of_image({key: value[i] for key, value in seen[0].items()}, before, i) for i in range(len(images))]
        ).mean()

    def of_image(self, now: Mapping[str, Tensor], before: Mapping[str, Tensor], i: int) -> Tensor:
        logits = before["cls_logits"][i][:, list(self.theirs)]  # (A, O)
        best = logits.amax(1).topk(min(PLACES, len(logits))).indices
        parts = [
            (now["cls_logits"][best][:, list(self.ours)] - logits[best]).square().mean(),
            (now["bbox_regression"][best] - before["bbox_regression"][i][best]).square().sum(1).mean(),
        ]
        if "bbox_ctrness" in now:
            parts.append((now["bbox_ctrness"][best] - before["bbox_ctrness"][i][best]).square().mean())
        return torch.stack(parts).sum()


@dataclass
class Regions(Places):
    """A two-stage head that is shown the old one's regions, and its region proposals."""

    features: list[Any] = field(default_factory=list[Any])

    def hooks(self) -> dict[nn.Module, Callable[..., Any]]:
        net = self.model.net
        return {net.backbone: self.note_features, net.rpn.head: self.note, self.model: self.add}

    def note_features(self, module: nn.Module, given: Any, outputs: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self.features.append(outputs)

    def distance(self, seen: Sequence[Any], images: Sequence[Tensor]) -> Tensor:
        (now,), self.features = self.features, []
        with torch.no_grad():
            net = self.old.net
            laid, _ = net.transform(list(images))
            before = net.backbone(laid.tensors)
            regions, _ = net.rpn(laid, before)
            proposed = net.rpn.head(list(before.values()))
            logits, boxes = answers(net, before, regions, laid.image_sizes)  # (N, 1 + K), (N, 1 + K, 4)
            chosen = [one.softmax(1)[:, 0].topk(min(PLACES, len(one)), largest=False).indices for one in logits]
        shown = [one[best] for one, best in zip(regions, chosen, strict=True)]
        with norms_at_rest(self.model.net.roi_heads):
            ours = answers(self.model.net, now, shown, laid.image_sizes)
        each = [
            region_distance(
                *(part[:, [0, *self.ours]] for part in (new_logits, new_boxes)),
                *(part[best][:, [0, *self.theirs]] for part in (old_logits, old_boxes)),
            )
            for new_logits, new_boxes, old_logits, old_boxes, best in zip(*ours, logits, boxes, chosen, strict=True)
        ]
        return torch.stack(each).mean() + proposal_distance(*seen[0], *proposed)


def answers(
    net: Any, features: Mapping[str, Tensor], regions: list[Tensor], sizes: list[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor]]:
    """What a two-stage head says of regions of each image: logits (N, 1 + K), encoded boxes (N, 1 + K, 4)."""
    heads, counts = net.roi_heads, [len(one) for one in regions]
    logits, boxes = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, regions, sizes)))
    return list(logits.split(counts)), list(boxes.view(len(boxes), -1, 4).split(counts))


def region_distance(ours: Tensor, our_boxes: Tensor, theirs: Tensor, their_boxes: Tensor) -> Tensor:
    """Logits (N, 1 + O) and encoded boxes (N, 1 + O, 4) of the background and the old classes, twice -> (): squared
    distances of logits less their mean, and of the classes' boxes, over N regions and O classes (eq. 1)."""
    centered = [one - one.mean(1, keepdim=True) for one in (ours, theirs)]
    apart = (centered[0] - centered[1]).square().sum() + (our_boxes - their_boxes)[:, 1:].square().sum()
    return apart / max(ours.shape[0] * (ours.shape[1] - 1), 1)


def proposal_distance(
    ours: Sequence[Tensor], our_boxes: Sequence[Tensor], theirs: Sequence[Tensor], their_boxes: Sequence[Tensor]
) -> Tensor:
    """Per level objectness (B, A, h, w) and encoded boxes (B, 4 A, h, w), twice -> (): squared distances where the old
    one sees more, of boxes where it thinks an object likelier than not besides, the mean over places."""
    total, places = [], 0
    for new, new_boxes, before, before_boxes in zip(ours, our_boxes, theirs, their_boxes, strict=True):
        more = before > new.detach()
        sides = (new_boxes - before_boxes).square().unflatten(1, (new.shape[1], 4)).sum(2)  # (B, A, h, w)
        total.append((more * (new - before).square()).sum() + ((more & (before > 0)) * sides).sum())
        places += new.numel()
    return torch.stack(total).sum() / places


@contextmanager
def norms_at_rest(module: nn.Module) -> Iterator[None]:
    """Within the block batch norms use what they have counted, and count nothing: regions of another model are no
    sample of the training's."""
    norms = [one for one in module.modules() if isinstance(one, _BatchNorm) and one.training]
    for one in norms:
        one.training = False
    try:
        yield
    finally:
        for one in norms:
            one.training = True
