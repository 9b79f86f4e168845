"""COCO JSON: annotations/instances_train2017.json and its like, one beside the images of each split, or named files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from visiontl import DataError
from visiontl.kit.coco import ROBOFLOW, SINGLE, Options, Part, as_float, is_crowd, is_number, read_files
from visiontl.kit.folders import Folders, join, named
from visiontl.kit.splits import SPLITS, WHOLE, split_of
from visiontl.kit.words import count, some, told
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated, Listing

PLACES = ("annotations", "annotations_coco", "")
NAMED = re.compile(rf"(?:instances_)?({'|'.join(SPLITS)})(?:\d{{4}})?\.json", re.IGNORECASE)


Own = tuple[tuple[float, float, float, float], bool, float]  # x1 y1 x2 y2; whether it is a crowd; pixels


def sources(folders: Folders, cfg: DataConfig) -> dict[str, str]:
    """Split (or WHOLE) -> JSON file; empty where the layout is not COCO's. Raises DataError where it is ambiguous."""
    if cfg.train is not None:
        return {split: named(folders, f"task.data.{split}", value) for split, value in _given(cfg).items()}
    for place in PLACES:
        found: dict[str, str] = {}
        for name in folders.files(place, ".json"):
            match = NAMED.fullmatch(name)
            if match is None:
                continue
            split = SPLITS[match[1].lower()]
            if split in found:
                raise DataError(
                    f"{folders.path(place)}: {PurePosixPath(found[split]).name} and {name} are both {split}; say which "
                    f"is meant: task.data.train={found.get('train', join(place, name))}, and val and test likewise"
                )
            found[split] = join(place, name)
        if found:
            return found
    beside = {}
    for name in folders.folders(""):
        split = split_of(name)
        files = folders.files(name, ".json") if split else []
        if split and (ROBOFLOW in folders.entries(name) or len(files) == 1):
            if split in beside:
                raise DataError(f"{folders.base}: {PurePosixPath(beside[split]).parent} and {name} are both {split}")
            beside[split] = join(name, ROBOFLOW if ROBOFLOW in folders.entries(name) else files[0])
    return beside or _single(folders, cfg)


def _given(cfg: DataConfig) -> dict[str, str]:
    given = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    return {split: value for split, value in given.items() if value is not None}


def _single(folders: Folders, cfg: DataConfig) -> dict[str, str]:
    """The only JSON there is. One beside other files may be about anything, unless the format is given."""
    for place in PLACES:
        files = folders.files(place, ".json")
        if not place and cfg.format != "coco":
            files = [name for name in files if name in SINGLE]
        if len(files) == 1:
            return {WHOLE: join(place, files[0])}
        if files:
            raise DataError(
                f"{folders.path(place)}: none of {some(files)} is named train.json, instances_train2017.json or such; "
                f"say which is meant: task.data.train={join(place, files[0])}"
            )
    return {}


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming the file, for whatever is not as COCO's format has it."""
    hint = "name the right one in task.data.images"
    options = Options(cfg.images, hint, cfg.test is not None, cfg.bad_annotations())
    found = read_files(folders, sources(folders, cfg), own, options)
    notes, ids = found.notes, sorted(found.categories)
    if ids != list(range(1, len(ids) + 1)):
        table = some((f"{number} {found.categories[number]}" for number in ids), 100)
        notes.append(
            f"category ids are not 1 to {len(ids)}; in this order they become classes 0 to {len(ids) - 1}: {table}"
        )
    listed = {split: _annotated(part, ids, split, notes) for split, part in found.parts.items()}
    return Listing(folders.base, listed, [found.categories[number] for number in ids], ids, notes, folders.base)


def own(record: Mapping[str, Any], size: tuple[int, int] | None) -> Own:
    """Box, crowd and area of an annotation; NaN for an area that is not stated. Raises ValueError."""
    box, area = record.get("bbox"), record.get("area")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise ValueError(f"bbox is {told(json.dumps(box))}; expected 4 numbers: x, y, width, height")
    crowd = is_crowd(record)
    if area is not None and not is_number(area):
        raise ValueError(f"area is {told(json.dumps(area))}; expected a number")
    x, y, width, height = map(as_float, box)
    return (x, y, x + width, y + height), crowd, math.nan if area is None else as_float(area)


def _annotated(part: Part[Own], ids: Sequence[int], split: str, notes: list[str]) -> list[Annotated]:
    owner = np.array(part.owner, dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(part.names)))
    boxes = np.array([box for box, _, _ in part.own], dtype=np.float64).reshape(-1, 4)[order]
    labels = np.searchsorted(np.array(ids), np.array(part.category, dtype=np.int64))[order]
    ignored = np.array([crowd for _, crowd, _ in part.own], dtype=bool)[order]
    area = np.array([area for _, _, area in part.own], dtype=np.float64)[order]
    unmeasured = int((~(area > 0) | ~np.isfinite(area)).sum())
    if unmeasured:
        notes.append(f"{split}: {count(unmeasured, 'box')} without a positive area; the box's own is taken")
    if ignored.any():
        notes.append(f"{split}: {count(int(ignored.sum()), 'box')} of crowds, neither learned nor counted")
    made, start = [], 0
    for name, size, end in zip(part.names, part.sizes, ends.tolist(), strict=True):
        of = slice(start, end)
        called = [part.called[j] for j in order[of]]
        made.append(Annotated(name, size, boxes[of], labels[of], ignored[of], area[of], called))
        start = end
    return made
