"""Masks on photos, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from visiontl_segmentation.masks import IGNORED

SMALLEST = 320  # pixels; a picture with a shorter side is enlarged before a mask is laid on it
LARGEST = 4096  # pixels; no longer side is enlarged beyond it
STRENGTH = 0.55  # of the colors over the photo, 0..1
RIGHT, WRONG = (86, 180, 233), (230, 90, 0)  # safe for the color-blind

Color = tuple[int, int, int]


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The photo under the colors of its predicted classes, with a legend beside it; small photos are enlarged.

    The background keeps the photo's colors. prediction: {"mask": palette image of the photo's size}.
    """
    mask = np.asarray(prediction["mask"])
    factor = enlarged(image)
    photo = image.convert("RGB").resize((image.width * factor, image.height * factor), Image.Resampling.BILINEAR)
    mask = mask.repeat(factor, 0).repeat(factor, 1)
    return with_legend(overlay(photo, mask, meta), mask, meta)


def enlarged(image: Image.Image) -> int:
    """By how much a small picture is enlarged; 1 for others."""
    shorter = min(image.size)
    return max(1, min(-(-SMALLEST // shorter), LARGEST // max(image.size))) if shorter < SMALLEST else 1


def overlay(photo: Image.Image, mask: np.ndarray, meta: Mapping[str, Any]) -> Image.Image:
    """RGB photo and its (H, W) mask -> the photo tinted; background and ignored pixels are left as they are."""
    shown = (mask != IGNORED) & (mask != (IGNORED if meta["background"] is None else meta["background"]))
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(meta["colors"])] = meta["colors"]
    tinted = Image.blend(photo, Image.fromarray(table[mask]), STRENGTH)
    return Image.composite(tinted, photo, Image.fromarray(shown.astype(np.uint8) * 255))


def verdict(photo: Image.Image, guess: np.ndarray, truth: np.ndarray) -> Image.Image:
    """Where a guess is right (blue), wrong (orange), and not judged (as the photo is)."""
    colors = np.where((guess == truth)[..., None], np.array(RIGHT, np.uint8), np.array(WRONG, np.uint8))
    tinted = Image.blend(photo, Image.fromarray(colors), STRENGTH)
    return Image.composite(tinted, photo, Image.fromarray((truth != IGNORED).astype(np.uint8) * 255))


def with_legend(
    picture: Image.Image, mask: np.ndarray, meta: Mapping[str, Any], other: np.ndarray | None = None
) -> Image.Image:
    """The picture with a panel to the right: color, name and share of the pixels of each class that is there, the
    largest first, as many as there is room for, then the ignored ones. other: a mask whose classes are listed too,
    without a share where `mask` has none of them."""
    counts = np.bincount(mask.ravel(), minlength=256)
    there = counts > 0 if other is None else (counts > 0) | (np.bincount(other.ravel(), minlength=256) > 0)
    classes = len(meta["classes"])
    order = [k for k in np.argsort(-counts[:classes], kind="stable").tolist() if there[k]]
    size = min(max(12, picture.height // 28), 64)
    line = round(size * 1.6)
    room = max(1, (picture.height - size) // line)
    shares = [f"{counts[k] / mask.size:.1%}" if counts[k] else "-" for k in order]
    entries = [
        (legend_color(k, meta), f"{meta['classes'][k]}  {share}") for k, share in zip(order, shares, strict=True)
    ]
    if counts[IGNORED]:
        entries.append(((255, 255, 255), f"(ignored)  {counts[IGNORED] / mask.size:.1%}"))
    if len(entries) > room:
        left = len(entries) - room + 1
        entries = [*entries[: room - 1], ((255, 255, 255), f"{left} more")]
    return beside(picture, entries, size, line)


def legend_color(k: int, meta: Mapping[str, Any]) -> Color:
    return tuple(meta["colors"][k]) if k != meta["background"] else (255, 255, 255)


def beside(picture: Image.Image, entries: Sequence[tuple[Color, str]], size: int, line: int) -> Image.Image:
    texts = [shortened(text, size, 16 * size) for _, text in entries]
    widest = max((font(text, size).getlength(text) for text in texts), default=0)
    canvas = Image.new("RGB", (picture.width + round(widest) + 3 * size, picture.height), (255, 255, 255))
    canvas.paste(picture, (0, 0))
    pen = ImageDraw.Draw(canvas)
    x = picture.width + size // 2
    for number, ((color, _), text) in enumerate(zip(entries, texts, strict=True)):
        y = size // 2 + number * line
        pen.rectangle((x, y, x + size, y + size), fill=color, outline=(90, 90, 90))
        pen.text((x + round(1.5 * size), y + size / 2), text, font=font(text, size), fill=(0, 0, 0), anchor="lm")
    return canvas


def shortened(text: str, size: int, width: int) -> str:
    """One line that fits: letters go from the name's end, the share after it stays."""
    text = "".join(letter if letter.isprintable() else " " for letter in text)[:400]
    face = font(text, size)
    name, gap, share = text.rpartition("  ")
    if not gap:
        name, share = text, ""
    while len(name) > 1 and face.getlength(text) > width:
        name = name[:-1]
        text = f"{name}…{gap}{share}"
    return text


def font(text: str, size: int) -> Any:
    """Pillow's own font; beyond Latin-1 DejaVu Sans, which matplotlib ships (Greek, Cyrillic ...)."""
    return _font(all(ord(letter) < 256 or letter == "…" for letter in text), size)


@lru_cache(maxsize=32)
def _font(latin: bool, size: int) -> Any:
    if latin:
        return ImageFont.load_default(size)
    import matplotlib

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
