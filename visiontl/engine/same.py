"""Whether an exported model answers as the run does: its numbers, and what is said of photos by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

NUMBERS = 1e-4  # of outputs, relative to the largest of them where that is above 1
ANSWERS = (
    1e-3  # of what is said of a photo: shares, scores, pixels relative to the photo; of pictures the share of pixels
)
ANOTHER = 1.0  # where one finds a box that the other does not
MEASURED = ("milliseconds", "seconds")  # keys of a prediction that no two passes share


@dataclass(frozen=True)
class Difference:
    """size: the largest, in the units above. words: where it is; "" where there is none to tell."""

    size: float
    words: str = ""

    def larger(self, other: Difference) -> Difference:
        return other if other.size > self.size or (other.words and not self.words) else self


def of_outputs(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], answer: Mapping[str, Any]) -> float:
    """The largest difference of two outputs of a graph for the same images, relative as NUMBERS has it. Boxes are
    matched first: equal scores may stand in any order."""
    if answer["kind"] == "parts":
        return max(
            of_outputs(of_names(ours, f"{name}."), of_names(theirs, f"{name}."), own)
            for name, own in answer["parts"].items()
        )
    if answer["kind"] == "boxes":
        return max(of_boxes(pick(ours, answer, i), pick(theirs, answer, i)) for i in range(len(first(ours))))
    return max(of_arrays(ours[name], theirs[name]) for name in ours)


def of_names(values: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name: one for name, one in values.items() if name.startswith(prefix)}


def of_arrays(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    if not ours.size:
        return 0.0
    scale = max(1.0, float(np.abs(ours.astype(np.float64)).max()))
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max()) / scale


def first(values: Mapping[str, np.ndarray]) -> np.ndarray:
    return next(iter(values.values()))


def pick(
    values: Mapping[str, np.ndarray], answer: Mapping[str, Any], image: int
) -> list[tuple[Any, float, np.ndarray]]:
    """(label, score, box) of what was found in an image."""
    boxes, scores, labels = (values[answer[name]][image] for name in ("boxes", "scores", "labels"))
    return [(int(labels[i]), float(scores[i]), boxes[i]) for i in np.flatnonzero(scores >= 0)]


def of_boxes(ours: list[tuple[Any, float, Any]], theirs: list[tuple[Any, float, Any]], slack: float = NUMBERS) -> float:
    """The largest difference of scores and, relative to the largest coordinate, of corners.

    Each of ours is matched with the nearest of theirs that has its label; ANOTHER where one has none. What only just
    stood at the end of a full list, with a score within `slack` of the last, may be there or not.
    """
    if not ours and not theirs:
        return 0.0
    scale = max(1.0, *(float(np.abs(box).max()) for _, _, box in [*ours, *theirs]))
    last = max((min(score for _, score, _ in side) for side in (ours, theirs) if side), default=0.0)
    worst, free = 0.0, list(range(len(theirs)))
    unmatched = []
    for label, score, box in ours:
        apart = {
            j: max(abs(score - theirs[j][1]), float(np.abs(np.asarray(box) - theirs[j][2]).max()) / scale)
            for j in free
            if theirs[j][0] == label
        }
        nearest = min(apart, key=apart.__getitem__, default=None)
        if nearest is None or apart[nearest] > 0.05:
            unmatched.append(score)
            continue
        free.remove(nearest)
        worst = max(worst, apart[nearest])
    unmatched += [theirs[j][1] for j in free]
    return ANOTHER if any(score > last + slack for score in unmatched) else worst


def of_answers(ours: Mapping[str, Any], theirs: Mapping[str, Any], answer: Mapping[str, Any]) -> Difference:
    """Of two predictions of one photo. Labels must be the same, but where what they rest on is as good as equal."""
    if answer["kind"] == "parts":
        of_each = {name: of_answers(ours[name], theirs[name], own) for name, own in answer["parts"].items()}
        worst = max(of_each, key=lambda name: of_each[name].size)
        return Difference(of_each[worst].size, f"{worst}: {of_each[worst].words}")
    if isinstance(ours.get("objects"), list) and isinstance(theirs.get("objects"), list):
        one, other = (
            [(o["label"], o["score"], np.array(o["box"])) for o in side["objects"]] for side in (ours, theirs)
        )
        return Difference(of_boxes(one, other, ANSWERS), "objects")
    made = Difference(0.0)
    pictured = any(isinstance(value, Image.Image) for value in ours.values())
    for key in ours:
        if key in MEASURED or (pictured and not isinstance(ours[key], Image.Image) and key != "size"):
            continue  # areas and counts are those of the picture
        if key not in theirs:
            return Difference(float("inf"), f"{key} is not there")
        made = made.larger(of_values(ours[key], theirs[key], key))
    return made


def of_values(ours: Any, theirs: Any, place: str) -> Difference:
    if isinstance(ours, Image.Image):
        return of_pictures(ours, theirs, place)
    if isinstance(ours, np.ndarray):
        return Difference(of_arrays(ours, np.asarray(theirs)), place)
    if isinstance(ours, Mapping):
        found = [of_values(one, theirs.get(key), f"{place}.{key}") for key, one in ours.items()]
    elif isinstance(ours, list):
        if labeled(ours) and labeled(theirs):
            return of_ranked(ours, theirs, place)
        if not isinstance(theirs, list) or len(ours) != len(theirs):
            return Difference(1.0, f"{place}: {str(ours)[:60]} and {str(theirs)[:60]}")
        found = [of_values(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True))]
    elif isinstance(ours, int | float) and isinstance(theirs, int | float):
        return Difference(abs(ours - theirs) / max(1.0, abs(ours)), place)
    else:
        same = ours == theirs
        return Difference(0.0) if same else Difference(1.0, f"{place}: {str(ours)[:60]} and {str(theirs)[:60]}")
    made = Difference(0.0)
    for one in found:
        made = made.larger(one)
    return made


def labeled(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, dict) and "probability" in v for v in values)


def of_ranked(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], place: str) -> Difference:
    """Of classes by falling probability: equal ones may have changed places."""
    probability = {one["label"]: one["probability"] for one in theirs}
    last = theirs[-1]["probability"]
    apart = max(abs(one["probability"] - probability.get(one["label"], last)) for one in ours)
    return Difference(apart, place)


def of_pictures(ours: Image.Image, theirs: Any, place: str) -> Difference:
    """The share of pixels that differ: at all in masks, by more than 1 of 255 in photos."""
    if not isinstance(theirs, Image.Image) or ours.size != theirs.size or ours.mode != theirs.mode:
        return Difference(1.0, f"{place}: {ours} and {theirs}")
    a, b = (np.asarray(one).astype(np.int64) for one in (ours, theirs))
    allowed = 1 if ours.mode in ("RGB", "RGBA") else 0
    apart = np.abs(a - b) > allowed
    return Difference(float((apart.any(-1) if apart.ndim == 3 else apart).mean()), place)
