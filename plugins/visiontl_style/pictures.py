"""Style pictures: found, opened, brought to size, and carried in meta as base64 PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.folders import find_images, near
from visiontl.kit.images import open_image
from visiontl.kit.words import told

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 64  # pixels of a style picture's shorter side: below, there are no strokes to learn
LONGEST = 2.0  # longer side / shorter side that is kept; the middle of a longer strip
FLAT = 2.0  # levels of 255: standard deviation of the brightness below which a picture shows nothing
GRAY = 3  # levels of 255: largest difference of a pixel's colors that still is gray


def pictures_in(paths: Sequence[str], key: str) -> tuple[list[str], list[str]]:
    """The files that `kit.folders.find_images` finds, and its notes."""
    found, notes = find_images(paths, key)
    return [str(file) for file in found], notes


def open_style(path: str | Path, key: str = "style") -> tuple[Image.Image, list[str]]:
    """A style picture, RGB, and what of it should be known. Raises DataError naming key and file for one that is
    missing, too small, or shows one color only."""
    path = Path(path).expanduser()
    if not path.exists():
        raise DataError(f"{key}: {told(path)}: no such file{near(path)}")
    try:
        image = open_image(path)
    except DataError as error:
        raise DataError(f"{key}: {error}") from None
    return image, said_of(image, str(path), key)


def said_of(image: Image.Image, name: str, key: str) -> list[str]:
    """Notes on an opened style picture; raises DataError for one that cannot serve."""
    if min(image.size) < LEAST:
        raise DataError(
            f"{key}: {name}: has {image.width} x {image.height} pixels; a style picture needs {LEAST} on a side"
        )
    small = image.copy()
    small.thumbnail((256, 256))
    pixels = np.asarray(small, dtype=np.int16)  # (h, w, 3)
    if pixels.std((0, 1)).max() < FLAT:
        raise DataError(f"{key}: {name}: shows one color only; there are no strokes to learn")
    notes = []
    if np.ptp(pixels, axis=2).max() <= GRAY:
        notes.append(f"{name}: is gray, and results will be; keep_colors=true at prediction keeps the photo's colors")
    if transparent(name):
        notes.append(f"{name}: has transparency, which is put on white; the white is learned as a part of the style")
    return notes


def transparent(name: str) -> bool:
    try:
        with Image.open(name) as image:
            return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    except Exception:  # what is opened here was read before, or is no file
        return False


def sized(image: Image.Image, short: int) -> Image.Image:
    """The picture with this shorter side, in pixels; of a strip the middle."""
    long = int(min(image.size) * LONGEST)
    if max(image.size) > long:
        left, top = (max(0, side - long) // 2 for side in image.size)
        image = image.crop((left, top, left + min(image.width, long), top + min(image.height, long)))
    scale = short / min(image.size)
    size = max(short, round(image.width * scale)), max(short, round(image.height * scale))
    return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def encoded(image: Image.Image) -> str:
    """Base64 PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def as_picture(text: str) -> Image.Image:
    """Base64 PNG -> an RGB PIL image."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
        return image.convert("RGB")


def decoded(text: str) -> Tensor:
    """Base64 PNG -> (3, h, w) uint8."""
    from visiontl.kit.images import to_tensor

    return to_tensor(as_picture(text))


def named(files: Sequence[str]) -> list[str]:
    """A short name for each file: its stem, numbered where two have the same."""
    names: list[str] = []
    for file in files:
        stem, number = Path(file).stem, 2
        name = stem
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def to_pil(image: Tensor) -> Any:
    """(3, H, W) 0..1 -> an RGB PIL image."""
    import torch

    pixels = (image.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
