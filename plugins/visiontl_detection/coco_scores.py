"""COCO's numbers, computed by pycocotools or faster-coco-eval. Imports no torch.

Their conventions: average precision is the mean of the precision at 101 recalls; per image and class the 100
detections with the highest scores count (more where `most` is larger); a detection on an ignored box counts neither for
nor against; small is an area below 32 x 32 pixels, large one above 96 x 96, a true box's as it was annotated.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontl import ConfigError

MOST = 100  # detections that count per image and class in COCO's own numbers
LIMITS = (1, 10, MOST)
AREAS = {"all": [0, 1e10], "small": [0, 32**2], "medium": [32**2, 96**2], "large": [96**2, 1e10]}  # pixels


@dataclass(frozen=True)
class Evaluated:
    """precision: (10 IoUs .50:.95, 101 recalls, K classes, areas, limits), recall: (10, K, areas, limits); -1 where
    a class has no true box of that area. areas: names along that axis. limits: detections that count per image and
    class, along the last axis, rising."""

    precision: np.ndarray
    recall: np.ndarray
    areas: Sequence[str]
    limits: Sequence[int] = LIMITS


def evaluate(
    rows: Sequence[Mapping[str, Any]],
    classes: int,
    evaluator: str,
    areas: Sequence[str] = tuple(AREAS),
    most: int = MOST,
) -> Evaluated:
    """The rows in the evaluator's hands. Time goes with images x classes x areas.

    most: detections that count per image and class, where they are more than COCO's 100.

    Raises ConfigError where the evaluator is not installed.
    """
    coco, coco_eval = tools(evaluator)
    limits = [*LIMITS, most] if most > MOST else list(LIMITS)
    with redirect_stdout(io.StringIO()):  # both print as they go
        truth, found = coco(), coco()
        truth.dataset = {**_listed(rows, classes), "annotations": _annotations(rows)}
        found.dataset = {**_listed(rows, classes), "annotations": _detections(rows)}
        truth.createIndex()
        found.createIndex()
        run = coco_eval(truth, found, "bbox")
        run.params.maxDets = limits
        run.params.areaRng = [AREAS[name] for name in areas]
        run.params.areaRngLbl = list(areas)
        run.evaluate()
        run.accumulate()
    return Evaluated(np.asarray(run.eval["precision"]), np.asarray(run.eval["recall"]), areas, limits)


def tools(evaluator: str) -> tuple[Any, Any]:
    """The evaluator's COCO and COCOeval."""
    if evaluator == "faster-coco-eval":
        try:
            from faster_coco_eval import COCO, COCOeval_faster  # type: ignore
        except ImportError as error:
            raise ConfigError(
                f"task.evaluator is faster-coco-eval, which cannot be imported ({error}); install it with "
                "`pip install faster-coco-eval`, or set task.evaluator: pycocotools, which gives the same numbers"
            ) from error
        return COCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def summary(evaluated: Evaluated, limit: int | None = None) -> dict[str, float]:
    """COCO's twelve numbers, 0..1; one is NaN where no true box is there to be found.

    limit: detections that count per image and class, one of `evaluated.limits`; None: the last. Where that is not
    COCO's 100, recall at it stands beside AR100.
    """
    limits, areas = list(evaluated.limits), list(evaluated.areas)
    last = limits.index(limits[-1] if limit is None else limit)
    precision, recall = evaluated.precision[..., last], evaluated.recall  # (10, 101, K, areas), (10, K, areas, limits)
    scores = {
        "mAP": _mean(precision[:, :, :, 0]),
        "AP50": _mean(precision[0, :, :, 0]),
        "AP75": _mean(precision[5, :, :, 0]),
    }
    sizes = [(name, areas.index(name)) for name in ("small", "medium", "large")]
    scores.update({f"AP_{name}": _mean(precision[:, :, :, area]) for name, area in sizes})
    scores.update({f"AR{limits[i]}": _mean(recall[:, :, 0, i]) for i in range(last + 1)})
    scores.update({f"AR_{name}": _mean(recall[:, :, area, last]) for name, area in sizes})
    return scores


def class_precision(evaluated: Evaluated) -> np.ndarray:
    """(K,) AP at IoU .50:.95 of each class, NaN for one without a true box."""
    return np.array([_mean(evaluated.precision[:, :, k, 0, -1]) for k in range(evaluated.precision.shape[2])])


def with_sides(boxes: np.ndarray) -> np.ndarray:
    """(N, 4) x1 y1 x2 y2 -> float64 x y width height, as COCO has them."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else float("nan")


def _listed(rows: Sequence[Mapping[str, Any]], classes: int) -> dict[str, Any]:
    images = [{"id": i, "height": int(row["size"][0]), "width": int(row["size"][1])} for i, row in enumerate(rows)]
    return {"images": images, "categories": [{"id": k, "name": str(k)} for k in range(classes)]}


def _annotations(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for image, row in enumerate(rows):
        columns = (with_sides(row["true_boxes"]), row["true_labels"], row["true_ignored"], row["true_area"])
        for box, label, ignored, area in zip(*(np.asarray(column).tolist() for column in columns), strict=True):
            made.append(
                {
                    "id": len(made) + 1,  # 0 would read as "not matched"
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "iscrowd": int(ignored),
                }
            )
    return made


def _detections(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for image, row in enumerate(rows):
        columns = (with_sides(row["boxes"]), row["labels"], row["scores"])
        for box, label, score in zip(*(np.asarray(column).tolist() for column in columns), strict=True):
            made.append(
                {
                    "id": len(made) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    return made
