"""What `visiontl doctor` should say of boxes: how many, how large, how they are shaped, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.names import ALIKE, alike_findings
from visiontl.kit.words import count, plural
from visiontl_detection.boxes import change_words
from visiontl_detection.config import DetectionConfig
from visiontl_detection.data import Photos, mismatch
from visiontl_detection.views import resized

SMALL, MEDIUM = 32**2, 96**2  # COCO's bounds of area, in pixels
TINY = 8  # pixels of the shorter side after resizing, below which a box covers a cell or two of the finest map
UNEQUAL = 10.0  # boxes of the largest class / of the smallest, from which imbalance is told
LONG = 5.0  # longer side / shorter side, beyond what default anchors cover
MANY = 0.05  # share of long boxes from which it is a warning
PERCENTILES = (5, 50, 95)


@dataclass(frozen=True)
class Flat:
    """The learned boxes of a split in one row; images that cannot be read are left out.

    number: (N,) id of each box's image. labels: (N,). sides: (N, 2) width and height in the photo's pixels. shown: the
    same after resizing; NaN where the image's size is unknown. images: (M,) ids of the readable images.
    """

    photos: Photos
    number: np.ndarray
    labels: np.ndarray
    sides: np.ndarray
    shown: np.ndarray
    images: np.ndarray


def check(cfg: DetectionConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """Tables of classes, sizes, shapes and numbers of boxes, and what follows from them."""
    names: Sequence[str] = meta["classes"]
    splits: Any = data.splits()  # of Photos
    flat = {split: _flat(photos, seen.sizes[split], meta["size"]) for split, photos in splits.items()}
    items: list[Finding | Table] = [_classes(flat, names), _sizes(flat), _shapes(flat), _per_image(flat)]
    items += alike_findings("class", names, ALIKE, loose=True)
    for split, boxes in flat.items():
        items += _cleaned(split, boxes.photos)
        items += _mismatches(split, boxes.photos, seen.sizes[split])
        items += _absent(split, boxes, names)
    if "train" in flat:
        items += _unequal(flat["train"], names)
    for split, boxes in flat.items():
        items += _tiny(split, boxes)
    if "train" in flat:
        items += _long(cfg, flat["train"])
    return items + _contradictions(splits, seen)


def _flat(photos: Photos, sizes: Sequence[tuple[int, int] | None], size: Mapping[str, Any]) -> Flat:
    images = [id for id, seen in enumerate(sizes) if seen is not None]
    learned = [~photos.annotated[id].ignored for id in images]
    boxes = [photos.annotated[id].boxes[kept] for id, kept in zip(images, learned, strict=True)]
    labels = [photos.annotated[id].labels[kept] for id, kept in zip(images, learned, strict=True)]
    scale = np.full((len(images), 2), np.nan)  # of width and height
    for row, id in enumerate(images):
        photo = photos.annotated[id].size or sizes[id]
        if photo is not None:
            height, width = resized(photo, size["short"][-1], size["long"], photos.spec)
            scale[row] = width / photo[1], height / photo[0]
    owner = np.repeat(np.arange(len(images)), [len(part) for part in boxes])  # (N,)
    joined = np.concatenate([np.zeros((0, 4)), *boxes])
    sides = joined[:, 2:] - joined[:, :2]
    number = np.array(images, dtype=np.int64)
    of = np.concatenate([np.zeros(0, dtype=np.int64), *labels])
    return Flat(photos, number[owner], of, sides, sides * scale[owner], number)


def _classes(flat: Mapping[str, Flat], names: Sequence[str]) -> Table:
    columns, tallies = ["class"], []
    for split, boxes in flat.items():
        columns += [f"{split}: boxes", f"{split}: images"]
        pairs = np.unique(np.stack([boxes.labels, boxes.number]), axis=1)  # (2, P): each image once per class
        tallies += [_tally(boxes.labels, names), _tally(pairs[0], names)]
    order = np.argsort(-tallies[0], kind="stable").tolist()
    rows = [[names[i], *(int(tally[i]) for tally in tallies)] for i in order]
    return Table("boxes per class", columns, rows)


def _tally(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    return np.bincount(labels, minlength=len(names))


def _sizes(flat: Mapping[str, Flat]) -> Table:
    rows = []
    for split, boxes in flat.items():
        for what, sides in (("of the photos", boxes.sides), ("as resized", boxes.shown)):
            area = sides.prod(1)  # (N,)
            share = [
                _share(part, len(area)) for part in (area < SMALL, (area >= SMALL) & (area < MEDIUM), area >= MEDIUM)
            ]
            rows.append([split, what, *share, *_percentiles(np.sqrt(area), "{:.0f}")])
    columns = ["split", "pixels", "small", "medium", "large", *(f"side, {p} %" for p in PERCENTILES)]
    caption = "small: area below 32², medium: below 96², as COCO has it; side: root of the area, percentiles"
    return Table("box sizes", columns, rows, caption)


def _share(chosen: np.ndarray, number: int) -> str:
    return f"{chosen.sum() / number:.1%}" if number else "-"


def _percentiles(values: np.ndarray, form: str) -> list[str]:
    values = values[np.isfinite(values)]
    if not len(values):
        return ["-"] * len(PERCENTILES)
    return [form.format(value) for value in np.percentile(values, PERCENTILES)]


def _shapes(flat: Mapping[str, Flat]) -> Table:
    rows = [[split, *_percentiles(boxes.sides[:, 1] / boxes.sides[:, 0], "{:.2f}")] for split, boxes in flat.items()]
    return Table("aspect ratios of boxes", ["split", *(f"height / width, {p} %" for p in PERCENTILES)], rows)


def _per_image(flat: Mapping[str, Flat]) -> Table:
    rows = []
    for split, boxes in flat.items():
        tally = np.bincount(boxes.number, minlength=len(boxes.photos))[boxes.images]  # (M,)
        told = [int(tally.min()), f"{np.median(tally):g}", int(tally.max())] if len(tally) else ["-"] * 3
        rows.append([split, len(tally), *told, int((tally == 0).sum())])
    return Table("boxes per image", ["split", "images", "fewest", "median", "most", "images without"], rows)


def _cleaned(split: str, photos: Photos) -> list[Finding]:
    advice = "the run goes on without them"
    return [
        Finding("warning", change_words(split, rule, names), "" if rule == "clipped" else advice, names)
        for rule, names in photos.changes.items()
    ]


def _mismatches(split: str, photos: Photos, sizes: Sequence[tuple[int, int] | None]) -> list[Finding]:
    """Photos that do not have the size that their boxes were drawn on."""
    wrong = [
        f"{image.name}: {problem}"
        for image, size in zip(photos.annotated, sizes, strict=True)
        if size is not None and (problem := mismatch(image.size, size))
    ]
    if not wrong:
        return []
    what = f"{split}: {count(len(wrong), 'image')} of another size than annotated"
    return [Finding("error", what, "boxes would be in the wrong place, and the run stops", wrong)]


def _absent(split: str, boxes: Flat, names: Sequence[str]) -> list[Finding]:
    missing = [names[i] for i in np.flatnonzero(_tally(boxes.labels, names) == 0).tolist()]
    if not missing:
        return []
    what = f"{split}: no box of {count(len(missing), 'class')}"
    if split == "train":
        return [Finding("error", what, "they cannot be learned, and the run stops", missing)]
    return [Finding("warning", what, f"{split} says nothing about how well they are found", missing)]


def _unequal(boxes: Flat, names: Sequence[str]) -> list[Finding]:
    tally = _tally(boxes.labels, names)
    present = np.flatnonzero(tally)
    if len(present) < 2:
        return []
    most, least = int(tally.argmax()), int(present[tally[present].argmin()])
    ratio = tally[most] / tally[least]
    if ratio < UNEQUAL:
        return []
    what = (
        f"train: {names[most]!r} has {count(int(tally[most]), 'box')}, {names[least]!r} has {int(tally[least]):,}: "
        f"{ratio:.3g} times as many"
    )
    rare = [f"{names[i]} ({int(tally[i]):,})" for i in present.tolist() if tally[most] / tally[i] >= UNEQUAL]
    return [Finding("warning", what, "mAP weighs classes alike: look at the AP of the rare ones, or add photos", rare)]


def _tiny(split: str, boxes: Flat) -> list[Finding]:
    tiny = boxes.shown.min(1) < TINY  # (N,), False where unknown
    if not tiny.any():
        return []
    what = f"{split}: {count(int(tiny.sum()), 'box')} of {len(tiny):,} smaller than {TINY} pixels after resizing"
    ids, numbers = np.unique(boxes.number[tiny], return_counts=True)
    names = [f"{boxes.photos.names[id]} ({number})" for id, number in zip(ids.tolist(), numbers.tolist(), strict=True)]
    return [
        Finding("warning", what, "hardly anything is left to see: raise task.size, or cut photos into tiles", names)
    ]


def _long(cfg: DetectionConfig, boxes: Flat) -> list[Finding]:
    long = boxes.sides.max(1) > LONG * boxes.sides.min(1)  # (N,)
    if not long.any():
        return []
    what = f"train: {count(int(long.sum()), 'box')} of {len(long):,} more than {LONG:g} times as long as wide"
    advice = "task.anchors=fitted finds shapes for them" if cfg.head != "fcos" and cfg.anchors.kind == "default" else ""
    names = [str(boxes.photos.names[id]) for id in np.unique(boxes.number[long]).tolist()]
    return [Finding("warning" if long.mean() >= MANY else "note", what, advice, names)]


def _contradictions(splits: Mapping[str, Photos], seen: Seen) -> list[Finding]:
    """The same picture with different boxes, in whatever order they are."""
    found = []
    for group in seen.duplicates:
        rows = [_sorted_boxes(splits[split], id) for split, id in group]
        if any(not np.array_equal(row, rows[0]) for row in rows):
            found.append(
                ", ".join(
                    f"{splits[split].names[id]} ({count(len(row), 'box')})"
                    for (split, id), row in zip(group, rows, strict=True)
                )
            )
    if not found:
        return []
    what = f"{count(len(found), 'picture')} with different boxes on equal pixels"
    return [Finding("warning", what, f"the model cannot be right about {plural(len(found), 'its')} boxes", found)]


def _sorted_boxes(photos: Photos, id: int) -> np.ndarray:
    """(N, 6): corners to a tenth of a pixel, label, ignored."""
    image = photos.annotated[id]
    rows = np.column_stack([image.boxes.round(1), image.labels, image.ignored])
    return rows[np.lexsort(rows.T)]
