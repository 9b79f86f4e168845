"""Boxes on photos, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visiontl.kit.drawing import distinct_colors
from visiontl_detection import errors

SMALLEST = 320  # pixels; a picture with a shorter side is enlarged before boxes are put on it
LARGEST = 4096  # pixels; no longer side is enlarged beyond it: a strip of 100,000 x 1 would fill the memory
COLORS = 80  # told apart; further classes begin again
FIRST = (232, 70, 46)  # a red to begin with
RIGHT, WRONG, MISSED, OTHER = (86, 180, 233), (230, 90, 0), (250, 225, 60), (255, 255, 255)  # safe for the color-blind

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Shape:
    """box: x1 y1 x2 y2 in pixels of the picture. text: on its tag, none where empty."""

    box: tuple[float, float, float, float]
    color: Color
    text: str = ""
    dashed: bool = False


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """A copy of the photo with the predicted boxes; small photos are enlarged first.

    prediction: {"objects": [{"label", "score", "box": [x1, y1, x2, y2]}, ...]}, boxes in the photo's pixels.
    """
    place = {name: i for i, name in enumerate(meta["classes"])}
    picture, factor = _canvas(image)
    objects = sorted(prediction["objects"], key=lambda one: -one["score"])
    shapes = [
        Shape(_scaled(one["box"], factor, factor), color(place[one["label"]]), f"{one['label']}  {one['score']:.2f}")
        for one in objects
    ]
    return put(picture, shapes)


def draw_rows(image: Image.Image, row: Mapping[str, Any], meta: Mapping[str, Any], threshold: float) -> Image.Image:
    """Truth and the detections with at least this score. Right detections are blue, wrong ones orange with the kind
    of error, missed boxes yellow and dashed; all other true boxes are dashed in white, and have no tag.

    image: the photo, or a smaller copy of it: boxes are those of row["size"].
    """
    names = meta["classes"]
    picture, _ = _canvas(image)
    across, down = picture.width / row["size"][1], picture.height / row["size"][0]
    matches = errors.match([row])
    order = errors.counted(row)
    lost = errors.missed(matches, threshold)
    boxes = [_scaled(box, across, down) for box in np.asarray(row["true_boxes"]).tolist()]
    gone = dict(zip(matches.true_place.tolist(), lost.tolist(), strict=True))  # ignored boxes are not among them
    shapes = [
        Shape(boxes[i], MISSED, f"missed {names[int(row['true_labels'][i])]}", dashed=True)
        for i in range(len(boxes))
        if gone.get(i)
    ]
    for i in np.flatnonzero((matches.score >= threshold) & (matches.outcome != errors.IGNORED)).tolist():
        place, outcome, score = int(order[i]), int(matches.outcome[i]), float(matches.score[i])
        box = _scaled(np.asarray(row["boxes"])[place].tolist(), across, down)
        text = f"{names[int(row['labels'][place])]}  {score:.2f}"
        right = outcome == errors.RIGHT
        shapes.append(Shape(box, RIGHT if right else WRONG, text if right else f"{errors.KINDS[outcome]}: {text}"))
    shapes += [Shape(box, OTHER, dashed=True) for i, box in enumerate(boxes) if not gone.get(i)]
    return put(picture, shapes)


def put(picture: Image.Image, shapes: Sequence[Shape]) -> Image.Image:
    """Draws on the picture itself. The first shape is the most important: drawn last, its tag placed first."""
    width = max(2, round(min(picture.size) / 250))
    pen = ImageDraw.Draw(picture)
    for shape in reversed(shapes):
        _frame(pen, shape, width)
    size = min(max(12, min(picture.size) // 38), 96)  # pixels
    placed: list[tuple[float, float, float, float]] = []
    for shape in shapes:
        if shape.text:
            placed.append(_tag(pen, shape, size, width, picture.size, placed))
    return picture


def _canvas(image: Image.Image) -> tuple[Image.Image, int]:
    """An RGB copy, enlarged where it is small, and by how much."""
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    shorter = min(picture.size)
    if shorter >= SMALLEST:
        return picture, 1
    factor = max(1, min(-(-SMALLEST // shorter), LARGEST // max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return picture.resize(size, Image.Resampling.NEAREST), factor


def _scaled(box: Sequence[float], across: float, down: float) -> tuple[float, float, float, float]:
    return box[0] * across, box[1] * down, box[2] * across, box[3] * down


def _frame(pen: ImageDraw.ImageDraw, shape: Shape, width: int) -> None:
    """A line of this width along the inside of the box, with a contrasting one of a pixel around it."""
    x1, y1, x2, y2 = (round(side) for side in shape.box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixel inside
    contrast = _contrast(shape.color)
    if shape.dashed:
        for start, end in _dashes((x1, y1, x2, y2), 4 * width):
            pen.line((start, end), fill=contrast, width=width + 2)
            pen.line((start, end), fill=shape.color, width=width)
        return
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=contrast)
    inner = (x1 + width, y1 + width, x2 - width, y2 - width)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        pen.rectangle(inner, outline=contrast)
    pen.rectangle((x1, y1, x2, y2), outline=shape.color, width=width)


def _dashes(box: tuple[int, int, int, int], length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Dashes of this length, with gaps as long, along the four sides; 500 a side at most."""
    x1, y1, x2, y2 = box
    made = []
    for low, high, upright in ((x1, x2, False), (y1, y2, True)):
        step = max(2 * length, -(-(high - low) // 500))
        for start in range(low, high + 1, step):
            end = min(start + step // 2, high)
            for across in (x1, x2) if upright else (y1, y2):
                made.append(((across, start), (across, end)) if upright else ((start, across), (end, across)))
    return made


def _tag(
    pen: ImageDraw.ImageDraw,
    shape: Shape,
    size: int,
    line: int,
    picture: tuple[int, int],
    placed: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float, float, float]:
    """Writes the text on a filled tag where it covers least: above the box if it can. Returns the tag's rectangle."""
    margin = max(2, size // 5)
    text = shortened(shape.text, size, picture[0] - 2 * margin)
    face = font(text, size)
    width, height = round(face.getlength(text)) + 2 * margin, round(size * 1.25) + 1
    x1, y1, x2, y2 = shape.box
    above, below = y1 - height - 1, y2 + 1
    spots = [
        (x1, above), (x2 - width, above), (x1, below), (x2 - width, below),
        (x2 + 1, y1), (x1 - width - 1, y1), (x2 + 1, y2 - height), (x1 - width - 1, y2 - height),
        (x1 + line, y1 + line), (x1 + line, y2 - line - height),
        (x2 - line - width, y1 + line), (x2 - line - width, y2 - line - height),
    ]  # fmt: skip
    corners = np.array([(_within(x, width, picture[0]), _within(y, height, picture[1])) for x, y in spots])  # (12, 2)
    tags = np.concatenate([corners, corners + np.array([width, height])], axis=1)
    cost = 4.0 * _overlap(tags, placed) + _overlap(tags, [shape.box])  # a hidden tag is worse than a hidden object
    tag = tags[int(cost.argmin())].tolist()
    pen.rectangle((tag[0], tag[1], tag[2] - 1, tag[3] - 1), fill=shape.color)
    pen.text((tag[0] + margin, tag[1] + height / 2), text, font=face, fill=_contrast(shape.color), anchor="lm")
    return tag


def _within(start: float, length: int, end: int) -> int:
    return max(0, min(round(start), end - length))


def _overlap(tags: np.ndarray, boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """(N,) pixels that each of N rectangles shares with the boxes, those shared with several counted as often."""
    if not boxes:
        return np.zeros(len(tags))
    others = np.asarray(boxes, dtype=np.float64)
    low = np.maximum(tags[:, None, :2], others[None, :, :2])  # (N, M, 2)
    high = np.minimum(tags[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(2).sum(1)


def shortened(text: str, size: int, width: int) -> str:
    """One line that fits: letters go from the name's end, the number after it stays."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    face = font(text, size)
    if face.getlength(text) <= width:
        return text
    name, gap, score = text.rpartition("  ")
    if not gap:
        name, score = text, ""
    name = name[:400]  # measuring costs time with the square of the length
    while len(name) > 1 and face.getlength(f"{name}…{gap}{score}") > width:
        name = name[:-1]
    return f"{name}…{gap}{score}"


def font(text: str, size: int) -> Any:
    """Pillow's own font; beyond Latin-1 DejaVu Sans, which matplotlib ships (Greek, Cyrillic ...)."""
    return _font(all(ord(letter) < 256 or letter == "…" for letter in text), size)


@lru_cache(maxsize=32)
def _font(latin: bool, size: int) -> Any:
    if latin:
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def color(index: int) -> Color:
    """The color of a class; the first ones differ most."""
    return palette()[index % COLORS]


def palette() -> tuple[Color, ...]:
    """80 colors, each as far as can be from all before it."""
    return distinct_colors(COLORS, FIRST)


def _contrast(color: Color) -> Color:
    """Black on light colors, white on dark ones."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)
