"""The label files of YOLO text: a line an object, a box, a polygon, or a box with the points of a pose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from visiontl import DataError
from visiontl.kit.bad_annotations import BadAnnotations
from visiontl.kit.folders import Folders
from visiontl.kit.headers import upright_sizes
from visiontl.kit.words import count, plural, some, told
from visiontl_detection.listing import Annotated
from visiontl_detection.yolo_settings import Settings, label_names

MOST = 10_000_000  # bytes of a label file
FAR = 2.0  # a share of the image beyond which a number is no share, but pixels
VISIBLE = (0.0, 1.0, 2.0)  # what a pose says of a point
ENOUGH = 3  # lines that look like poses, from which it is no chance

Lines = tuple[np.ndarray, list[int]]  # (N, 5) class, center x and y, width, height; line of each


@dataclass
class Found:
    """What reading the label files of a split has counted."""

    absent: int = 0
    lines: int = 0
    polygons: int = 0
    like_poses: int = 0
    surely_poses: bool = False
    poses: int = 0
    first_absent: str = ""
    bad: list[str] = field(default_factory=list[str])


def read_labels(
    folders: Folders, split: str, names: Sequence[str], settings: Settings, bad: BadAnnotations, notes: list[str]
) -> list[Annotated]:
    """The images of a split with their boxes, in pixels."""
    found = Found()
    lines = [_file(folders, name, settings, bad, found) for name in names]
    if found.absent == len(names):
        raise DataError(
            f"{folders.base}: {split}: none of {count(len(names), 'image')} has a label file; looked for "
            f"{folders.path(found.first_absent)} and so on"
        )
    _refuse_poses(folders, split, settings, found)
    notes += bad.settle(folders.base, split, found.bad, found.lines)
    made, unreadable, turned = [], [], []
    for name, upright, (values, numbers) in zip(names, upright_sizes(folders.base, names), lines, strict=True):
        size, on_side = upright or (None, False)
        if on_side and len(values):
            turned.append(name)
        if size is None and len(values):
            unreadable.append(name)
            values, numbers = values[:0], []
        height, width = size or (1, 1)
        center, half = values[:, 1:3], values[:, 3:5] / 2  # shares of the image
        boxes = np.concatenate([center - half, center + half], axis=1) * np.array([width, height] * 2)  # (N, 4)
        nothing = np.zeros(len(values), dtype=bool)
        ids = [f"line {number}" for number in numbers]
        made.append(
            Annotated(name, size, boxes, values[:, 0].astype(np.int64), nothing, np.full(len(values), np.nan), ids)
        )
    _tell(split, found, unreadable, settings, notes)
    notes += _turned(split, turned)
    return made


def _tell(split: str, found: Found, unreadable: Sequence[str], settings: Settings, notes: list[str]) -> None:
    if found.absent:
        notes.append(
            f"{split}: {count(found.absent, 'image')} without a label file, taken for images without boxes: "
            f"{told(found.first_absent)}" + (" and others" if found.absent > 1 else "")
        )
    if found.polygons:
        notes.append(f"{split}: {count(found.polygons, 'polygon')}, each taken for the box around it")
    if found.poses and settings.keypoints:
        points = count(settings.keypoints[0], "point")
        notes.append(f"{split}: {count(found.poses, 'pose')} of {points} (kpt_shape): the boxes are used")
    if unreadable:
        notes.append(
            f"{split}: {count(len(unreadable), 'image')} that cannot be read, so without boxes: {some(unreadable)}"
        )


def _turned(split: str, turned: Sequence[str]) -> list[str]:
    """Photos with boxes that EXIF turns: shares of the image do not tell on which of the two boxes were drawn."""
    if not turned:
        return []
    return [
        f"{split}: {count(len(turned), 'photo')} with boxes {plural(len(turned), 'is')} turned upright by EXIF: "
        f"{some(turned)}; shares do not tell whether boxes were drawn on the upright photo, as is assumed: look at them"
    ]


def _file(folders: Folders, image: str, settings: Settings, bad: BadAnnotations, found: Found) -> Lines:
    tried = label_names(image)
    name = next((real for one in tried if (real := folders.found(one)) is not None), None)
    if name is None:
        found.absent += 1
        found.first_absent = found.first_absent or tried[0]
        return np.zeros((0, 5)), []
    rows, numbers, problems = [], [], []
    for number, line in enumerate(folders.read_text(name, MOST).split("\n"), start=1):
        if not line.strip():
            continue
        found.lines += 1
        try:
            rows.append(_box(line, settings, found))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        numbers.append(number)
    if bad.on_bad == "error":
        bad.settle(folders.path(name), "", problems, found.lines)
    found.bad += [f"{name}: {problem}" for problem in problems]
    return np.array(rows, dtype=np.float64).reshape(-1, 5), numbers


def _box(line: str, settings: Settings, found: Found) -> list[float]:
    """class, center x and y, width, height. Raises ValueError, saying why, where a line is none of the format's."""
    texts = line.split()
    number = len(texts)
    if settings.keypoints is not None:
        points, each = settings.keypoints
        if number not in (5, 5 + points * each):
            raise ValueError(
                f"{count(number, 'value')}; expected class x y width height and {points} x {each} values of points "
                f"(kpt_shape), {5 + points * each} in all, or 5 without"
            )
    elif number != 5 and (number < 7 or number % 2 == 0):
        raise ValueError(
            f"{count(number, 'value')}; expected class x y width height, or class and the points of a polygon"
            + ("; if the last one is a score, leave it out" if number == 6 else "")
        )
    values = _numbers(texts, settings)
    if settings.keypoints is not None:
        found.poses += number > 5
        return values[:5]
    if number == 5:
        return values
    found.polygons += 1
    flags = values[7::3]
    if (number - 5) % 3 == 0 and all(flag in VISIBLE for flag in flags):
        found.like_poses += 1
        found.surely_poses |= 2.0 in flags
    return _around(values)


def _numbers(texts: Sequence[str], settings: Settings) -> list[float]:
    try:
        values = [float(text) for text in texts]
    except ValueError:
        bad = next(text for text in texts if not _is_number(text))
        raise ValueError(f"{told(bad)} is no number; expected class x y width height") from None
    classes = len(settings.classes)
    if not math.isfinite(values[0]) or values[0] != int(values[0]) or not 0 <= values[0] < classes:
        named = settings.file.rpartition("/")[2]
        raise ValueError(f"class {told(texts[0])}; {named} names {count(classes, 'class')}, from 0 to {classes - 1}")
    far = next((text for text, value in zip(texts[1:], values[1:], strict=True) if FAR < abs(value) < math.inf), None)
    if far is not None:
        raise ValueError(f"{told(far)} is no share of the image; expected 0 to 1, not pixels")
    return values


def _refuse_poses(folders: Folders, split: str, settings: Settings, found: Found) -> None:
    """Raises DataError where what would be read as polygons are boxes with points and their visibilities."""
    if found.polygons and found.like_poses == found.polygons and (found.surely_poses or found.polygons >= ENOUGH):
        where = folders.path(settings.file)
        raise DataError(
            f"{where}: {split}: all {count(found.polygons, 'line')} with more than 5 values look like poses: a "
            "box, then points with a visibility of 0, 1 or 2 each. Say so in a data.yaml, kpt_shape: [POINTS, 3]"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _around(values: Sequence[float]) -> list[float]:
    """class and points -> class, center x and y, width, height of the box around them; NaN stays NaN."""
    points = np.array(values[1:]).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    return [values[0], *((low + high) / 2).tolist(), *(high - low).tolist()]
