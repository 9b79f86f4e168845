"""Boxes on photos, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from visiontl.kit.drawing import MISSED, RIGHT, WHITE, WRONG, Shape, class_color, enlarged, panels, put_boxes
from visiontl_detection import errors
from visiontl_detection.coco_scores import MOST

TRUTH = ("boxes", "labels", "ignored")
LETTERS = 26  # of tags, in the height of a picture that is shown at half its size


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """A copy of the photo with the predicted boxes; small photos are enlarged first.

    prediction: {"objects": [{"label", "score", "box": [x1, y1, x2, y2]}, ...]}, boxes in the photo's pixels.
    """
    place = {name: i for i, name in enumerate(meta["classes"])}
    picture, factor = enlarged(image)
    objects = sorted(prediction["objects"], key=lambda one: -one["score"])
    shapes = [
        Shape(
            _scaled(one["box"], factor, factor), class_color(place[one["label"]]), f"{one['label']}  {one['score']:.2f}"
        )
        for one in objects
    ]
    return put_boxes(picture, shapes)


def draw_truth(image: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The annotated boxes in the colors of their classes; ignored ones are dashed. image: as in `draw_rows`."""
    picture, _ = enlarged(image)
    across, down = picture.width / row["size"][1], picture.height / row["size"][0]
    shapes = [
        Shape(_scaled(box, across, down), class_color(label), meta["classes"][label], dashed=ignored)
        for box, label, ignored in zip(*(np.asarray(row[f"true_{key}"]).tolist() for key in TRUTH), strict=True)
    ]
    return put_boxes(picture, shapes, LETTERS)


def beside(
    image: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any], threshold: float, most: int = MOST
) -> Image.Image:
    """The truth, and beside it what was found and what was not (`draw_rows`)."""
    count = int(np.count_nonzero(~np.asarray(row["true_ignored"])))
    found = draw_rows(image, row, meta, threshold, most)
    return panels([(f"truth: {count}", draw_truth(image, row, meta)), ("found, wrong, missed", found)])


def draw_rows(
    image: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any], threshold: float, most: int = MOST
) -> Image.Image:
    """Truth and the detections with at least this score. Right detections are blue, wrong ones orange with the kind
    of error, missed boxes yellow and dashed; all other true boxes are dashed in white, and have no tag.

    image: the photo, or a smaller copy of it: boxes are those of row["size"]. most: detections that count per class.
    """
    names = meta["classes"]
    picture, _ = enlarged(image)
    across, down = picture.width / row["size"][1], picture.height / row["size"][0]
    matches = errors.match([row], most)
    order = errors.counted(row, most)
    lost = errors.missed(matches, threshold)
    boxes = [_scaled(box, across, down) for box in np.asarray(row["true_boxes"]).tolist()]
    gone = dict(zip(matches.true_place.tolist(), lost.tolist(), strict=True))  # ignored boxes are not among them
    shapes = [
        Shape(boxes[i], MISSED, f"missed {names[int(row['true_labels'][i])]}", dashed=True)
        for i in range(len(boxes))
        if gone.get(i)
    ]
    for i in np.flatnonzero((matches.score >= threshold) & (matches.outcome != errors.IGNORED)).tolist():
        place, outcome, score = int(order[i]), int(matches.outcome[i]), float(matches.score[i])
        box = _scaled(np.asarray(row["boxes"])[place].tolist(), across, down)
        text = f"{names[int(row['labels'][place])]}  {score:.2f}"
        right = outcome == errors.RIGHT
        shapes.append(Shape(box, RIGHT if right else WRONG, text if right else f"{errors.KINDS[outcome]}: {text}"))
    shapes += [Shape(box, WHITE, dashed=True) for i, box in enumerate(boxes) if not gone.get(i)]
    return put_boxes(picture, shapes, LETTERS)


def _scaled(box: Sequence[float], across: float, down: float) -> tuple[float, float, float, float]:
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down
