"""How a photo becomes the input of an exported graph, as the run's evaluation does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from visiontl.errors import DataError
from visiontl.kit.images import LONGEST, fitting, without_far_ends
from visiontl.kit.strips import values

Size = tuple[int, int]  # (height, width) in pixels
AREA = 1 << 27  # pixels of an input, whose values take 1.5 GiB
Resize = Callable[[Image.Image, Size, str], np.ndarray]
"""(RGB photo, (h, w), interpolation) -> (h, w, 3) uint8."""


@dataclass(frozen=True)
class Shown:
    """A photo as the graph takes it. image: (1, 3, H, W) float32 of 0..1; extent: (h, w) of the photo in it, at the
    upper left; photo: (H, W) of the photo itself, upright."""

    image: np.ndarray
    extent: Size
    photo: Size


def by_pillow(image: Image.Image, size: Size, interpolation: str) -> np.ndarray:
    """Antialiased, as the training resizes too, whose kernels round otherwise: of photos 0.3 % of the values differ, by
    1 or 2 of 255."""
    if size == (image.height, image.width):
        return values(image)
    return values(image.resize((size[1], size[0]), Image.Resampling[interpolation.upper()]))


def show(photo: Image.Image, view: Mapping[str, Any], fixed: Size | None, resize: Resize = by_pillow) -> Shown:
    """photo: RGB. view: of the description. fixed: (H, W) of a graph that takes no other."""
    own = (photo.height, photo.width)
    resize = by_pillow if view.get("by") == "pillow" else resize
    if view["resize"] == "crop":
        pixels = cropped(photo, view, resize)
        return Shown(as_input(pixels), pixels.shape[:2], own)
    target = shown_size(own, view)
    canvas = fixed or canvas_of(target, view.get("pad"))
    if canvas[0] < target[0] or canvas[1] < target[1]:  # of a graph of one size, where photos come in several
        target = inside(own, canvas)
    require_room(own, canvas)
    pixels = resize(photo, target, view["interpolation"])
    return Shown(as_input(padded(pixels, canvas, view.get("pad"))), target, own)


def require_room(photo: Size, shown: Size) -> None:
    """Raises DataError for a photo so long that what is shown of it would fill the memory."""
    if shown[0] * shown[1] > AREA:
        raise DataError(
            f"a photo of {photo[1]} x {photo[0]} pixels would be shown to the model as {shown[1]} x {shown[0]}; at "
            f"most {AREA:,} pixels were expected: cut it into pieces"
        )


def as_input(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 of 0..1."""
    return (np.ascontiguousarray(pixels.transpose(2, 0, 1))[None].astype(np.float32) / np.float32(255)).astype(
        np.float32
    )


def cropped(photo: Image.Image, view: Mapping[str, Any], resize: Resize) -> np.ndarray:
    """The weights' own evaluation preprocessing: (h, w, 3) uint8, resized and cut out of the middle."""
    height, width = view["size"]
    photo = without_far_ends(photo, LONGEST * max(height / width, width / height))
    across, (left, top) = fitting(photo.size, (height, width), view["crop"])
    pixels = resize(photo, (across[1], across[0]), view["interpolation"])
    return pixels[top : top + height, left : left + width]


def inside(photo: Size, size: Size) -> Size:
    """The largest of the photo's shape that fits into the size."""
    scale = min(size[0] / photo[0], size[1] / photo[1])
    return max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))


def shown_size(photo: Size, view: Mapping[str, Any]) -> Size:
    """(H, W) of a photo -> (h, w) that it is resized to."""
    if view["resize"] == "none":
        return photo
    if view["resize"] == "stretch":
        return view["size"][0], view["size"][1]
    if view["resize"] == "inside":
        return inside(photo, (view["size"][0], view["size"][1]))
    scale = view["short"] / min(photo)
    if view.get("long") is not None:
        scale = min(scale, view["long"] / max(photo))
    if view.get("pixels") is not None:
        scale = min(scale, max(1.0, math.sqrt(view["pixels"] / (photo[0] * photo[1]))))
    return max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))


def canvas_of(shown: Size, pad: Mapping[str, Any] | None) -> Size:
    """(h, w) of what is shown -> (H, W) that it is padded to."""
    if pad is None:
        return shown
    step = pad["multiple"]
    height, width = (-(-max(side, low) // step) * step for side, low in zip(shown, pad["least"], strict=True))
    return height, width


def padded(pixels: np.ndarray, canvas: Size, pad: Mapping[str, Any] | None) -> np.ndarray:
    """(h, w, 3) uint8 at the upper left of an image of the pad's color, or continued by its mirror image."""
    below, right = canvas[0] - pixels.shape[0], canvas[1] - pixels.shape[1]
    if not below and not right:
        return pixels
    color = (0, 0, 0) if pad is None else pad["color"]
    if color == "mirror":
        return np.pad(pixels, ((0, below), (0, right), (0, 0)), "reflect" if min(pixels.shape[:2]) > 1 else "edge")
    made = np.empty((*canvas, 3), dtype=np.float32 if any(one != int(one) for one in color) else np.uint8)
    made[:] = np.array(color)
    made[: pixels.shape[0], : pixels.shape[1]] = pixels
    return made
