"""From a config to the splits of a data set and the meta that a model is rebuilt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.classes import match
from visiontl.kit.images import open_image
from visiontl.kit.names import ALIKE, alike_notes
from visiontl.kit.words import count, some
from visiontl_detection.anchors import fitted
from visiontl_detection.batches import grouped
from visiontl_detection.boxes import STAYING, Changes, Cleaned, change_notes
from visiontl_detection.coco_scores import tools
from visiontl_detection.config import DetectionConfig
from visiontl_detection.leaving_out import without
from visiontl_detection.listing import Annotated
from visiontl_detection.readers import read
from visiontl_detection.views import settled_size, still_view, training_view


@dataclass(frozen=True)
class Photos:
    """One split. base: the folder of all names. view: (image, its boxes, seed) -> sample. changes: what cleaning left
    out or clipped. spec: of the backbone, which says how photos are resized."""

    base: str
    names: Sequence[str]
    annotated: Sequence[Annotated] = field(repr=False)
    view: Callable[[Image.Image, Annotated, int], dict[str, Any]] = field(repr=False)
    changes: Changes = field(repr=False)
    spec: ImageSpec = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Raises DataError where the photo does not have the annotated size: its boxes would be elsewhere."""
        number, seed = key
        image, annotated = self.image(number), self.annotated[number]
        problem = mismatch(annotated.size, (image.height, image.width))
        if problem:
            raise DataError(f"{Path(self.base, annotated.name)}: {problem}")
        return self.view(image, annotated, seed)

    def image(self, number: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return open_image(Path(self.base, self.names[number]))


def mismatch(annotated: tuple[int, int] | None, photo: tuple[int, int]) -> str:
    """(H, W) as annotated and of the upright photo -> what is wrong in a sentence, or ""."""
    if annotated is None or annotated == photo:
        return ""
    said = f"annotated as {annotated[1]} x {annotated[0]} pixels, and the photo has {photo[1]} x {photo[0]}"
    if annotated == photo[::-1]:
        return (
            f"{said}: width and height are swapped, as when boxes were drawn before the EXIF orientation turned the "
            "photo; annotate the upright photo, or save it without that EXIF tag"
        )
    return f"{said}; boxes belong to another version of the photo: take that one, or annotate this one"


def data(cfg: DetectionConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The splits that cfg.data describes.

    meta: {"classes": names in label order, "categories": the file's ids or None, "counts": training boxes per class,
    "size": what photos are resized to, "anchors": fitted ones or None, "left_out": classes that were left out, where
    any were}. Given (evaluating elsewhere), its class order
    holds, by name: the data may lack classes, which is noted, and may not have others.
    Raises DataError for a source that cannot be read, and for a class that has no training box.
    """
    tools(cfg.evaluator)  # one that is not installed is told now, not after the first epoch
    listing = read(cfg.data, evaluation=meta is not None)
    listing, left_out = without(cfg, listing, meta)
    notes = list(listing.notes)
    parts = dict(listing.parts)
    if meta is None:
        meta = _new_meta(cfg, spec, listing, notes)
        if left_out:
            meta["left_out"] = left_out
        notes += alike_notes("class", meta["classes"], ALIKE, loose=True)
    else:
        parts = _by_name(listing, meta["classes"])
    for split, images in parts.items():
        absent = np.flatnonzero(_boxes_per_class(images, len(meta["classes"])) == 0).tolist()
        if absent:
            names = some(meta["classes"][i] for i in absent)
            notes.append(f"{split}: no box of {count(len(absent), 'class')}: {names}")
        notes += _crowded(cfg, split, images)
    splits = {}
    for split, images in parts.items():
        view = (training_view if split == "train" else still_view)(cfg, spec, meta)
        names = [image.name for image in images]
        splits[split] = Photos(listing.base, names, images, view, listing.changes[split], spec)
    if "train" in splits:
        splits["still"] = replace(splits["train"], view=still_view(cfg, spec, meta))
    return Data(**splits, meta=meta, notes=notes, batches=_batches(cfg, parts))


def _crowded(cfg: DetectionConfig, split: str, images: Sequence[Annotated]) -> list[str]:
    """A note on images with more objects than the model ever names, or none."""
    numbers = np.array([int((~image.ignored).sum()) for image in images])
    above = int((numbers > cfg.detections).sum())
    if not above:
        return []
    return [
        f"{split}: {count(above, 'image')} with more boxes than task.detections={cfg.detections}, {numbers.max():,} at "
        "most: the others are never found; raise task.detections"
    ]


def _batches(cfg: DetectionConfig, parts: Mapping[str, Sequence[Annotated]]) -> Callable[..., Any] | None:
    """Upright and wide images apart, where train has both and all sizes are known."""
    if not cfg.group_by_aspect or "train" not in parts:
        return None
    if any(image.size is None for image in parts["train"]):
        return None
    sizes = {
        split: np.array([image.size or (0, 0) for image in images]).reshape(-1, 2) for split, images in parts.items()
    }
    upright = sizes["train"][:, 0] > sizes["train"][:, 1]  # (N,)
    return partial(grouped, sizes) if 0 < upright.sum() < len(upright) else None


def _new_meta(cfg: DetectionConfig, spec: ImageSpec, listing: Cleaned, notes: list[str]) -> dict[str, Any]:
    train = listing.parts.get("train")
    if train is None:
        raise DataError(f"{listing.where}: has {some(listing.parts)} and no train; a model needs images to learn from")
    if not listing.classes:
        raise DataError(f"{listing.where}: no image has a box; a detector needs some to learn from")
    counts = _boxes_per_class(train, len(listing.classes))
    _check_learnable(listing, counts)
    size = settled_size(cfg, train)
    anchors = None
    if cfg.anchors.kind == "fitted":
        anchors, lines = fitted(cfg, spec, size, train)
        notes += lines
    return {
        "classes": list(listing.classes),
        "categories": None if listing.categories is None else list(listing.categories),
        "counts": counts.tolist(),
        "size": size,
        "anchors": anchors,
    }


def _boxes_per_class(images: Sequence[Annotated], classes: int) -> np.ndarray:
    """(K,) boxes that are not ignored."""
    labels = [image.labels[~image.ignored] for image in images]
    return np.bincount(np.concatenate(labels) if labels else np.zeros(0, dtype=np.int64), minlength=classes)


def _check_learnable(listing: Cleaned, counts: np.ndarray) -> None:
    absent = np.flatnonzero(counts == 0).tolist()
    if not absent:
        return
    names = []
    for label in absent:
        holders = [
            split
            for split, images in listing.parts.items()
            if split != "train" and any((image.labels == label).any() for image in images)
        ]
        names.append(listing.classes[label] + (f" (only in {' and '.join(holders)})" if holders else ""))
    lost = change_notes(
        "train", {rule: boxes for rule, boxes in listing.changes["train"].items() if rule not in STAYING}
    )
    raise DataError(
        f"{listing.where}: no training box of {count(len(absent), 'class')}: {some(names)}; "
        + "".join(f"{line}; " for line in lost)
        + f"{'mend those or annotate' if lost else 'annotate'} some, or leave {'it' if len(absent) == 1 else 'them'} "
        "out: task.classes.leave_out=absent"
    )


def _by_name(listing: Cleaned, classes: Sequence[str]) -> dict[str, Sequence[Annotated]]:
    """The splits with labels into the model's classes. Raises DataError for boxes of a class that it does not have."""
    tallies = [_tally(images, len(listing.classes)) for images in listing.parts.values()]
    used = np.stack(tallies).sum(0)  # (K,)
    found = match(classes, [name for name, boxes in zip(listing.classes, used, strict=True) if boxes])
    if found.surplus:
        raise DataError(f"{listing.where}: {found.unknown()}")
    new = np.array([found.index.get(name, 0) for name in listing.classes], dtype=np.int64)  # 0 where not used
    return {
        split: [replace(image, labels=new[image.labels]) if len(image.labels) else image for image in images]
        for split, images in listing.parts.items()
    }


def _tally(images: Sequence[Annotated], classes: int) -> np.ndarray:
    """(K,) boxes, ignored ones too."""
    return np.bincount(np.concatenate([image.labels for image in images]), minlength=classes)


def probe(cfg: DetectionConfig, sample: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """The class of each box that is learned, in pixels of the image."""
    return {"labels": sample["labels"], "boxes": sample["boxes"]}
