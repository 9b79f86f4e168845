"""What the report shows of a split: IoU by class, what is mistaken for what, photos with their masks."""

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
    confused_pairs,
    draw_confusion,
    file_of,
    spread,
    worst_bars,
)
from visiontl.kit.drawing import panels, with_legend
from visiontl.kit.words import count, plural
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.drawing import entries, overlay, verdict
from visiontl_segmentation.scores import dice, divided, iou, mean, scored_classes, summed, unpacked
from visiontl_segmentation.views import resized_mask

BARS = 40  # classes that a bar chart can be read with
MATRIX = 20  # classes that a matrix can be read with
WORST, ORDINARY = 6, 4  # pictures
SIDE = 480  # pixels, longer side of one of the four pictures


def report(
    cfg: SegmentationConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
) -> list[Any]:
    """image: id -> photo; row number i is the image with id i."""
    names = meta["classes"]
    table = summed(rows, "pairs", "pixels", len(names))
    if not table.sum():
        return list(pictures(cfg, rows, meta, image))
    return [*pictures(cfg, rows, meta, image), *mistaken(table, names), *classes(table, names), *balance(table, meta)]


def classes(table: np.ndarray, names: Sequence[str]) -> list[Any]:
    """IoU of each class as bars and, with more, as a table, the worst first."""
    hit, true, said = np.diag(table), table.sum(1), table.sum(0)
    value = iou(table)
    order: list[int] = [k for k in np.argsort(value, kind="stable").tolist() if not np.isnan(value[k])]
    columns = {"IoU": value, "Dice": dice(table), "precision": divided(hit, said), "recall": divided(hit, true)}
    lines = [
        [
            names[k],
            f"{true[k] / table.sum():.2%}",
            *(f"{one[k]:.3f}" if one[k] == one[k] else "-" for one in columns.values()),
        ]
        for k in order
    ]
    absent = len(names) - len(lines)
    caption = "The worst first. Pixels of the whole split, at the photos' own sizes."
    if absent:
        caption += (
            f" {count(absent, 'class')} that neither truth nor prediction holds {plural(absent, 'is')} not listed."
        )
    bars = worst_bars("IoU by class", [(names[k], float(value[k])) for k in order], "IoU", BARS)
    return [bars, Table("Classes", ["class", "share of pixels", *columns], lines, caption)]


def mistaken(table: np.ndarray, names: Sequence[str]) -> list[Any]:
    """What is taken for what: a matrix of few classes, the most confused pairs of many."""
    there = np.flatnonzero(table.sum(0) + table.sum(1))
    if len(there) > MATRIX:
        pairs = confused_pairs(table, names)
        columns = ("true", "called", "pixels", "share of the true class")
        return [Table("Most confused pairs", columns, pairs, "By pixels of the whole split.")] if pairs else []
    part = table[np.ix_(there, there)]
    shares = part / np.maximum(part.sum(1, keepdims=True), 1)
    texts = [[f"{100 * value:.0f}" if value >= 0.005 else "" for value in row] for row in shares.tolist()]
    side = 2.0 + 0.42 * len(there)
    return [
        Figure(
            "What is taken for what",
            partial(draw_confusion, shares=shares, texts=texts, names=[names[k] for k in there.tolist()]),
            "Share of a true class's pixels (row) that were called so (column), in percent; below 0.5 % left out.",
            (side + 1.0, side),
        )
    ]


def balance(table: np.ndarray, meta: Mapping[str, Any]) -> list[Figure]:
    """None for a model that does not say what it was trained on."""
    if len(meta.get("counts", ())) != len(meta["classes"]) or not any(meta["counts"]):
        return []
    return [class_balance(meta["classes"], meta["counts"], table.sum(1).tolist(), "pixels")]


def pictures(
    cfg: SegmentationConfig,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    image: Callable[[int], Image.Image],
) -> list[Pictures]:
    """The images with the lowest mean IoU, and a few from the whole range."""
    counted = scored_classes(cfg, meta)
    each = np.array([mean(iou(summed([row], "pairs", "pixels", len(meta["classes"])))[counted]) for row in rows])
    order = [i for i in np.argsort(np.nan_to_num(each, nan=2), kind="stable").tolist() if not np.isnan(each[i])]

    def item(i: int) -> tuple[str, Image.Image]:
        return f"{file_of(image, i) or f'image {i}'}: mIoU {each[i]:.3f}", four(image(i), rows[i], meta)

    caption = (
        "Above the truth and the prediction, below the photo and which pixels are right (blue) and wrong (orange). "
        "Ignored pixels are left as they are. Shares are the truth's. Masks are kept small, so borders are coarser "
        "here than they are scored."
    )
    worst, others = order[:WORST], spread(order[WORST:], ORDINARY)
    return [
        *chosen_pictures("Images with the lowest IoU", worst, item, caption),
        *chosen_pictures("Other images, from lower to higher IoU", others, item, caption),
    ]


def four(photo: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """Truth beside prediction above photo and verdict, with a legend below: shares are of the truth."""
    photo = photo.convert("RGB")
    scale = SIDE / max(photo.size)
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    truth, guess = (resized_mask(unpacked(row[key]), (photo.height, photo.width)) for key in ("truth", "guess"))
    parts = [
        ("truth", overlay(photo, truth, meta)),
        ("prediction", overlay(photo, guess, meta)),
        ("photo", photo),
        ("right and wrong", verdict(photo, guess, truth)),
    ]
    return with_legend(panels(parts), entries(truth, meta, guess))
