"""A whole detector of torchvision as a start: what it is, and its tensors by the names of our model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Backbone, ClassRows, Parts, Source, WeightsError, Whole
from visiontl.kit.words import count, did_you_mean, some
from visiontl_detection.config import DetectionConfig
from visiontl_detection.model import Detector
from visiontl_detection.views import settled_size
from visiontl_detection.wholes import ALL_SIDES, DESIGNS, NO_EPSILON, PREFIX, THIRDS, Design

RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"),
    *("resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
BODIES = (*RESNETS, "mobilenet_v3_large")
MODULES = ["features.13", "features.16"]  # of mobilenet_v3_large, where torchvision's pyramid begins
EPSILON = 1e-5  # of torchvision's frozen norms, and of those that its detectors are made with
OTHERS = {  # beginnings of names that say of which kind of model a file is
    "roi_heads.mask_": "a Mask R-CNN",
    "roi_heads.keypoint_": "a Keypoint R-CNN",
    "head.regression_head.module_list": "an SSD",
    "classifier.": "a segmentation or classification model",
    "segmentation_head.": "a segmentation model of segmentation-models-pytorch",
    "model.model.": "a transformer or a YOLO",
    "fc.": "a classification model",
}


def whole(source: Source) -> Whole:
    """What a file or a tag of torchvision's detectors holds. Raises WeightsError for what is none of them."""
    given = source.name.removeprefix(PREFIX)
    url, names, exact = "", source.classes, False
    if source.file is None and given:
        found = tag_of(given, source.tag)
        url, names, exact = found.url, found.meta["categories"], True
    elif given:
        exact = any(Path(one.url).name == source.file.name for one in tags_of(given)) if source.file else False
    state = renamed(source.read(url))
    design = DESIGNS[given] if given else told_by(state, source.text)
    matched = Matched(source.text, given, design, state)
    matched.require()
    classes, notes = class_names(source.text, design.head, matched.outputs(), names)
    needs: dict[str, Any] = {"head": design.head, "design": design.design, "fpn_width": matched.width("fpn")}
    if design.head == "faster_rcnn":
        needs["box_width"] = matched.width("box")
    if design.head == "retinanet":
        needs["anchors.sizes"] = THIRDS
    if design.backbone == "mobilenet_v3_large":
        needs |= {"pyramid": MODULES, "anchors.sizes": ALL_SIDES}
    epsilon = 0.0 if exact and given in NO_EPSILON else EPSILON
    v2 = design.design == "v2"
    return Whole(
        name=f"{PREFIX}{given}" if given else f"a {design.head} of torchvision on {design.backbone}",
        classes=classes,
        backbone={"name": f"{PREFIX}{design.backbone}"},
        needs=needs,
        prefers=design.prefers(),
        meta=meta,
        tensors=lambda model: placed(model, state, None if v2 else epsilon),
        cut=("net.backbone.backbone.body.classifier.",),
        notes=notes,
    )


def tags_of(name: str) -> list[Any]:
    from torchvision.models import get_model_weights

    return list(get_model_weights(name))


def tag_of(name: str, tag: str) -> Any:
    """The weights that a tag names; the recommended ones where it is empty or DEFAULT."""
    from torchvision.models import get_model_weights

    enum: Any = get_model_weights(name)
    known = [one.name for one in enum]
    if tag in ("", "DEFAULT"):
        return enum.DEFAULT
    if tag not in known:
        raise WeightsError(
            f"init: {PREFIX}{name} has no weights {tag!r} (its tags: {some(known)}; a file is named as "
            f"{PREFIX}{name}:FILE){did_you_mean(tag, known)}"
        )
    return enum[tag]


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Files of torchvision before 0.13 have other names for convolutions of the pyramid and of the heads."""
    depths = "|".join(str(i) for i in (0, 2, 4, 6))
    older = f"head.classification_head.conv.{6}.weight" in state and "bbox_ctrness" not in "".join(state)
    made = {}
    for key, value in state.items():
        new = re.sub(r"((?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", key)
        new = re.sub(r"^rpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1", new)
        if older:
            new = re.sub(
                rf"^(head\.\w+_head\.conv)\.({depths})\.(weight|bias)$",
                lambda found: f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}",
                new,
            )
        made[new] = value
    return made


def told_by(state: Mapping[str, Tensor], text: str) -> Design:
    """Of which design a state dict is, by its names and shapes. Raises WeightsError for another architecture."""
    if "roi_heads.box_predictor.cls_score.weight" in state and not any("mask_" in key for key in state):
        head, design = "faster_rcnn", "v1" if "roi_heads.box_head.fc6.weight" in state else "v2"
    elif "head.regression_head.bbox_ctrness.weight" in state:
        head, design = "fcos", "v1"
    elif "head.classification_head.cls_logits.weight" in state:
        head, design = "retinanet", "v2" if "head.classification_head.conv.0.1.weight" in state else "v1"
    else:
        kind = next((what for start, what in OTHERS.items() if any(key.startswith(start) for key in state)), "")
        held = f"it looks like {kind}" if kind else f"it holds {some(list(state), 3) or 'nothing'}"
        raise WeightsError(
            f"init: {text}: is no Faster R-CNN, RetinaNet or FCOS of torchvision: {held}. Of a model of your own save "
            "model.state_dict(); the weights of a backbone alone belong to backbone.weights"
        )
    body = {key.removeprefix("backbone.body."): value for key, value in state.items() if ".body." in key}
    for name in BODIES:
        own = shapes(name)
        if own and all(key in body and body[key].shape == shape for key, shape in own.items()):
            return Design(head, design, name)
    raise WeightsError(
        f"init: {text}: a {head} whose backbone is none of {', '.join(BODIES)}: {count(len(body), 'tensor')} below "
        f"backbone.body., such as {some(list(body), 3) or 'none'}"
    )


def shapes(name: str) -> dict[str, torch.Size]:
    """{name below backbone.body. in torchvision's detectors: shape} of what each of them has."""
    from torchvision.models import get_model

    with torch.device("meta"):
        model = get_model(name, weights=None)
    part: nn.Module = model.get_submodule("features") if name == "mobilenet_v3_large" else model
    return {
        key: value.shape
        for key, value in part.state_dict().items()
        if not key.startswith("fc.") and not key.endswith("num_batches_tracked")
    }


@dataclass(frozen=True)
class Matched:
    """A state dict that is said to be of a design. name: of torchvision's model, "" for a file that does not say."""

    text: str
    name: str
    design: Design
    state: Mapping[str, Tensor]

    def require(self) -> None:
        """Raises WeightsError for tensors that the design has and the state lacks, or of another shape."""
        own = {f"backbone.body.{key}": shape for key, shape in shapes(self.design.backbone).items()}
        lacking = [key for key in [*own, *self.heads()] if key not in self.state]
        other = [key for key, shape in own.items() if key in self.state and self.state[key].shape != shape]
        said = self.name or f"{self.design.head} on {self.design.backbone}"
        if lacking:
            every = len(lacking) == len(own) + len(self.heads())
            raise WeightsError(
                f"init: {self.text}: is no {said}, or only a part of one: "
                f"{'all' if every else count(len(lacking), 'tensor')} of its tensors "
                f"{'are' if len(lacking) != 1 else 'is'} missing, such as {some(lacking, 3)}; the file holds "
                f"{some(list(self.state), 3) or 'nothing'}"
            )
        if other:
            raise WeightsError(
                f"init: {self.text}: is no {said}: {other[0]} is {tuple(self.state[other[0]].shape)} there, "
                f"{tuple(own[other[0]])} in it; without the name before the colon the file's own kind is found"
            )

    def heads(self) -> list[str]:
        """The tensors that classes and widths are read from."""
        if self.design.head != "faster_rcnn":
            logits = "head.classification_head.cls_logits.weight"
            return ["backbone.fpn.inner_blocks.0.0.weight", logits, "head.regression_head.bbox_reg.weight"]
        return [
            "backbone.fpn.inner_blocks.0.0.weight",
            "rpn.head.cls_logits.weight",
            "roi_heads.box_predictor.cls_score.weight",
            "roi_heads.box_predictor.bbox_pred.weight",
        ]

    def width(self, of: str) -> int:
        key = "backbone.fpn.inner_blocks.0.0.weight" if of == "fpn" else "roi_heads.box_predictor.cls_score.weight"
        return int(self.state[key].shape[0 if of == "fpn" else 1])

    def outputs(self) -> int:
        """Classes that it answers with, those of no name and the background's too."""
        if self.design.head == "faster_rcnn":
            return int(self.state["roi_heads.box_predictor.cls_score.weight"].shape[0])
        rows = int(self.state["head.classification_head.cls_logits.weight"].shape[0])
        return rows // (len(THIRDS[0]) * 3) if self.design.head == "retinanet" else rows


def class_names(
    text: str, head: str, outputs: int, given: Sequence[str] | None
) -> tuple[list[str] | None, tuple[str, ...]]:
    """(names in the order of our labels, notes). outputs: the background's counted. given: torchvision's categories,
    which begin with the background, or lines of classes.txt, which do not have to. Raises WeightsError for another
    number of names."""
    notes: tuple[str, ...] = ()
    first = 1 if head == "faster_rcnn" else 0  # torchvision's two-stage heads keep a row for the background
    names = list(given) if given is not None else None
    if names is None and outputs == len(coco := categories()):
        names = coco
        notes = (f"init: {outputs} outputs and no names of classes: taken for COCO's, as torchvision orders them",)
    if names is None:
        return None, ()
    if len(names) == outputs - first:
        names = ["__background__"] * first + names
    if len(names) != outputs:
        raise WeightsError(
            f"init: {text}: {count(len(names), 'name')} of classes for a model with {outputs - first}; "
            "classes.txt holds one name a line, in the order of the model's labels"
        )
    told = [f"{name} {i}" if names.count(name) > 1 else name for i, name in enumerate(names)]  # N/A stands for ten
    return told[first:], notes


def categories() -> list[str]:
    from torchvision.models.detection import FCOS_ResNet50_FPN_Weights

    return list(FCOS_ResNet50_FPN_Weights.DEFAULT.meta["categories"])


def meta(cfg: DetectionConfig, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "classes": list(classes),
        "categories": None,
        "counts": [0] * len(classes),
        "size": settled_size(cfg, []),
        "anchors": None,
    }


def placed(model: nn.Module, state: Mapping[str, Tensor], epsilon: float | None) -> dict[str, Tensor]:
    """Tensors of torchvision's model by the names of ours. epsilon: of the norms in its backbone, None where they are
    the backbone's own: what ours add to a variance beside it is taken off the scale, so answers are the same."""
    assert isinstance(model, Detector)
    features = "features." if "net.backbone.backbone.body.features.0.0.weight" in model.state_dict() else ""
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("backbone.body."):
            made[f"net.backbone.backbone.body.{features}{key.removeprefix('backbone.body.')}"] = value
        elif key.startswith("backbone.fpn.extra_blocks."):
            made[f"net.backbone.neck.extra_blocks.blocks.0.{key.removeprefix('backbone.fpn.extra_blocks.')}"] = value
        elif key.startswith("backbone.fpn."):
            made[f"net.backbone.neck.{key.removeprefix('backbone.fpn.')}"] = value
        else:
            made[f"net.{key}"] = value
    if epsilon is None:
        return made
    backbone = next(one for one in model.modules() if isinstance(one, Backbone))
    for name, module in backbone.named_modules():
        key = f"net.backbone.backbone.{name}"
        if isinstance(module, nn.BatchNorm2d) and module.eps != epsilon and f"{key}.running_var" in made:
            variance = made[f"{key}.running_var"].double()
            scale = ((variance + module.eps) / (variance + epsilon)).sqrt()
            made[f"{key}.weight"] = (made[f"{key}.weight"].double() * scale).float()
    return made


def parts(cfg: DetectionConfig, model: Any, meta: Mapping[str, Any]) -> Parts:
    names = list(meta["classes"])
    if cfg.head == "faster_rcnn":
        at = "net.roi_heads.box_predictor"
        rows = {
            **{f"{at}.cls_score.{kind}": ClassRows(names, before=1) for kind in ("weight", "bias")},
            **{f"{at}.bbox_pred.{kind}": ClassRows(names, before=1, inner=4) for kind in ("weight", "bias")},
        }
    else:
        outer = int(model.net.anchor_generator.num_anchors_per_location()[0])
        at = "net.head.classification_head.cls_logits"
        rows = {f"{at}.{kind}": ClassRows(names, outer=outer) for kind in ("weight", "bias")}
    return Parts(("net.backbone.neck.", "net.backbone.extra."), rows)
