"""What becomes of boxes that cannot be right.

In this order, each box by the first rule that applies, and never silently:

1. a coordinate that is no finite number: left out
2. x2 < x1 or y2 < y1 (a negative width or height): left out
3. wholly outside the image: left out
4. partly outside the image: clipped to it; an overhang of at most 0.01 pixels is rounding, and not told
5. no width or no height, clipped or not: left out
6. the same class and the same box once more in an image: left out, the first one stays

Where an image's size is unknown, only its left and upper edges hold a box back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from visiontl.kit.words import count, some
from visiontl_detection.listing import Annotated, Listing

RULES = {
    "finite": "with a coordinate that is no finite number, left out",
    "inverted": "of negative width or height, left out",
    "outside": "wholly outside the image, left out",
    "clipped": "partly outside the image, clipped to it",
    "empty": "without width or height, left out",
    "repeated": "that the same image has already, left out",
}
STAYING = ("clipped", "repeated")  # rules that leave a box of the class
ROUNDING = 0.01  # pixels

Changes = Mapping[str, Sequence[str]]
"""Rule -> the boxes that it met, as "file (id)"."""


@dataclass(frozen=True)
class Cleaned(Listing):
    """A listing after `cleaned`. changes: per split what that left out or clipped."""

    changes: Mapping[str, Changes] = field(default_factory=dict[str, Changes])


def cleaned(images: Sequence[Annotated]) -> tuple[list[Annotated], dict[str, list[str]]]:
    """The images with boxes as the rules above leave them, and the boxes that each rule met (rules that met none are
    absent). An area that is not above 0 or no number becomes the box's own. All boxes at once: COCO has 860,000."""
    counts = np.array([len(image.boxes) for image in images], dtype=np.int64)
    owner = np.repeat(np.arange(len(images)), counts)  # (N,) image of each box
    boxes = _joined([image.boxes for image in images], np.zeros((0, 4)))  # (N, 4)
    labels = _joined([image.labels for image in images], np.zeros(0, dtype=np.int64))
    ignored = _joined([image.ignored for image in images], np.zeros(0, dtype=bool))
    area = _joined([image.area for image in images], np.zeros(0))
    sizes = np.array([image.size or (np.inf, np.inf) for image in images], dtype=np.float64).reshape(-1, 2)  # H, W
    limit = sizes[owner][:, [1, 0, 1, 0]]  # (N, 4)

    finite = np.asarray(np.isfinite(boxes).all(1))  # (N,)
    boxes = np.where(finite[:, None], boxes, 0.0)
    inverted: np.ndarray = finite & (boxes[:, 2:] < boxes[:, :2]).any(1)
    outside = finite & ~inverted & ((boxes[:, 2:] <= 0) | (boxes[:, :2] >= limit[:, 2:])).any(1)
    outside &= (boxes[:, 2:] > boxes[:, :2]).all(1)  # what has no extent is told as such, wherever it lies
    inside = boxes.clip(0, limit)
    kept: np.ndarray = finite & ~inverted & ~outside
    empty = kept & (inside[:, 2:] <= inside[:, :2]).any(1)
    kept &= ~empty
    clipped = kept & (np.abs(inside - boxes) > ROUNDING).any(1)
    repeated = np.zeros(len(boxes), dtype=bool)
    candidates = np.flatnonzero(kept)
    repeated[candidates] = _repeated(
        np.column_stack([inside, labels.astype(np.float64), ignored.astype(np.float64), owner])[candidates]
    )
    kept &= ~repeated

    own = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    area = np.where(np.isfinite(area) & (area > 0), area, own)
    starts = np.concatenate([[0], np.cumsum(counts)])
    made = []
    for i, image in enumerate(images):
        of = np.arange(starts[i], starts[i + 1])[kept[starts[i] : starts[i + 1]]]
        ids = [image.ids[j - starts[i]] for j in of] if image.ids else ()
        made.append(replace(image, boxes=inside[of], labels=labels[of], ignored=ignored[of], area=area[of], ids=ids))
    masks = {
        "finite": ~finite, "inverted": inverted, "outside": outside, "clipped": clipped & ~repeated, "empty": empty,
        "repeated": repeated,
    }  # fmt: skip
    changes = {
        rule: [box_name(images[owner[j]], int(j - starts[owner[j]])) for j in np.flatnonzero(mask)]
        for rule, mask in masks.items()
        if mask.any()
    }
    return made, changes


def _joined(parts: Sequence[np.ndarray], nothing: np.ndarray) -> np.ndarray:
    return np.concatenate([nothing, *parts]).astype(nothing.dtype, copy=False)


def _repeated(rows: np.ndarray) -> np.ndarray:
    """(N, C) -> (N,) True where an earlier row is equal."""
    order = np.lexsort(rows.T)  # stable: equal rows stay in their order
    equal = (rows[order][1:] == rows[order][:-1]).all(1)
    result = np.zeros(len(rows), dtype=bool)
    result[order[1:][equal]] = True
    return result


def box_name(image: Annotated, number: int) -> str:
    """What to call a box in a message: "photos/1.jpg (annotation 17)"."""
    return f"{image.name} ({image.ids[number] if image.ids else f'box {number + 1}'})"


def change_words(split: str, rule: str, names: Sequence[str]) -> str:
    return f"{split}: {count(len(names), 'box')} {RULES[rule]}"


def change_notes(split: str, changes: Changes) -> list[str]:
    """One sentence per rule that met a box."""
    return [f"{change_words(split, rule, names)}: {some(names, 3)}" for rule, names in changes.items()]
