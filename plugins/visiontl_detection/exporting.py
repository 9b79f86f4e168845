"""The detectors as graphs whose outputs have a fixed shape: the best of a level, of boxes that overlap the best, and
the best of these. torchvision's own answers have as many rows as there are, which torch's exporters do not take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from visiontl import ConfigError, Export
from visiontl.kit.exporting import letterboxed
from visiontl.kit.suppression import suppressed
from visiontl_detection.config import DetectionConfig, PredictOptions
from visiontl_detection.model import POOLED, SMALLEST, Detector, in_photo
from visiontl_detection.predictions import known
from visiontl_detection.regions import SAMPLES

NONE = -1.0  # the score of a row that holds nothing
Found = tuple[Tensor, Tensor, Tensor]  # boxes (B, N, 4) in pixels of the image, scores (B, N), labels (B, N)


class Boxes(nn.Module):
    """forward(image, extent): {"boxes": (B, D, 4) in pixels of the image, "scores": (B, D) falling, below 0 in rows
    that hold nothing, "labels": (B, D) class indices}. extent: (B, 2) int64 h, w of each photo in its image."""

    def __init__(self, detector: Detector, detections: int):
        super().__init__()
        self.net: Any = detector.net
        self.detections = detections
        anchors = self.net.rpn.anchor_generator if hasattr(self.net, "rpn") else self.net.anchor_generator
        self.cells = [cell.clone().float() for cell in anchors.cell_anchors]

    def forward(self, image: Tensor, extent: Tensor) -> dict[str, Tensor]:
        maps = list(self.net.backbone(image).values())  # (B, C, h_i, w_i) each
        anchors = [self.anchors(i, one, image) for i, one in enumerate(maps)]  # (h_i w_i A, 4) each
        boxes, scores, labels = best(self.found(maps, anchors, extent), self.detections)
        whole = (sides(boxes) >= SMALLEST).all(-1)  # as `in_photo` has it, which looks at the best alone
        scores = torch.where(whole, scores, torch.full_like(scores, NONE))
        boxes, scores, labels = best((boxes, scores, labels), self.detections)
        return {"boxes": boxes, "scores": scores, "labels": labels}

    def found(self, maps: list[Tensor], anchors: list[Tensor], extent: Tensor) -> Found:
        raise NotImplementedError

    def anchors(self, level: int, features: Tensor, image: Tensor) -> Tensor:
        """As torchvision's generator lays them: by rows, columns, shapes."""
        height, width = features.shape[2], features.shape[3]
        # as tensors: exporters would have to solve formulas of sizes
        steps = (torch.scalar_tensor(image.shape[i]) / torch.scalar_tensor(features.shape[i]) for i in (2, 3))
        down, across = (torch.arange(n) * step.floor() for n, step in zip((height, width), steps, strict=True))
        y, x = torch.meshgrid(down, across, indexing="ij")  # (h, w) each
        corner = torch.stack([x, y, x, y], -1)  # (h, w, 4)
        return (corner[:, :, None] + self.cells[level]).reshape(-1, 4)


class TwoStage(Boxes):
    """Faster R-CNN."""

    def found(self, maps: list[Tensor], anchors: list[Tensor], extent: Tensor) -> Found:
        regions, there = self.regions(maps, anchors, extent)  # (B, R, 4), (B, R)
        heads, images, count = self.net.roi_heads, regions.shape[0], regions.shape[1]
        pooled = self.pooled(maps, regions)  # (B R, C, 7, 7)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        classes = logits.shape[1]
        shares = logits.softmax(-1).reshape(images, count, classes)
        boxes = heads.box_coder.decode_single(deltas, regions.reshape(-1, 4)).reshape(images, count, classes, 4)
        boxes = clipped(boxes[:, :, 1:].transpose(1, 2), extent)  # (B, C, R, 4), without the background
        scores = shares[:, :, 1:].transpose(1, 2)  # (B, C, R)
        may = (scores > heads.score_thresh) & there[:, None] & (sides(boxes) >= SMALLEST).all(-1)
        scores = torch.where(may, scores, torch.zeros_like(scores))
        kept = suppressed(boxes.reshape(-1, count, 4), scores.reshape(-1, 1, count), float(heads.nms_thresh))
        scores = torch.where(kept.reshape(scores.shape), scores, torch.full_like(scores, NONE))
        labels = torch.arange(classes - 1)[None, :, None].expand(images, -1, count)
        return boxes.flatten(1, 2), scores.flatten(1), labels.flatten(1)

    def regions(self, maps: list[Tensor], anchors: list[Tensor], extent: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, 4) where something may be, and (B, R) which of them are there."""
        rpn, kept_boxes, kept_scores = self.net.rpn, [], []
        before, after = rpn.pre_nms_top_n(), rpn.post_nms_top_n()
        for one, places in zip(maps, anchors, strict=True):
            objectness, deltas = (values[0] for values in rpn.head([one]))  # (B, A, h, w), (B, 4 A, h, w)
            images, shapes = objectness.shape[0], objectness.shape[1]
            logits = objectness.permute(0, 2, 3, 1).flatten(1)  # (B, h w A)
            codes = deltas.unflatten(1, (shapes, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)  # (B, h w A, 4)
            logits, index, there = top(logits, before)
            codes = codes.gather(1, index[..., None].expand(-1, -1, 4))
            boxes = rpn.box_coder.decode_single(codes.reshape(-1, 4), places[index.reshape(-1)])
            boxes = clipped(boxes.reshape(images, -1, 4), extent)
            share = logits.sigmoid()
            there = there & (sides(boxes) >= rpn.min_size).all(-1) & (share >= rpn.score_thresh)
            share = torch.where(there, share.clamp(min=1e-30), torch.zeros_like(share))
            kept = suppressed(boxes, share[:, None], float(rpn.nms_thresh))[:, 0]
            kept_boxes.append(boxes)
            kept_scores.append(torch.where(kept, share, torch.full_like(share, NONE)))
        scores = torch.cat(kept_scores, 1)
        boxes, scores, _ = best((torch.cat(kept_boxes, 1), scores, torch.zeros_like(scores, dtype=torch.int64)), after)
        return boxes, scores > 0

    def pooled(self, maps: list[Tensor], regions: Tensor) -> Tensor:
        """(B, R, 4) -> (B R, C, 7, 7): every region from every level, of which the one that suits its size is taken
        (Lin et al. 2017, Feature pyramid networks, equation 1)."""
        images, count = regions.shape[0], regions.shape[1]
        number = torch.arange(images, dtype=regions.dtype)[:, None].expand(-1, count).reshape(-1, 1)
        rois = torch.cat([number, regions.reshape(-1, 4)], 1)  # (B R, 5)
        size = sides(rois[:, 1:]).prod(-1).sqrt()
        first, levels = int(math.log2(self.strides[0])), len(self.strides)
        level = (torch.floor(4 + torch.log2(size / 224 + 1e-12) + 1e-6) - first).clamp(0, levels - 1)
        made: Tensor | None = None
        for i, (one, stride) in enumerate(zip(maps, self.strides, strict=False)):
            part = roi_align(one, rois, (POOLED, POOLED), 1 / stride, SAMPLES)
            made = part if made is None else torch.where((level == i)[:, None, None, None], part, made)
        assert made is not None
        return made

    @property
    def strides(self) -> list[int]:
        """Of the levels that regions are pooled from: all but the last."""
        return self.net.backbone.strides[:-1]


class OneStage(Boxes):
    """RetinaNet and FCOS, which differ in how a score is made and a box is decoded."""

    def found(self, maps: list[Tensor], anchors: list[Tensor], extent: Tensor) -> Found:
        parts = [self.of_level(one, places, extent) for one, places in zip(maps, anchors, strict=True)]
        boxes, scores, labels = (torch.cat(values, 1) for values in zip(*parts, strict=True))
        number = torch.arange(self.classes)[None, :, None]
        each = torch.where(labels[:, None] == number, scores[:, None], torch.zeros_like(scores)[:, None])  # (B, C, N)
        kept = suppressed(boxes, each, float(self.net.nms_thresh)).any(1)
        return boxes, torch.where(kept, scores, torch.full_like(scores, NONE)), labels

    def of_level(self, features: Tensor, anchors: Tensor, extent: Tensor) -> Found:
        """The best of a level; what is below the threshold has a score of 0."""
        said = self.net.head([features])
        scores = said["cls_logits"].sigmoid()  # (B, h w A, K)
        centered = "bbox_ctrness" in said
        if centered:
            scores = (scores * said["bbox_ctrness"].sigmoid()).sqrt()
        scores, index, there = top(scores.flatten(1), self.net.topk_candidates)  # (B, N)
        place, label = index // self.classes, index % self.classes
        codes = said["bbox_regression"].gather(1, place[..., None].expand(-1, -1, 4))  # (B, N, 4)
        near = anchors[place]  # (B, N, 4)
        if centered:
            boxes = self.net.box_coder.decode(codes, near)
        else:
            boxes = self.net.box_coder.decode_single(codes.reshape(-1, 4), near.reshape(-1, 4)).reshape(codes.shape)
        there = there & (scores > self.net.score_thresh)
        return clipped(boxes, extent), torch.where(there, scores, torch.zeros_like(scores)), label

    @property
    def classes(self) -> int:
        return self.net.head.classification_head.num_classes


def top(values: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, N) -> the `count` largest of each row, their places, and which of them there are: where N is less the rest
    is filled up, so that the shape does not depend on N."""
    images = values.shape[0]
    filled = torch.cat([values, values.new_full((images, count), -1e9)], 1)
    found, index = filled.topk(count, 1)
    there = index < values.shape[1]
    return found, torch.where(there, index, torch.zeros_like(index)), there


def best(found: Found, count: int) -> Found:
    """The `count` of the highest scores, filled up with rows that hold nothing."""
    boxes, scores, labels = found
    images = scores.shape[0]
    scores = torch.cat([scores, scores.new_full((images, count), NONE)], 1)
    boxes = torch.cat([boxes, boxes.new_zeros((images, count, 4))], 1)
    labels = torch.cat([labels, labels.new_zeros((images, count))], 1)
    scores, index = scores.topk(count, 1)
    return boxes.gather(1, index[..., None].expand(-1, -1, 4)), scores, labels.gather(1, index)


def clipped(boxes: Tensor, extent: Tensor) -> Tensor:
    """boxes (B, ..., 4) -> the same inside of each photo."""
    most = extent.flip(1).repeat(1, 2).to(boxes.dtype)  # (B, 4): w, h, w, h
    most = most.reshape(most.shape[0], *(1,) * (boxes.ndim - 2), 4)
    return torch.minimum(boxes.clamp(min=0), most)


def sides(boxes: Tensor) -> Tensor:
    """(..., 4) -> (..., 2) width and height."""
    return boxes[..., 2:] - boxes[..., :2]


def export(cfg: DetectionConfig, model: Detector, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    """Raises ConfigError for what takes two passes."""
    net: Any = model.net
    spec = net.backbone.backbone.spec
    padding = net.transform
    size, names = meta["size"], list(meta["classes"])
    short, long = size["short"][-1], size["long"]
    step = 1 if padding.fixed is not None else padding.step
    canvas = padding.fixed or tuple(-(-side // step) * step for side in (short, min(long, round(short * 4 / 3))))
    if options.flip:
        raise ConfigError("option flip: takes two passes, which no graph holds; leave it out")
    resize: dict[str, Any] = {"resize": "short", "short": short, "long": long}
    if padding.fixed is not None:
        resize = {"resize": "inside", "size": list(padding.fixed)}
    reported = range(len(names)) if options.classes is None else [known(name, names) for name in options.classes]
    return Export(
        module=(TwoStage if cfg.head == "faster_rcnn" else OneStage)(model, cfg.detections),
        view=letterboxed(
            resize, spec.interpolation, step, padding.fixed or (0, 0), [255 * one for one in padding.color]
        ),
        answer={
            "kind": "boxes",
            **{name: name for name in ("boxes", "scores", "labels")},
            "classes": names,
            "reported": list(reported),
            "threshold": options.threshold,
            "kept": cfg.score_threshold,
            "most": min(options.most or cfg.detections, cfg.detections),
        },
        size=(canvas[0], canvas[1]),
        multiple=step,
        varies=padding.fixed is None,
        wanted=padding.fixed is None,
        extent=True,
        outputs=outputs_of(model),
    )


def outputs_of(model: Detector) -> Any:
    """As the model answers in evaluation, for a batch in which photos are laid as it lays them."""

    def outputs(run: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        net: Any = model.net
        laid, _ = net.transform(batch["image"])
        found = run(laid.tensors, torch.tensor(laid.image_sizes))
        made = []
        for i, (image, photo) in enumerate(zip(batch["image"], batch["size"].tolist(), strict=True)):
            there = found["scores"][i] >= 0
            one = {name: values[i][there] for name, values in found.items()}
            made.append(in_photo(one, (image.shape[1], image.shape[2]), photo, 0))
        return {"detections": made}

    return outputs
