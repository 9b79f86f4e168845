"""Pictures for people: boxes with labels, masks with a legend, captions, sheets; colors that the eye tells apart.

Pictures are RGB PIL images; lines and letters grow with them. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]  # sRGB 0..255
Box = tuple[float, float, float, float]  # x1 y1 x2 y2 in pixels of the picture

SMALLEST = 320  # pixels; a picture with a shorter side is enlarged before it is drawn on
LARGEST = 4096  # pixels; no longer side is enlarged beyond it: a strip of 100,000 x 1 would fill the memory
STRENGTH = 0.55  # of colors over a photo, 0..1
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
RIGHT, WRONG, MISSED = (86, 180, 233), (230, 90, 0), (250, 225, 60)  # safe for the color-blind
CLASS_COLORS, FIRST_COLOR = 80, (232, 70, 46)  # of classes: how many there are, and the first, a red
LEGEND_LINES = 12  # of a legend, in each of its columns
GRAY, DARK, LIGHT = 30, 35, 92  # CIELAB: least chroma, least and most lightness (of 100) of a color that is drawn


@lru_cache(maxsize=16)
def distinct_colors(number: int, first: tuple[int, int, int], levels: int = 12) -> tuple[tuple[int, int, int], ...]:
    """This many sRGB colors (0..255), each as far as can be in CIELAB (its Euclidean distance) from all before it.

    They are taken from a grid of `levels` values a channel; grays, very dark and very light ones are left out.
    first: what to begin with; the nearest one of the grid is taken. Raises ValueError where the grid holds fewer.
    """
    steps = np.linspace(0, 255, levels).round()
    rgb = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)  # (levels ** 3, 3)
    lab = cielab(rgb)
    usable = (np.hypot(lab[:, 1], lab[:, 2]) > GRAY) & (lab[:, 0] > DARK) & (lab[:, 0] < LIGHT)
    rgb, lab = rgb[usable], lab[usable]
    if not 0 < number <= len(rgb):
        raise ValueError(f"{number} colors asked of {len(rgb)} on a grid of {levels} levels; take more levels")
    chosen = [int(((rgb - first) ** 2).sum(1).argmin())]
    distance = np.full(len(rgb), np.inf)  # squared, to the nearest chosen one
    while len(chosen) < number:
        distance = np.minimum(distance, ((lab - lab[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return tuple((int(r), int(g), int(b)) for r, g, b in rgb[chosen])


def class_color(index: int) -> Color:
    """The color of a class, by its place among the model's classes alone: the same in every picture, chart and split.
    80 are told apart, the first ones best; further classes begin again."""
    return distinct_colors(CLASS_COLORS, FIRST_COLOR)[index % CLASS_COLORS]


def cielab(rgb: np.ndarray) -> np.ndarray:
    """(N, 3) sRGB 0..255 (IEC 61966-2-1) -> (N, 3) CIELAB under D65 (CIE 15:2004, section 8.2.1)."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / (0.9505, 1.0, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def contrast(color: Color) -> Color:
    """Black on light colors, white on dark ones."""
    luminance = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]
    return BLACK if luminance > 140 else WHITE


def enlarged(image: Image.Image, smallest: int = SMALLEST) -> tuple[Image.Image, int]:
    """An RGB copy, each of its pixels repeated where it is small, and how often."""
    picture = image.convert("RGB") if image.mode != "RGB" else image.copy()
    factor = enlargement(image, smallest)
    size = (picture.width * factor, picture.height * factor)
    return picture if factor == 1 else picture.resize(size, Image.Resampling.NEAREST), factor


def enlargement(image: Image.Image, smallest: int = SMALLEST) -> int:
    """By how much a picture with a shorter side than `smallest` is enlarged; 1 for others."""
    shorter = min(image.size)
    return max(1, min(-(-smallest // shorter), LARGEST // max(image.size))) if shorter < smallest else 1


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def font(text: str, size: int) -> Font:
    """Pillow's own font; beyond Latin-1 DejaVu Sans, which matplotlib ships (Greek, Cyrillic ...). size: pixels."""
    return _font(all(ord(letter) < 256 or letter == "…" for letter in text), size)


@lru_cache(maxsize=32)
def _font(latin: bool, size: int) -> Font:
    if latin:
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def shortened(text: str, size: int, width: int) -> str:
    """One line of at most `width` pixels: letters go from the end of the name, a number two blanks after it stays."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    letters = font(text, size)
    if letters.getlength(text) <= width:
        return text
    name, gap, number = text.rpartition("  ")
    if not gap:
        name, number = text, ""
    name = name[:400]  # measuring costs time with the square of the length
    while len(name) > 1 and letters.getlength(f"{name}…{gap}{number}") > width:
        name = name[:-1]
    return f"{name}…{gap}{number}"


@dataclass(frozen=True)
class Shape:
    """A box to be drawn. text: on its tag, none where empty."""

    box: Box
    color: Color
    text: str = ""
    dashed: bool = False


def put_boxes(picture: Image.Image, shapes: Sequence[Shape], letters: int = 38) -> Image.Image:
    """Draws on the picture itself. The first shape is the most important: drawn last, its tag placed first.

    letters: how often a tag's letters fit into the shorter side, one above the other; fewer are larger.
    """
    width = max(2, round(min(picture.size) / 250))
    pen = ImageDraw.Draw(picture)
    for shape in reversed(shapes):
        _frame(pen, shape, width)
    size = min(max(12, min(picture.size) // letters), 96)  # pixels
    placed: list[Box] = []
    for shape in shapes:
        if shape.text:
            margin = max(2, size // 5)
            text = shortened(shape.text, size, picture.width - 2 * margin)
            extent = round(font(text, size).getlength(text)) + 2 * margin, round(size * 1.25) + 1
            x, y, _, _ = tag = _free_place(shape.box, extent, width, picture.size, placed)
            pen.rectangle((x, y, tag[2] - 1, tag[3] - 1), fill=shape.color)
            place = x + margin, y + extent[1] / 2
            pen.text(place, text, font=font(text, size), fill=contrast(shape.color), anchor="lm")
            placed.append(tag)
    return picture


def _frame(pen: ImageDraw.ImageDraw, shape: Shape, width: int) -> None:
    """A line of this width along the inside of the box, with a contrasting one of a pixel around it."""
    x1, y1, x2, y2 = (round(side) for side in shape.box)
    x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)  # the last pixel inside
    around = contrast(shape.color)
    if shape.dashed:
        for start, end in _dashes((x1, y1, x2, y2), 4 * width):
            pen.line((start, end), fill=around, width=width + 2)
            pen.line((start, end), fill=shape.color, width=width)
        return
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=around)
    inner = (x1 + width, y1 + width, x2 - width, y2 - width)
    if inner[0] <= inner[2] and inner[1] <= inner[3]:
        pen.rectangle(inner, outline=around)
    pen.rectangle((x1, y1, x2, y2), outline=shape.color, width=width)


def _dashes(box: tuple[int, int, int, int], length: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Dashes of this length, with gaps as long, along the four sides; 500 a side at most."""
    x1, y1, x2, y2 = box
    made: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for low, high, upright in ((x1, x2, False), (y1, y2, True)):
        step = max(2 * length, -(-(high - low) // 500))
        for start in range(low, high + 1, step):
            end = min(start + step // 2, high)
            for across in (x1, x2) if upright else (y1, y2):
                made.append(((across, start), (across, end)) if upright else ((start, across), (end, across)))
    return made


def _free_place(
    box: Box, extent: tuple[int, int], line: int, picture: tuple[int, int], placed: Sequence[Box]
) -> tuple[int, int, int, int]:
    """Where in the picture a tag of this width and height covers least: above the box if it can."""
    width, height = extent
    x1, y1, x2, y2 = box
    above, below = y1 - height - 1, y2 + 1
    spots = [
        (x1, above), (x2 - width, above), (x1, below), (x2 - width, below),
        (x2 + 1, y1), (x1 - width - 1, y1), (x2 + 1, y2 - height), (x1 - width - 1, y2 - height),
        (x1 + line, y1 + line), (x1 + line, y2 - line - height),
        (x2 - line - width, y1 + line), (x2 - line - width, y2 - line - height),
    ]  # fmt: skip
    corners = np.array([(_within(x, width, picture[0]), _within(y, height, picture[1])) for x, y in spots])  # (12, 2)
    tags = np.concatenate([corners, corners + np.array([width, height])], axis=1)
    cost = 4.0 * _overlap(tags, placed) + _overlap(tags, [box])  # a hidden tag is worse than a hidden object
    left, top, right, bottom = tags[int(cost.argmin())].tolist()
    return left, top, right, bottom


def _within(start: float, length: int, end: int) -> int:
    return max(0, min(round(start), end - length))


def _overlap(tags: np.ndarray, boxes: Sequence[Box]) -> np.ndarray:
    """(N,) pixels that each of N rectangles shares with the boxes, those shared with several counted as often."""
    if not boxes:
        return np.zeros(len(tags))
    others = np.asarray(boxes, dtype=np.float64)
    low = np.maximum(tags[:, None, :2], others[None, :, :2])  # (N, M, 2)
    high = np.minimum(tags[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(2).sum(1)


def tinted(photo: Image.Image, colors: np.ndarray, where: np.ndarray) -> Image.Image:
    """The photo under (H, W, 3) uint8 colors, on the pixels of (H, W) bool; elsewhere as it is."""
    blended = Image.blend(photo, Image.fromarray(colors), STRENGTH)
    return Image.composite(blended, photo, Image.fromarray(np.where(where, np.uint8(255), np.uint8(0))))


def with_legend(picture: Image.Image, entries: Sequence[tuple[Color, str]]) -> Image.Image:
    """The picture above a list of colors and their texts, in one column or two: as many as LEGEND_LINES lines hold, the
    others counted. Letters are a 26th of the picture's width, so they can be read where it is shown 320 pixels wide."""
    size = min(max(12, round(picture.width / 26)), 160)  # pixels
    width = max(picture.width, 16 * size)
    columns = 2 if len(entries) > 1 and width >= 24 * size else 1
    room = columns * LEGEND_LINES
    if len(entries) > room:
        entries = [*entries[: room - 1], (WHITE, f"{len(entries) - room + 1} more")]
    line, lines = round(size * 1.6), -(-len(entries) // columns)
    height = lines * line + size if entries else 0
    canvas = Image.new("RGB", (width, picture.height + height), WHITE)
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    pen = ImageDraw.Draw(canvas)
    for number, (color, text) in enumerate(entries):
        x, y = number // lines * (width // columns), picture.height + size // 2 + number % lines * line
        place, end = (x + size // 2, y, x + size // 2 + size, y + size), width // columns - 2.5 * size
        pen.rectangle(place, fill=color, outline=(90, 90, 90))
        text = shortened(text, size, round(end))
        pen.text((x + 2 * size, y + size / 2), text, font=font(text, size), fill=BLACK, anchor="lm")
    return canvas


def panels(parts: Sequence[tuple[str, Image.Image]], columns: int = 2, gap: int = 6) -> Image.Image:
    """Pictures beside each other, `columns` in a row, each below its words: truth | prediction.

    All are as wide as the widest; letters are a 14th of that, so they can be read where two are shown 320 pixels wide.
    """
    widest = max(picture.width for _, picture in parts)
    size = max(12, round(widest / 14))  # pixels
    made: list[Image.Image] = []
    for words, picture in parts:
        scale = widest / picture.width
        if scale != 1:
            picture = picture.resize((widest, max(1, round(picture.height * scale))))
        canvas = Image.new("RGB", (widest, picture.height + round(1.5 * size)), WHITE)
        canvas.paste(picture.convert("RGB"), (0, round(1.5 * size)))
        text = shortened(words, size, widest)
        ImageDraw.Draw(canvas).text((0, round(0.75 * size)), text, font=font(text, size), fill=BLACK, anchor="lm")
        made.append(canvas)
    return sheet([made[i : i + columns] for i in range(0, len(made), columns)], gap=gap)


def put_lines(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """Writes on the picture itself: lines in a dark box at its top left."""
    size = max(14, min(picture.size) // 14)  # pixels
    margin = size // 3
    lines = [shortened(text, size, picture.width - 2 * margin) for text in lines]
    height = round(size * 1.3)
    width = max((round(font(text, size).getlength(text)) for text in lines), default=0)
    pen = ImageDraw.Draw(picture, "RGBA")
    pen.rectangle((0, 0, min(picture.width, width + 2 * margin), height * len(lines) + margin), fill=(0, 0, 0, 190))
    for i, text in enumerate(lines):
        pen.text((margin, margin // 2 + i * height), text, font=font(text, size), fill="white")
    return picture


def sheet(rows: Sequence[Sequence[Image.Image | None]], cell: tuple[int, int] = (1, 1), gap: int = 6) -> Image.Image:
    """Pictures in rows and columns on white, each in the middle of its cell.

    A column is as wide, and a row as high, as its largest picture and at least as `cell` (width, height in pixels).
    """
    columns = max(map(len, rows))
    heights = [max([cell[1], *(one.height for one in row if one is not None)]) for row in rows]
    widths = [
        max([cell[0], *(row[x].width for row in rows if x < len(row) and row[x] is not None)])  # type: ignore[union-attr]
        for x in range(columns)
    ]
    made = Image.new("RGB", (sum(widths) + gap * (columns - 1), sum(heights) + gap * (len(rows) - 1)), WHITE)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                left = sum(widths[:x]) + gap * x + (widths[x] - picture.width) // 2
                top = sum(heights[:y]) + gap * y + (heights[y] - picture.height) // 2
                made.paste(picture, (left, top))
    return made
