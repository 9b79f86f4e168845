"""What the report shows of a split: the classes mixed up, how far probabilities can be trusted, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.kit.charts import (
    chosen_pictures,
    class_balance,
    draw_confusion,
    file_of,
    most_confused,
    worst_bars,
)
from visiontl.kit.words import count, plural, some
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

MATRIX_LIMIT = 20  # classes that a confusion matrix can be read with
BARS = 40  # classes that a bar chart can be read with
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
        return [*_label_mistakes(rows, names, image), *_labels(rows, names), *_balance(rows, meta)]
    true = np.array([row["true"] for row in rows])
    predicted = np.array([row["top"][0] for row in rows])
    confidence = np.array([row["probability"][0] for row in rows])
    shown: list[Any] = [*_mistakes(rows, names, image)]
    if len(names) <= MATRIX_LIMIT:
        shown.append(_matrix(confusion(true, predicted, len(names)), names))
    cells, number = np.unique(true.astype(np.int64) * len(names) + predicted, return_counts=True)
    pairs = most_confused(cells // len(names), cells % len(names), number, names)
    if pairs and len(names) > 2:  # with two classes the matrix says it all
        shown.append(Table("Most confused pairs", ("true", "predicted", "images", "share of the true class"), pairs))
    error = calibration_error(confidence, true == predicted)
    reliability = Figure(
        "Reliability",
        partial(draw_reliability, confidence=confidence, right=true == predicted),
        f"Accuracy of the images whose confidence falls in each of {BINS} bins; on the diagonal the confidence can be "
        f"taken at its word. Expected calibration error {error:.3f}.",
        (4.5, 4.2),
    )
    return [*shown, *_classes(true, predicted, names), *_balance(rows, meta), reliability]


def _matrix(matrix: np.ndarray, names: Sequence[str]) -> Figure:
    side = 2.5 + 0.45 * len(names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)  # (K, K)
    texts = [[str(number or "") for number in row] for row in matrix.tolist()]
    return Figure(
        "Confusion matrix",
        partial(draw_confusion, shares=shares, texts=texts, names=names),
        "Rows are the true classes, columns the predicted ones; the number is images, the color its share of the row.",
        (side + 0.8, side),
    )


def _balance(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[Figure]:
    """None for a model that does not say what it was trained on."""
    if len(meta.get("counts", ())) != len(meta["classes"]) or not any(meta["counts"]):
        return []
    true = [np.atleast_1d(row["true"]).astype(int) for row in rows]
    here = np.bincount(np.concatenate(true), minlength=len(meta["classes"]))
    return [class_balance(meta["classes"], meta["counts"], here.tolist(), "images")]


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


def _classes(true: np.ndarray, predicted: np.ndarray, names: Sequence[str]) -> list[Any]:
    """Accuracy of each class as bars and as a table, the worst first."""
    recall, precision, f1, present = per_class(true, predicted, len(names))
    images = np.bincount(true, minlength=len(names))  # (K,)
    order: list[int] = np.argsort(recall, kind="stable").tolist()
    order = [k for k in order if present[k]]
    absent = len(names) - len(order)
    table = Table(
        "Classes",
        ("class", "images", "accuracy", "precision", "F1"),
        [(names[k], int(images[k]), f"{recall[k]:.3f}", f"{precision[k]:.3f}", f"{f1[k]:.3f}") for k in order],
        "The worst first. Accuracy is the share of the class's images that are right (recall)."
        + (f" Not listed: {count(absent, 'class')} without an image in this split." if absent else ""),
    )
    bars = worst_bars("Accuracy by class", [(names[k], float(recall[k])) for k in order], "accuracy", BARS)
    return [bars, table] if len(order) > 2 else [table]


def _labels(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Any]:
    """Average precision of each label as bars and as a table, the worst first."""
    true, probability = label_matrix(rows, len(names))
    predicted = probability >= THRESHOLD
    found: list[tuple[float, tuple[Any, ...]]] = []
    for i in np.flatnonzero(true.any(0)).tolist():
        hits, images, named = (true & predicted)[:, i].sum(), true[:, i].sum(), predicted[:, i].sum()
        precision = f"{hits / named:.3f}" if named else "none named"
        value = average_precision(true[:, i], probability[:, i])
        found.append((value, (names[i], int(images), f"{value:.3f}", f"{hits / images:.3f}", precision)))
    found.sort(key=lambda one: one[0])
    table = Table(
        "Labels",
        ("label", "images", "average precision", "recall", "precision"),
        [line for _, line in found],
        f"The worst first. Recall and precision are at probability {THRESHOLD}. Labels without an image in this split "
        "are not listed.",
    )
    values = [(line[0], value) for value, line in found]
    return [worst_bars("Average precision by label", values, "average precision", BARS), table] if found else [table]


def _mistakes(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], image: Callable[[int], Image.Image]
) -> list[Pictures]:
    """The wrong answers of which the model was surest."""
    wrong = [i for i, row in enumerate(rows) if row["true"] != row["top"][0]]
    worst = sorted(wrong, key=lambda i: -rows[i]["probability"][0])[:MISTAKES]

    def item(i: int) -> tuple[str, Image.Image]:
        row = rows[i]
        of_truth = dict(zip(row["top"], row["probability"], strict=True)).get(row["true"])
        own = "" if of_truth is None else f" ({of_truth:.0%})"
        words = f"{names[row['true']]}{own}, called {names[row['top'][0]]} ({row['probability'][0]:.0%})"
        return _captioned(words, image, i), image(i)

    caption = (
        f"{count(len(wrong), 'image')} of {len(rows):,} {plural(len(wrong), 'is')} wrong; the surest answers first."
    )
    return chosen_pictures("Most confident mistakes", worst, item, caption)


def _label_mistakes(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], image: Callable[[int], Image.Image]
) -> list[Pictures]:
    """The images whose labels are furthest from what was said of them: the sum of |truth - probability|."""
    true, probability = label_matrix(rows, len(names))
    predicted = probability >= THRESHOLD
    wrong = np.flatnonzero((true != predicted).any(1))
    distance = np.abs(true - probability).sum(1)
    worst = wrong[np.argsort(-distance[wrong], kind="stable")][:MISTAKES].tolist()

    def item(i: int) -> tuple[str, Image.Image]:
        missed, added = (np.flatnonzero(one).tolist() for one in (true[i] & ~predicted[i], predicted[i] & ~true[i]))
        parts = [
            f"{words} {some((f'{names[k]} {probability[i, k]:.0%}' for k in found), 3)}"
            for words, found in (("missed", missed), ("wrongly named", added))
            if found
        ]
        return _captioned("; ".join(parts), image, i), image(i)

    caption = f"{count(len(wrong), 'image')} of {len(rows):,} with a wrong label at {THRESHOLD:g}; the furthest first."
    return chosen_pictures("Worst mistakes", worst, item, caption)


def _captioned(words: str, image: Callable[[int], Image.Image], id: int) -> str:
    """The words with the photo's file."""
    return ": ".join(filter(None, [file_of(image, id), words]))
