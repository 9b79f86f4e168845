"""One small record per image, and the scores of a split computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from visiontl_detection import coco_scores, errors
from visiontl_detection.config import DetectionConfig


def rows(
    cfg: DetectionConfig, outputs: Mapping[str, Any], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Per image, in pixels of the upright photo: size (H, W); boxes (N, 4) float32, scores (N,) float32 and labels
    (N,) int64 of the detections; true_boxes (M, 4) float64, true_labels (M,), true_ignored (M,) bool and true_area
    (M,) float64 of all annotated boxes."""
    sizes = batch["size"].tolist()
    return [
        {
            "size": (int(height), int(width)),
            "boxes": _array(found["boxes"], np.float32).reshape(-1, 4),
            "scores": _array(found["scores"], np.float32),
            "labels": _array(found["labels"], np.int64),
            "true_boxes": _array(truth["boxes"], np.float64).reshape(-1, 4),
            "true_labels": _array(truth["labels"], np.int64),
            "true_ignored": _array(truth["ignored"], np.bool_),
            "true_area": _array(truth["area"], np.float64),
        }
        for (height, width), found, truth in zip(sizes, outputs["detections"], batch["truth"], strict=True)
    ]


def score(cfg: DetectionConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a split, 0..1.

    mAP (COCO's, IoU .50:.95), AP50, AP75, AP_small, AP_medium, AP_large, AR1, AR10, AR100, AR_small, AR_medium,
    AR_large; precision and recall, over all classes together, of the detections with a score of
    cfg.operating_point or more, right from an IoU of 0.5; per_class (class -> mAP); errors (kind -> count at the
    operating point and cost, what AP50 would gain without them; see `errors`); counts.
    What has nothing to be measured on is left out: sizes and classes without a true box, precision without a
    detection. mAP is always there, NaN where the split has no true box at all. Only COCO's 100 best detections per
    image and class count anywhere; counts.counted says how many of counts.detections those are.
    """
    names = meta["classes"]
    evaluated = coco_scores.evaluate(rows, len(names), cfg.evaluator)
    matches = errors.match(rows)
    coco = coco_scores.summary(evaluated)
    scores: dict[str, Any] = {key: value for key, value in coco.items() if key == "mAP" or not math.isnan(value)}
    point = errors.operating_point(matches, cfg.operating_point)
    scores.update({key: value for key, value in point.items() if not math.isnan(value)})
    precision = coco_scores.class_precision(evaluated)
    scores["per_class"] = {names[k]: float(precision[k]) for k in np.flatnonzero(~np.isnan(precision)).tolist()}
    count, cost = errors.counts(matches, cfg.operating_point), errors.costs(matches)
    scores["errors"] = {kind: {"count": count[kind], "cost": cost[kind]} for kind in errors.KINDS}
    scores["counts"] = {
        "images": len(rows),
        "boxes": len(matches.true_label),
        "ignored": int(sum(np.count_nonzero(row["true_ignored"]) for row in rows)),
        "detections": int(sum(len(row["scores"]) for row in rows)),
        "counted": len(matches.score),
    }
    return scores


def trivial(
    cfg: DetectionConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """No detection in any image."""
    nothing = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32), "labels": np.zeros(0, int)}
    return "finding nothing", [{**row, **nothing} for row in rows]


def _array(value: Tensor, kind: Any) -> np.ndarray:
    return value.detach().cpu().numpy().astype(kind)
