"""One small record per image, and the scores of a split computed from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from visiontl_detection import coco_scores, errors
from visiontl_detection.config import DetectionConfig

# The numbers that change with how many detections count
DIFFER = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_small", "AR_medium", "AR_large")


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

    As many detections per image and class count as cfg.detections lets there be, COCO's 100 at the least; where they
    are more, COCO's own numbers stand beside these as coco_mAP and so on. counts.counted says how many of
    counts.detections count anywhere.

    What has nothing to be measured on is left out: sizes and classes without a true box, precision without a
    detection. mAP is always there, None where the split has no true box at all; then false_alarms, detections from the
    operating point on per image, says what there is to be said.
    """
    names = meta["classes"]
    evaluated = coco_scores.evaluate(rows, len(names), cfg.evaluator, most=cfg.detections)
    matches = errors.match(rows, cfg.detections)
    scores: dict[str, Any] = {"mAP": None} | _known(coco_scores.summary(evaluated))
    if evaluated.limits[-1] > coco_scores.MOST:
        coco = _known(coco_scores.summary(evaluated, coco_scores.MOST))
        scores.update({f"coco_{key}": value for key, value in coco.items() if key in DIFFER})
    scores.update(_known(errors.operating_point(matches, cfg.operating_point)))
    if not len(matches.true_label):
        alarms = errors.per_image(matches, cfg.operating_point, len(rows))
        scores["false_alarms"] = float(alarms.mean()) if len(rows) else 0.0
    precision = coco_scores.class_precision(evaluated)
    scores["per_class"] = {names[k]: float(precision[k]) for k in np.flatnonzero(~np.isnan(precision)).tolist()}
    count, cost = errors.counts(matches, cfg.operating_point), errors.costs(matches)
    scores["errors"] = {
        kind: {"count": count[kind], "cost": None if math.isnan(cost[kind]) else cost[kind]} for kind in errors.KINDS
    }
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


def _known(scores: Mapping[str, float]) -> dict[str, float]:
    """Those that could be measured."""
    return {key: value for key, value in scores.items() if not math.isnan(value)}


def _array(value: Tensor, kind: Any) -> np.ndarray:
    return value.detach().cpu().numpy().astype(kind)
