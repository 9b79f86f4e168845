"""What goes wrong at an IoU of 0.5, by kind, after TIDE (Bolya et al. 2020, arXiv:2008.08115). Imports no torch.

A detection is right when it overlaps a true box of its class that no detection with a higher score has taken. Every
other one is an error of one kind, by its largest IoU with true boxes of its own class and of other classes (section
2.2); where several apply, the first of these, which is the order of the authors' program:

    localisation     own class from 0.1 to below 0.5
    classification   another class, 0.5 or more
    duplicate        own class, 0.5 or more, but the box is taken
    background       below 0.1 with all
    both             another class from 0.1 to below 0.5

and a true box that is neither found nor the aim of a localisation or classification error is `missed`. Detections on
ignored boxes of their class are neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontl_detection.coco_scores import MOST, with_sides

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
RIGHT, IGNORED = len(KINDS), len(KINDS) + 1  # outcomes of detections beside the kinds
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # the paper's t_f and t_b
RECALLS = np.linspace(0, 1, 101)
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))


@dataclass(frozen=True)
class Matches:
    """What became of D counted detections and of T true boxes that are not ignored, all images together.

    image, label, score, outcome: (D,), in the order of images, by falling score in each. outcome: an index into
    KINDS, RIGHT or IGNORED. target: (D,) the true box that a right detection has found, or that a localisation or
    classification error was aimed at; -1 for others. true_image, true_label, true_place: (T,); place is the box's
    position in its row.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    target: np.ndarray
    true_image: np.ndarray
    true_label: np.ndarray
    true_place: np.ndarray


def match(rows: Sequence[Mapping[str, Any]], most: int = MOST) -> Matches:
    """Matches detections to true boxes as COCO does: by falling score, each to the free box that it overlaps most.

    most: detections that count per image and class, where they are more than COCO's 100.

    As outcomes depend on detections with higher scores only, they hold for every score threshold.
    """
    found: list[tuple[np.ndarray, ...]] = []  # per image: image, label, score, outcome, target
    true: list[tuple[np.ndarray, ...]] = []  # per image: image, label, place
    before = 0  # true boxes of earlier images
    for i, row in enumerate(rows):
        order = counted(row, most)
        outcome, target = _outcomes(row, order)
        target = np.where(target >= 0, target + before, -1)
        label, score = np.asarray(row["labels"])[order], np.asarray(row["scores"])[order]
        found.append((np.full(len(order), i), label, score, outcome, target))
        place = np.flatnonzero(~np.asarray(row["true_ignored"], dtype=bool))
        true.append((np.full(len(place), i), np.asarray(row["true_labels"])[place], place))
        before += len(place)
    return Matches(*_joined(found, 5), *_joined(true, 3))


def counted(row: Mapping[str, Any], most: int = MOST) -> np.ndarray:
    """Positions of the row's detections that count, `most` (COCO's 100 at least) per class, by falling score."""
    most = max(most, MOST)
    order = np.argsort(-np.asarray(row["scores"]), kind="stable")
    if len(order) <= most:
        return order
    labels = np.asarray(row["labels"])[order]
    keep = np.zeros(len(order), dtype=bool)
    for label in np.unique(labels):
        keep[np.flatnonzero(labels == label)[:most]] = True
    return order[keep]


def counts(matches: Matches, threshold: float) -> dict[str, int]:
    """Errors of each kind among the detections with at least this score, and the boxes that these miss."""
    number = np.bincount(matches.outcome[matches.score >= threshold], minlength=len(KINDS))
    number[MISSED] = np.count_nonzero(missed(matches, threshold))
    return {kind: int(number[i]) for i, kind in enumerate(KINDS)}


def missed(matches: Matches, threshold: float = 0.0) -> np.ndarray:
    """(T,) bool: true boxes that no detection with at least this score has found or was aimed at."""
    aimed = matches.target[(matches.score >= threshold) & (matches.target >= 0)]
    lost = np.ones(len(matches.true_label), dtype=bool)
    lost[aimed] = False
    return lost


def operating_point(matches: Matches, threshold: float) -> dict[str, float]:
    """precision and recall over all classes of the detections with at least this score; NaN for 0 / 0."""
    kept = matches.outcome[matches.score >= threshold]
    right, judged = int(np.count_nonzero(kept == RIGHT)), int(np.count_nonzero(kept != IGNORED))
    true = len(matches.true_label)
    return {
        "precision": right / judged if judged else float("nan"),
        "recall": right / true if true else float("nan"),
    }


def by_threshold(matches: Matches, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and F1 over all classes, each (N,), of the detections from each score on; NaN for 0 / 0."""
    thresholds = thresholds.astype(matches.score.dtype)  # a score of 0.9 in float32 is below 0.9 in float64
    judged = np.sort(matches.score[matches.outcome != IGNORED])
    right = np.sort(matches.score[matches.outcome == RIGHT])
    found = len(judged) - np.searchsorted(judged, thresholds, side="left")  # (N,)
    hits = len(right) - np.searchsorted(right, thresholds, side="left")
    true = len(matches.true_label)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits / found, hits / np.float64(true), 2 * hits / np.float64(found + true)


def per_image(matches: Matches, threshold: float, images: int) -> np.ndarray:
    """(images,) errors of each image: wrong detections with at least this score, and boxes that these miss."""
    wrong = (matches.score >= threshold) & (matches.outcome < len(KINDS))
    number = np.bincount(matches.image[wrong], minlength=images)
    return number + np.bincount(matches.true_image[missed(matches, threshold)], minlength=images)


def class_curve(matches: Matches, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision (D,) of a class with a true box, by falling score; see `curve`."""
    return curve(_right(matches, label), int((matches.true_label == label).sum()))


def class_average(matches: Matches, label: int) -> float:
    """AP50 of a class with a true box."""
    return average_precision(_right(matches, label), int((matches.true_label == label).sum()))


def costs(matches: Matches) -> dict[str, float]:
    """Kind -> how much AP50 rises when all its errors, and no others, are mended; NaN without a true box."""
    base = mean_precision(matches)
    return {kind: mean_precision(matches, (i,)) - base for i, kind in enumerate(KINDS)}


def mean_precision(matches: Matches, mended: Collection[int] = ()) -> float:
    """AP50 once the errors of these kinds (indices into KINDS) are mended as in section 2.3 of the paper.

    A classification error gets the class of the box it was aimed at, a localisation error that box; where this
    makes two detections for one box, the one with the lower score goes. Those of the other kinds go. Missed boxes
    are taken from the number to be found. The mean is always over the classes with a true box; one that has none
    left to be found counts 1 if no detection is left either, else 0.
    """
    if not len(matches.true_label):
        return float("nan")
    label, outcome = matches.label.copy(), matches.outcome.copy()
    keep = (outcome != IGNORED) & ~np.isin(outcome, [k for k in (BOTH, DUPLICATE, BACKGROUND) if k in mended])
    aimed = np.isin(outcome, [k for k in (CLASSIFICATION, LOCALISATION) if k in mended])
    if aimed.any():
        label[aimed] = matches.true_label[matches.target[aimed]]
        rivals = np.flatnonzero(aimed | (outcome == RIGHT))
        rivals = rivals[np.argsort(-matches.score[rivals], kind="stable")]
        _, first = np.unique(matches.target[rivals], return_index=True)  # the best of each true box
        keep[rivals] = False
        keep[rivals[first]] = True
        outcome[aimed] = RIGHT
    present = np.unique(matches.true_label)
    number = np.bincount(matches.true_label)
    if MISSED in mended:
        number = number - np.bincount(matches.true_label[missed(matches)], minlength=len(number))
    right, label, score = outcome[keep] == RIGHT, label[keep], matches.score[keep]
    order = np.argsort(-score, kind="stable")
    right, label = right[order], label[order]
    return float(np.mean([average_precision(right[label == k], int(number[k])) for k in present.tolist()]))


def curve(right: np.ndarray, boxes: int) -> tuple[np.ndarray, np.ndarray]:
    """right: (D,) bool by falling score. -> recall and precision (D,), the latter the best from that recall on."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    return hits / boxes, np.maximum.accumulate(precision[::-1])[::-1]


def average_precision(right: np.ndarray, boxes: int) -> float:
    """Mean precision at the recalls 0, 0.01 .. 1, 0 where that recall is not reached (COCO's)."""
    if not boxes:
        return 0.0 if len(right) else 1.0
    recall, precision = curve(right, boxes)
    place = np.searchsorted(recall, RECALLS, side="left")  # (101,)
    return float(np.append(precision, 0.0)[place].mean())


def _right(matches: Matches, label: int) -> np.ndarray:
    """(D,) bool by falling score: whether each detection of the class that is not ignored is right."""
    mine = np.flatnonzero((matches.label == label) & (matches.outcome != IGNORED))
    return matches.outcome[mine[np.argsort(-matches.score[mine], kind="stable")]] == RIGHT


def _outcomes(row: Mapping[str, Any], order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcome and target (position among the boxes that are not ignored, or -1) of the detections `order`."""
    from pycocotools import mask

    ignored = np.asarray(row["true_ignored"], dtype=bool)
    outcome = np.full(len(order), BACKGROUND)
    target = np.full(len(order), -1)
    if not len(order) or not len(ignored):
        return outcome, target
    boxes, true_boxes = with_sides(row["boxes"])[order], with_sides(row["true_boxes"])
    iou = np.asarray(mask.iou(boxes, true_boxes, ignored.astype(np.uint8)))  # (D, G); of ignored: the share inside
    same = np.asarray(row["labels"])[order][:, None] == np.asarray(row["true_labels"])[None]  # (D, G)
    on_ignored = (same & (iou >= FOREGROUND_IOU))[:, ignored].any(1)
    iou, same = iou[:, ~ignored], same[:, ~ignored]  # (D, T)
    if iou.shape[1]:
        own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
        nearest, wrong = own.max(1), other.max(1)  # (D,)
        outcome = np.select(
            [
                (nearest >= BACKGROUND_IOU) & (nearest < FOREGROUND_IOU),
                wrong >= FOREGROUND_IOU,
                nearest >= FOREGROUND_IOU,
                np.maximum(nearest, wrong) < BACKGROUND_IOU,
            ],
            [LOCALISATION, CLASSIFICATION, DUPLICATE, BACKGROUND],
            BOTH,
        )
        target = np.select([outcome == LOCALISATION, outcome == CLASSIFICATION], [own.argmax(1), other.argmax(1)], -1)
        free = np.ones(iou.shape[1], dtype=bool)
        for i in np.flatnonzero(nearest >= FOREGROUND_IOU).tolist():
            overlap = np.where(free, own[i], 0.0)
            best = len(overlap) - 1 - int(overlap[::-1].argmax())  # of equals the last, as COCO does
            if overlap[best] >= FOREGROUND_IOU:
                outcome[i], target[i], free[best] = RIGHT, best, False
    let_off = on_ignored & (outcome != RIGHT)
    outcome[let_off], target[let_off] = IGNORED, -1
    return outcome, target


def _joined(parts: Sequence[tuple[np.ndarray, ...]], columns: int) -> list[np.ndarray]:
    if not parts:
        return [np.zeros(0, dtype=np.int64) for _ in range(columns)]
    return [np.concatenate([part[i] for part in parts]) for i in range(columns)]
