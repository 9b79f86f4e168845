"""The shapes that boxes are predicted from: squares by stride, or k-means of the training boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visiontl import BackboneError, DataError, ImageSpec
from visiontl.kit.words import count, plural
from visiontl_detection.config import DetectionConfig
from visiontl_detection.listing import Annotated
from visiontl_detection.views import resized

ROUNDS = 300  # of k-means at most; it settles after some dozens
MOST = 100_000  # boxes that are looked at, drawn from all
LEVELS = 5  # of the pyramid that every head here predicts from


def box_sizes(spec: ImageSpec, size: Mapping[str, Any], images: Sequence[Annotated]) -> np.ndarray:
    """(N, 2) width and height of the learned boxes in pixels of the resized images; images of unknown size left out."""
    parts = []
    for image in images:
        if image.size is None:
            continue
        height, width = resized(image.size, size["short"][-1], size["long"], spec)
        boxes = image.boxes[~image.ignored]  # (n, 4)
        parts.append((boxes[:, 2:] - boxes[:, :2]) * np.array([width / image.size[1], height / image.size[0]]))
    return np.concatenate(parts) if parts else np.zeros((0, 2))


def fitted(
    cfg: DetectionConfig, spec: ImageSpec, size: Mapping[str, Any], images: Sequence[Annotated]
) -> tuple[list[list[list[float]]], list[str]]:
    """Per pyramid level `per_level` shapes [w, h] in pixels of the resized image, and lines that tell them.

    k-means with 1 - IoU as distance (Redmon and Farhadi 2017, YOLO9000, section 2), all boxes laid on one corner;
    the shapes, sorted by area, are dealt to the levels. Deterministic. Raises DataError for too few boxes.
    """
    shapes = box_sizes(spec, size, images)
    wanted = cfg.anchors.per_level * LEVELS
    if len(shapes) < wanted:
        raise DataError(
            f"task.anchors: fitted: {count(wanted, 'shape')} {plural(wanted, 'is')} wanted and train has "
            f"{count(len(shapes), 'box')}; lower task.anchors.per_level, or use anchors: default"
        )
    if len(shapes) > MOST:
        shapes = shapes[np.random.default_rng(0).choice(len(shapes), MOST, replace=False)]
    centers = k_means(shapes, wanted)
    centers = centers[np.argsort(centers.prod(1), kind="stable")]
    levels = [
        [[round(float(side), 1) for side in shape] for shape in centers[i : i + cfg.anchors.per_level]]
        for i in range(0, wanted, cfg.anchors.per_level)
    ]
    mean = overlap(shapes, centers).max(1).mean()
    lines = [f"anchors fitted to {count(len(shapes), 'box')}, mean IoU of a box with its nearest: {mean:.3f}"]
    lines += [
        f"anchors of level {i}: " + ", ".join(f"{w:g} x {h:g}" for w, h in level) for i, level in enumerate(levels)
    ]
    return levels, lines


def k_means(shapes: np.ndarray, count: int) -> np.ndarray:
    """(N, 2) -> (count, 2). Starts from quantiles of the area, so nothing is random."""
    order = np.argsort(shapes.prod(1), kind="stable")
    centers = shapes[order[np.linspace(0, len(shapes) - 1, count).round().astype(int)]].copy()
    nearest = np.full(len(shapes), -1)
    for _ in range(ROUNDS):
        now = overlap(shapes, centers).argmax(1)  # (N,)
        if (now == nearest).all():
            break
        nearest = now
        for i in range(count):
            members = shapes[nearest == i]
            if len(members):
                centers[i] = np.median(members, axis=0)
    return centers


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of boxes that share a corner: (N, 2), (K, 2) -> (N, K)."""
    common = np.minimum(a[:, None], b[None]).prod(2)
    return common / (a.prod(1)[:, None] + b.prod(1)[None] - common)


def default_shapes(cfg: DetectionConfig, strides: Sequence[int]) -> tuple[list[list[float]], list[float]]:
    """(sizes per level in pixels, ratios): faster_rcnn one of 8 strides (Lin et al. 2017, Feature pyramid networks,
    section 4.1), retinanet three of 4 strides times 1, 2^(1/3), 2^(2/3) (Lin et al. 2017, Focal loss, section 4),
    fcos the stride itself, which torchvision derives its points and size ranges from; or those that the config names.
    Raises BackboneError for those of another number of levels."""
    scale = cfg.anchors.scale
    if (sizes := cfg.anchors.sizes) is not None:
        if len(sizes) != len(strides) or not all(sizes):
            raise BackboneError(
                f"task.anchors.sizes: {count(len(sizes), 'level')}, and the pyramid has {len(strides)}; give one list "
                "of sides for each"
            )
        return [[side * scale for side in level] for level in sizes], cfg.anchors.ratios
    if cfg.head == "faster_rcnn":
        return [[8 * stride * scale] for stride in strides], cfg.anchors.ratios
    if cfg.head == "retinanet":
        return [[4 * stride * scale * 2 ** (i / 3) for i in range(3)] for stride in strides], cfg.anchors.ratios
    return [[stride] for stride in strides], [1.0]
