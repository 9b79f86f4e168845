"""task.classes.leave_out: classes that a model is not to know, such as those that train has no box of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visiontl import DataError
from visiontl.kit.words import count, did_you_mean, some, told
from visiontl_detection.boxes import Cleaned
from visiontl_detection.config import DetectionConfig
from visiontl_detection.listing import Annotated


def without(cfg: DetectionConfig, listing: Cleaned, meta: Mapping[str, Any] | None) -> tuple[Cleaned, list[str]]:
    """A data set without the classes that are left out and without their boxes, and the names of these classes.

    meta: of a model that is there already, which says what was left out when it was trained. Raises DataError for a
    name that is none of the classes, and where no class is left.
    """
    wanted = cfg.classes.leave_out
    if meta is not None:
        names = [name for name in meta.get("left_out", ()) if name in listing.classes]
    elif wanted == "absent":
        boxes = np.zeros(len(listing.classes), dtype=np.int64)
        for image in listing.parts.get("train", ()):
            boxes += np.bincount(image.labels[~image.ignored], minlength=len(boxes))
        names = [name for name, number in zip(listing.classes, boxes.tolist(), strict=True) if not number]
    else:
        unknown = [name for name in wanted if name not in listing.classes]
        if unknown:
            raise DataError(
                f"task.classes.leave_out: {told(unknown[0])} is no class of {listing.where}"
                f"{did_you_mean(unknown[0], listing.classes)}; it has {some(listing.classes)}"
            )
        names = [name for name in listing.classes if name in wanted]
    if not names:
        return listing, []
    if len(names) == len(listing.classes):
        raise DataError(f"{listing.where}: task.classes.leave_out leaves out all {count(len(names), 'class')}")
    return _without(listing, names), names


def _without(listing: Cleaned, names: Sequence[str]) -> Cleaned:
    kept = [i for i, name in enumerate(listing.classes) if name not in names]
    new = np.full(len(listing.classes), -1, dtype=np.int64)  # place of each class among those that stay, or -1
    new[kept] = np.arange(len(kept))
    notes = [*listing.notes, f"{count(len(names), 'class')} left out (task.classes.leave_out): {some(names, 12)}"]
    parts: dict[str, list[Annotated]] = {}
    for split, images in listing.parts.items():
        parts[split] = [_kept(image, new) for image in images]
        gone = sum(len(image.boxes) for image in images) - sum(len(image.boxes) for image in parts[split])
        if gone:
            notes.append(f"{split}: {count(gone, 'box')} of classes that are left out, neither learned nor counted")
    categories = None if listing.categories is None else [listing.categories[i] for i in kept]
    classes = [listing.classes[i] for i in kept]
    return replace(listing, parts=parts, classes=classes, categories=categories, notes=notes)


def _kept(image: Annotated, new: np.ndarray) -> Annotated:
    of = np.flatnonzero(new[image.labels] >= 0)
    ids = [image.ids[i] for i in of.tolist()] if image.ids else ()
    return replace(
        image,
        boxes=image.boxes[of],
        labels=new[image.labels[of]],
        ignored=image.ignored[of],
        area=image.area[of],
        ids=ids,
    )
