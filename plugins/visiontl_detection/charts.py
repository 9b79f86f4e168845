"""What the report shows of a split: precision and recall, the classes, errors by kind, photos with their boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.kit.charts import chosen_pictures, class_balance, draw_bars, file_of, short, spread, worst_bars
from visiontl.kit.drawing import class_color
from visiontl.kit.words import count, plural
from visiontl_detection import coco_scores, errors
from visiontl_detection.config import DetectionConfig
from visiontl_detection.drawing import beside

DASHES = ("-", "--", "-.")  # of curves: neighbors differ by more than their color
INK = 0.78  # of a class's color: lines are thin, and bright ones are hard to see on white
CURVES = 10  # classes with a curve of their own
BARS = 40  # classes that a bar chart can be read with
WORST, ORDINARY = 12, 6  # pictures
SIDE = 700  # pixels, longer side of a picture; as many as these at most are held at once
THRESHOLDS = np.linspace(0, 1, 101)

MEANING = {
    "classification": "in the right place (IoU from 0.5), but called another class",
    "localisation": "the right class, but in a poor place (IoU from 0.1 to below 0.5)",
    "both": "another class, and in a poor place",
    "duplicate": "one more detection of an object found already",
    "background": "nothing is there (IoU below 0.1)",
    "missed": "an object without any detection, not even one of the first two kinds",
}


def report(
    cfg: DetectionConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
) -> list[Any]:
    """image: id -> photo; row number i is the image with id i."""
    names, threshold = meta["classes"], cfg.operating_point
    matches = errors.match(rows, cfg.detections)
    pictures = _pictures(cfg, rows, meta, image, matches)
    if not len(matches.true_label):
        return [_alarms(matches, names, threshold, len(rows)), *pictures]
    evaluated = coco_scores.evaluate(rows, len(names), cfg.evaluator, areas=("all",), most=cfg.detections)
    lines = _class_lines(matches, coco_scores.class_precision(evaluated), names, threshold)
    values = [(name, precision) for name, _, precision, *_ in lines]
    return [
        *pictures,
        *_errors(matches, threshold),
        worst_bars("Average precision by class", values, "AP (mean over the IoUs .50 to .95, as COCO has it)", BARS),
        _class_table(lines, len(names), threshold),
        _curves(matches, names),
        _thresholds(matches, threshold),
        *_balance(matches, meta),
    ]


def _balance(matches: errors.Matches, meta: Mapping[str, Any]) -> list[Figure]:
    """None for a model that does not say what it was trained on."""
    if len(meta.get("counts", ())) != len(meta["classes"]) or not any(meta["counts"]):
        return []
    here = np.bincount(matches.true_label, minlength=len(meta["classes"])).tolist()
    return [class_balance(meta["classes"], meta["counts"], here, "boxes")]


def _curves(matches: errors.Matches, names: Sequence[str]) -> Figure:
    number = np.bincount(matches.true_label, minlength=len(names))
    shown: list[int] = [k for k in np.argsort(-number, kind="stable")[:CURVES].tolist() if number[k]]
    curves = [(k, short(names[k]), *errors.class_curve(matches, k)) for k in shown]
    left_out = np.count_nonzero(number) - len(shown)
    return Figure(
        "Precision and recall by class",
        partial(draw_curves, curves=curves),
        "At an IoU of 0.5, from the highest score down: the best precision at this recall or a higher one."
        + (f" The {CURVES} classes with the most boxes; {left_out} more have none here." if left_out else ""),
        (6.0, 4.6),
    )


def draw_curves(axes: Any, curves: Sequence[tuple[int, str, np.ndarray, np.ndarray]]) -> None:
    """curves: class, name, recall and precision. A class has its own color in every split."""
    for k, name, recall, precision in curves:
        place = np.searchsorted(recall, errors.RECALLS, side="left")  # 101 points draw the same curve as 100,000
        reached = place < len(recall)
        x, y = errors.RECALLS[reached], precision[place[reached]]
        color = [INK * level / 255 for level in class_color(k)]
        axes.plot(x, y, label=name, color=color, linestyle=DASHES[k % len(DASHES)], drawstyle="steps-pre")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.grid()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _thresholds(matches: errors.Matches, threshold: float) -> Figure:
    precision, recall, f1 = errors.by_threshold(matches, THRESHOLDS)
    best = int(np.nanargmax(f1)) if not np.isnan(f1).all() else 0
    return Figure(
        "Precision and recall by score threshold",
        partial(draw_thresholds, precision=precision, recall=recall, f1=f1, threshold=threshold),
        "Of all classes together, when only detections from this score on count, at an IoU of 0.5. The dotted line is "
        f"task.operating_point, {threshold:g}; F1 is highest, {f1[best]:.3f}, at {THRESHOLDS[best]:.2f}.",
    )


def draw_thresholds(axes: Any, precision: np.ndarray, recall: np.ndarray, f1: np.ndarray, threshold: float) -> None:
    for name, values in (("precision", precision), ("recall", recall), ("F1", f1)):
        axes.plot(THRESHOLDS, values, label=name)
    axes.axvline(threshold, color="gray", linestyle=":")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("score threshold")
    axes.grid()
    axes.legend(loc="lower center")


def _class_lines(
    matches: errors.Matches, precision: np.ndarray, names: Sequence[str], threshold: float
) -> list[tuple[str, int, float, float, float | None, float]]:
    """Of each class with a true box, worst AP first: name, boxes, AP, AP50, precision (None without a detection) and
    recall at the threshold."""
    kept = matches.score >= threshold
    judged = np.bincount(matches.label[kept & (matches.outcome != errors.IGNORED)], minlength=len(names))
    right = np.bincount(matches.label[kept & (matches.outcome == errors.RIGHT)], minlength=len(names))
    number = np.bincount(matches.true_label, minlength=len(names))
    lines = [
        (
            names[k],
            int(number[k]),
            float(precision[k]),
            errors.class_average(matches, k),
            float(right[k] / judged[k]) if judged[k] else None,
            float(right[k] / number[k]),
        )
        for k in np.flatnonzero(number).tolist()
    ]
    return sorted(lines, key=lambda line: line[2])


def _class_table(lines: Sequence[tuple[Any, ...]], classes: int, threshold: float) -> Table:
    absent = classes - len(lines)
    return Table(
        "Classes",
        ("class", "boxes", "AP", "AP50", "precision", "recall"),
        [
            (name, boxes, *(value if value is None else f"{value:.3f}" for value in values))
            for name, boxes, *values in lines
        ],
        f"The worst first. Precision and recall are at score {threshold:g} and an IoU of 0.5."
        + (f" Not listed: {absent} without a box in this split." if absent else ""),
    )


def _alarms(matches: errors.Matches, names: Sequence[str], threshold: float, images: int) -> Table:
    """Of a split without any object: what is found there nevertheless."""
    wrong = (matches.score >= threshold) & (matches.outcome != errors.IGNORED)
    rows = []
    for k in np.unique(matches.label[wrong]).tolist():
        mine = wrong & (matches.label == k)
        rows.append(
            (names[k], int(mine.sum()), len(np.unique(matches.image[mine])), f"{matches.score[mine].max():.3f}")
        )
    rows.sort(key=lambda row: -row[1])
    clean = images - len(np.unique(matches.image[wrong]))
    return Table(
        "False alarms",
        ("class", "detections", "images", "highest score"),
        rows,
        f"No image of this split has an object, so there is no average precision. Detections from score {threshold:g} "
        f"on; {clean} of {count(images, 'image')} without any.",
    )


def _errors(matches: errors.Matches, threshold: float) -> list[Any]:
    number, cost = errors.counts(matches, threshold), errors.costs(matches)
    order = sorted(errors.KINDS, key=lambda kind: -cost[kind])
    return [
        Table(
            "Errors by kind",
            ("kind", "count", "AP50 lost", "meaning"),
            [(kind, number[kind], f"{cost[kind]:.3f}", MEANING[kind]) for kind in order],
            f"Counts are of detections from score {threshold:g} on, and of the objects that these miss. AP50 lost is "
            f"what AP50, {errors.mean_precision(matches):.3f}, would gain if that kind alone were mended, over all "
            "detections (TIDE, Bolya et al. 2020). Lost shares do not add up: mending one kind changes what another "
            "costs.",
        ),
        Figure(
            "AP50 lost by kind of error",
            partial(draw_bars, names=order, values=[cost[kind] for kind in order], label="AP50 lost"),
            size=(6.0, 2.6),
        ),
    ]


def _pictures(
    cfg: DetectionConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
    matches: errors.Matches,
) -> list[Pictures]:
    """The images with most errors, those with the surest ones, and a few from the middle of the order."""
    threshold = cfg.operating_point
    wrong = errors.per_image(matches, threshold, len(rows))  # (N,)
    order = np.argsort(-wrong, kind="stable")
    worst = order[:WORST][wrong[order[:WORST]] > 0].tolist()
    surest = _surest(matches, threshold)
    sure = [i for i in sorted(surest, key=lambda i: -surest[i]) if i not in worst][:ORDINARY]
    others = spread([i for i in order.tolist() if i not in worst and i not in sure], ORDINARY)
    caption = (
        f"Left the truth, right the detections from score {threshold:g} on: blue are right, orange wrong, with the "
        "kind of error; dashed boxes are the truth, yellow ones were missed."
    )

    def item(i: int) -> tuple[str, Image.Image]:
        photo = image(i).copy()
        photo.thumbnail((SIDE, SIDE))
        name = file_of(image, i) or f"image {i}"
        picture = beside(photo, rows[i], meta, threshold, cfg.detections)
        sure = f", the surest {surest[i]:.2f}" if i in surest else ""
        return f"{name}: {wrong[i]} {plural(int(wrong[i]), 'error')}{sure}", picture

    return [
        *chosen_pictures("Images with the most errors", worst, item, caption),
        *chosen_pictures("Images with the surest wrong detections", sure, item, "Besides those above."),
        *chosen_pictures("Other images, from more errors to fewer", others, item, caption),
    ]


def _surest(matches: errors.Matches, threshold: float) -> dict[int, float]:
    """{image: the highest score of a wrong detection}, of images that have one from the threshold on."""
    wrong = (matches.score >= threshold) & (matches.outcome != errors.RIGHT) & (matches.outcome != errors.IGNORED)
    found: dict[int, float] = {}
    for place, score in zip(matches.image[wrong].tolist(), matches.score[wrong].tolist(), strict=True):
        found[place] = max(score, found.get(place, 0.0))
    return found
