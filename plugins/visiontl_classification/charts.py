"""What the report shows of a split: the classes mixed up, how far probabilities can be trusted, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.kit.charts import chosen_pictures, draw_confusion, file_of
from visiontl.kit.words import count
from visiontl_classification.config import ClassificationConfig
from visiontl_classification.scores import (
    BINS,
    THRESHOLD,
    average_precision,
    calibration_bins,
    calibration_error,
    confusion,
    label_matrix,
    per_class,
)

MATRIX_LIMIT = 30  # classes that a confusion matrix can be read with
PAIRS = 20  # most confused pairs
MISTAKES = 12  # pictures


def report(
    cfg: ClassificationConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
) -> list[Any]:
    """image: id -> photo; row number i is the image with id i."""
    names = meta["classes"]
    if cfg.labels == "multi":
        return [_label_table(rows, names)]
    true = np.array([row["true"] for row in rows])
    predicted = np.array([row["top"][0] for row in rows])
    confidence = np.array([row["probability"][0] for row in rows])
    matrix = confusion(true, predicted, len(names))
    shown: list[Any] = []
    if len(names) <= MATRIX_LIMIT:
        side = 2.5 + 0.45 * len(names)
        shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)  # (K, K)
        texts = [[str(number or "") for number in row] for row in matrix.tolist()]
        shown.append(
            Figure(
                "Confusion matrix",
                partial(draw_confusion, shares=shares, texts=texts, names=names),
                "Rows are the true classes, columns the predicted ones; the number is images, the "
                "color its share of the row.",
                (side + 0.8, side),
            )
        )
    pairs = _pairs(matrix, names)
    if pairs:
        shown.append(Table("Most confused pairs", ("true", "predicted", "images", "share of the true class"), pairs))
    shown.append(_class_table(matrix, names))
    error = calibration_error(confidence, true == predicted)
    shown.append(
        Figure(
            "Reliability",
            partial(draw_reliability, confidence=confidence, right=true == predicted),
            f"Accuracy of the images whose confidence falls in each of {BINS} bins; on the diagonal the "
            "confidence can "
            f"be taken at its word. Expected calibration error {error:.3f}.",
            (4.5, 4.2),
        )
    )
    return [*shown, *_mistakes(true, predicted, confidence, names, image)]


def draw_reliability(axes: Any, confidence: np.ndarray, right: np.ndarray) -> None:
    number, _, accuracy = calibration_bins(confidence, right)
    edges = np.arange(BINS) / BINS
    filled = number > 0
    axes.bar(edges[filled], accuracy[filled], width=1 / BINS, align="edge", edgecolor="white", label="accuracy")
    axes.plot([0, 1], [0, 1], linestyle="--", color="gray", label="perfect")
    for left, height, images in zip(edges[filled], accuracy[filled], number[filled], strict=True):
        axes.text(left + 0.5 / BINS, height + 0.01, str(images), ha="center", fontsize=7)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("confidence")
    axes.set_ylabel("accuracy (number: images)")
    axes.legend(loc="upper left")


def _pairs(matrix: np.ndarray, names: Sequence[str]) -> list[tuple[Any, ...]]:
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    found = [divmod(int(place), len(names)) for place in order]
    return [
        (names[t], names[p], int(wrong[t, p]), f"{wrong[t, p] / matrix[t].sum():.1%}") for t, p in found if wrong[t, p]
    ]


def _class_table(matrix: np.ndarray, names: Sequence[str]) -> Table:
    recall, precision, f1, present = per_class(matrix)
    absent = int((~present).sum())
    return Table(
        "Classes",
        ("class", "images", "accuracy", "precision", "F1"),
        [
            (names[i], int(matrix[i].sum()), f"{recall[i]:.3f}", f"{precision[i]:.3f}", f"{f1[i]:.3f}")
            for i in np.flatnonzero(present).tolist()
        ],
        "Accuracy is the share of the class's images that are right (recall)."
        + (f" Not listed: {count(absent, 'class')} without an image in this split." if absent else ""),
    )


def _label_table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    true, probability = label_matrix(rows, len(names))
    predicted = probability >= THRESHOLD
    lines = []
    for i in np.flatnonzero(true.any(0)).tolist():
        hits, images, named = (true & predicted)[:, i].sum(), true[:, i].sum(), predicted[:, i].sum()
        precision = f"{hits / named:.3f}" if named else "none named"
        value = average_precision(true[:, i], probability[:, i])
        lines.append((names[i], int(images), f"{value:.3f}", f"{hits / images:.3f}", precision))
    return Table(
        "Labels",
        ("label", "images", "average precision", "recall", "precision"),
        lines,
        f"Recall and precision are at probability {THRESHOLD}. Labels without an image in this split are not listed.",
    )


def _mistakes(
    true: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    names: Sequence[str],
    image: Callable[[int], Image.Image],
) -> list[Pictures]:
    wrong = np.flatnonzero(true != predicted)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]

    def item(i: int) -> tuple[str, Image.Image]:
        words = f"{names[int(true[i])]} -> {names[int(predicted[i])]} {confidence[i]:.2f}"
        return " ".join([words, file_of(image, i)]).strip(), image(i)

    return chosen_pictures("Most confident mistakes", worst.tolist(), item, "true -> predicted, with its probability")
