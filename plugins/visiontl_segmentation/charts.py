"""What the report shows of a split: IoU by class, what is mistaken for what, photos with their masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Figure, Pictures, Table
from visiontl.kit.charts import chosen_pictures, draw_bars, draw_confusion, ends, file_of, spread
from visiontl.kit.drawing import sheet, with_legend
from visiontl.kit.words import count, plural
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.drawing import entries, overlay, verdict
from visiontl_segmentation.scores import dice, divided, iou, mean, scored_classes, summed, unpacked
from visiontl_segmentation.views import resized_mask

BARS = 40  # classes that a chart can be read with
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
    items: list[Any] = []
    if table.sum():
        items += [bars(table, names), classes_table(table, names), confusion_figure(table, names)]
    return [item for item in items if item is not None] + pictures(cfg, rows, meta, image)


def bars(table: np.ndarray, names: Sequence[str]) -> Figure:
    values = iou(table)
    order: list[int] = np.argsort(-np.nan_to_num(values, nan=-1), kind="stable").tolist()
    order = [k for k in order if not np.isnan(values[k])]
    caption = "Pixels of the whole split, at the photos' own sizes."
    if len(order) > BARS:
        caption += f" The {BARS // 2} best and the {BARS // 2} worst of {len(order)}; the others are in the table."
    order = ends(order, BARS)
    draw = partial(draw_bars, names=[names[k] for k in order], values=[float(values[k]) for k in order], label="IoU")
    return Figure("IoU by class", draw, caption, (6.0, 1.0 + 0.26 * len(order)))


def classes_table(table: np.ndarray, names: Sequence[str]) -> Table:
    hit, true, said = np.diag(table), table.sum(1), table.sum(0)
    columns = {"IoU": iou(table), "Dice": dice(table), "precision": divided(hit, said), "recall": divided(hit, true)}
    order = np.argsort(-true, kind="stable").tolist()
    rows = [
        [
            names[k],
            f"{true[k] / table.sum():.2%}",
            *(f"{one[k]:.3f}" if one[k] == one[k] else "-" for one in columns.values()),
        ]
        for k in order
        if true[k] or said[k]
    ]
    absent = len(names) - len(rows)
    caption = (
        f"{count(absent, 'class')} that neither truth nor prediction holds {plural(absent, 'is')} not listed."
        if absent
        else ""
    )
    return Table("Classes", ["class", "share of pixels", *columns], rows, caption)


def confusion_figure(table: np.ndarray, names: Sequence[str]) -> Figure | None:
    there = np.flatnonzero(table.sum(0) + table.sum(1))
    if len(there) > BARS:
        return None
    part = table[np.ix_(there, there)]
    shares = part / np.maximum(part.sum(1, keepdims=True), 1)
    texts = [[f"{100 * value:.0f}" if value >= 0.005 else "" for value in row] for row in shares.tolist()]
    side = 1.6 + 0.42 * len(there)
    return Figure(
        "What is taken for what",
        partial(draw_confusion, shares=shares, texts=texts, names=[names[k] for k in there.tolist()]),
        "Share of a true class's pixels (row) that were called so (column), in percent; below 0.5 % left out.",
        (side + 1.0, side),
    )


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
        "Above: the photo, and the truth; below: the prediction, and which pixels are right (blue) and wrong (orange). "
        "Ignored pixels are left as they are. Shares are the truth's. Masks are kept small, so borders are coarser "
        "here than they are scored."
    )
    worst, others = order[:WORST], spread(order[WORST:], ORDINARY)
    return [
        *chosen_pictures("Images with the lowest IoU", worst, item, caption),
        *chosen_pictures("Other images, from lower to higher IoU", others, item, caption),
    ]


def four(photo: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """Photo and truth above prediction and verdict, with a legend: shares are of the truth."""
    photo = photo.convert("RGB")
    scale = SIDE / max(photo.size)
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    truth, guess = (resized_mask(unpacked(row[key]), (photo.height, photo.width)) for key in ("truth", "guess"))
    parts = [[photo, overlay(photo, truth, meta)], [overlay(photo, guess, meta), verdict(photo, guess, truth)]]
    return with_legend(sheet(parts), entries(truth, meta, guess))
