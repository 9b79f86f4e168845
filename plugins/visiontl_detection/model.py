"""torchvision's detectors on a backbone of the registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import remove_small_boxes

from visiontl import Backbone, BackboneError
from visiontl.kit.classes import names_in
from visiontl_detection.anchors import default_shapes
from visiontl_detection.config import DetectionConfig
from visiontl_detection.necks import Pyramid
from visiontl_detection.regions import RegionPool

FINEST = {"faster_rcnn": 4, "retinanet": 8, "fcos": 8}  # the stride of the first pyramid level, as in the papers
STRIDE = 32  # height and width of a batch are multiples of it, so that the maps of a pyramid lie on one grid
SMALLEST = 0.01  # pixels of a side, below which torchvision's two-stage head drops a box
GROUPS = 32  # of the norms in the head of RetinaNet's design v2
POOLED = 7  # cells per side that a region is pooled to (Lin et al. 2017, Feature pyramid networks, section 4.2)


def model(cfg: DetectionConfig, backbone: Backbone, meta: Mapping[str, Any]) -> Detector:
    """The detector that cfg.head names. Raises BackboneError for a backbone that cannot serve."""
    if backbone.in_channels != 3:
        raise BackboneError(f"backbone.in_channels: {backbone.in_channels}: detection reads RGB photos, so 3")
    pyramid = Pyramid(backbone, cfg.fpn_width, FINEST[cfg.head], cfg.design, cfg.pyramid)
    anchors = make_anchors(cfg, pyramid.strides, meta.get("anchors"))
    classes = len(names_in(meta))
    if cfg.head == "faster_rcnn":
        net: Any = two_stage(cfg, pyramid, anchors, classes)
        answers = [net.rpn.head, net.roi_heads.box_predictor]
    else:
        net = one_stage(cfg, pyramid, anchors, classes)
        answers = [net.head]
    net.transform = Padding(backbone)
    detector = Detector(net, first_label=1 if cfg.head == "faster_rcnn" else 0)
    for module in answers:
        module.register_forward_hook(in_fp32)
        module.register_forward_hook(detector.peaks)
    return detector


def two_stage(cfg: DetectionConfig, pyramid: Pyramid, anchors: Anchors, classes: int) -> FasterRCNN:
    width = cfg.fpn_width
    heads: dict[str, nn.Module] = {"box_head": TwoMLPHead(width * POOLED**2, cfg.box_width)}
    if cfg.design == "v2":
        heads = {
            "rpn_head": RPNHead(width, anchors.num_anchors_per_location()[0], conv_depth=2),
            "box_head": FastRCNNConvFCHead((width, POOLED, POOLED), [width] * 4, [cfg.box_width], nn.BatchNorm2d),
        }
    return FasterRCNN(
        pyramid,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_test=cfg.proposals,
        rpn_post_nms_top_n_test=cfg.proposals,
        rpn_score_thresh=cfg.proposal_threshold,
        box_roi_pool=RegionPool(pyramid.strides[:-1], POOLED),
        box_predictor=FastRCNNPredictor(cfg.box_width, classes + 1),
        box_batch_size_per_image=cfg.regions,
        box_score_thresh=cfg.score_threshold,
        box_nms_thresh=cfg.nms,
        box_detections_per_img=cfg.detections,
        **heads,  # type: ignore[arg-type]
    )


def one_stage(cfg: DetectionConfig, pyramid: Pyramid, anchors: Anchors, classes: int) -> RetinaNet | FCOS:
    head: Any = None
    if cfg.design == "v2":
        norm = partial(nn.GroupNorm, GROUPS)
        head = RetinaNetHead(cfg.fpn_width, anchors.num_anchors_per_location()[0], classes, norm)
        head.regression_head._loss_type = "giou"
    return (RetinaNet if cfg.head == "retinanet" else FCOS)(
        pyramid,
        classes,
        anchor_generator=anchors,
        head=head,
        score_thresh=cfg.score_threshold,
        nms_thresh=cfg.nms,
        detections_per_img=cfg.detections,
    )


class Detector(nn.Module):
    """forward(batch) -> in training {"losses": {name: ()}}; in evaluation {"detections": [{"boxes" (N, 4) float32 in
    the photo's pixels, "scores" (N,), "labels" (N,) class indices}, ...], by falling score, "peak": () the largest
    absolute value of the heads' answers}.

    first_label: what the net calls class 0; torchvision's two-stage heads keep 0 for the background. peak: a score that
    is no number is below every threshold, so that a net that overflows would find nothing, and nobody would know why.
    """

    def __init__(self, net: nn.Module, first_label: int):
        super().__init__()
        self.net = net
        self.first_label = first_label
        self.peaks = Peaks()

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        images = batch["image"]  # list of (3, h, w) uint8, or float 0..1
        if self.training:
            targets = [
                {"boxes": boxes, "labels": labels + self.first_label}
                for boxes, labels in zip(batch["boxes"], batch["labels"], strict=True)
            ]
            return {"losses": self.net(images, targets)}
        self.peaks.kept = []  # of a pass that was stopped
        found = self.net(images)
        return {
            "detections": [
                in_photo(one, tuple(image.shape[1:]), size, self.first_label)
                for one, image, size in zip(found, images, batch["size"].tolist(), strict=True)
            ],
            "peak": self.peaks.taken(),
        }


class Peaks:
    """A forward hook that keeps the largest absolute value of what modules answer in evaluation."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __call__(self, module: nn.Module, given: Any, outputs: Any) -> None:
        if not module.training:
            self.kept += [one.detach().abs().amax() for one in leaves(outputs) if one.numel()]

    def taken(self) -> Tensor:
        """() of what was kept since it was taken last; NaN where one of the values is."""
        kept, self.kept = self.kept, []
        return torch.stack(kept).amax() if kept else torch.zeros(())


def leaves(outputs: Any) -> list[Tensor]:
    """The tensors in nested lists, tuples and dicts."""
    if isinstance(outputs, Tensor):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, list | tuple) else ()
    return [one for part in parts for one in leaves(part)]


def in_photo(
    found: Mapping[str, Tensor], shown: tuple[int, int], photo: Sequence[int], first_label: int
) -> dict[str, Tensor]:
    """The net's answer about one resized image of (h, w) -> boxes in the photo's pixels, (H, W), inside it, and class
    indices. One-stage heads also answer with boxes beside the image, which clipping leaves without an extent."""
    kept = remove_small_boxes(found["boxes"], SMALLEST)
    boxes = found["boxes"][kept].float()
    scale = boxes.new_tensor([photo[1] / shown[1], photo[0] / shown[0]] * 2)
    most = boxes.new_tensor([photo[1], photo[0]] * 2)
    boxes = torch.minimum((boxes * scale).clamp(min=0), most)  # (N, 4)
    return {"boxes": boxes, "scores": found["scores"][kept].float(), "labels": found["labels"][kept] - first_label}


class Padding(nn.Module):
    """Stands in for torchvision's transform: images come resized, and the backbone normalizes. They are laid into one
    batch, at the upper left, on the mean color of the weights' training data, which the backbone turns to 0."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        spec = backbone.spec
        step = math.lcm(STRIDE, spec.pad_to) if spec.sizing == "multiple" else STRIDE
        self.step = step
        self.fixed = spec.size if spec.sizing == "fixed" else None
        low, high = spec.value_range
        self.color = [(mean - low) / (high - low) for mean in spec.mean]  # RGB, 0..1

    def forward(
        self, images: Sequence[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        if self.fixed is not None:
            height, width = self.fixed
        else:
            height, width = (-(-max(sides) // self.step) * self.step for sides in zip(*sizes, strict=True))
        color = torch.tensor(self.color, device=images[0].device).view(3, 1, 1)
        batch = color.repeat(len(images), 1, height, width)  # (B, 3, H, W) 0..1
        for place, image, (h, w) in zip(batch, images, sizes, strict=True):
            place[:, :h, :w] = image / 255 if image.dtype == torch.uint8 else image
        return ImageList(batch, sizes), targets

    def postprocess(self, result: list[dict[str, Tensor]], shapes: Any, photos: Any) -> list[dict[str, Tensor]]:
        return result


class Anchors(AnchorGenerator):
    """torchvision's anchors, in fp32 whatever the maps are in: bf16 has 8 bits, too few for a pixel's place.

    shapes: per level (A, 2) widths and heights, in place of sizes times ratios.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[float],
        shapes: Sequence[Sequence[Sequence[float]]] | None = None,
    ):
        super().__init__(tuple(tuple(level) for level in sizes), tuple(tuple(ratios) for _ in sizes))  # type: ignore
        if shapes is not None:
            # torchvision counts anchors by sizes and ratios
            self.cell_anchors = [torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in level]) for level in shapes]
            self.sizes = tuple(tuple(max(w, h) for w, h in level) for level in shapes)
            self.aspect_ratios = ((1.0,),) * len(shapes)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        # of the maps only shapes and device are read: one number, expanded, costs nothing
        full = [one.new_zeros((1, 1, 1, 1), dtype=torch.float32).expand(one.shape) for one in feature_maps]
        return super().forward(image_list, full)


def make_anchors(
    cfg: DetectionConfig, strides: Sequence[int], shapes: Sequence[Sequence[Sequence[float]]] | None
) -> Anchors:
    sizes, ratios = default_shapes(cfg, strides)
    return Anchors(sizes, ratios, shapes if cfg.anchors.kind == "fitted" else None)


def in_fp32(module: nn.Module, given: Any, outputs: Any) -> Any:
    """Tensors in nested lists, tuples and dicts -> float32. Boxes are decoded and losses computed in it."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, Mapping):
        return {key: in_fp32(module, given, value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_fp32(module, given, value) for value in outputs)
    return outputs
