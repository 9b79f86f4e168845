"""Where a photo lies in the input that is made of it, and the way back for points, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from visiontl.errors import ConfigError
from visiontl.kit.images import fit_image, resampling, shown_part
from visiontl.spec import ImageSpec

GRAY = (114, 114, 114)  # RGB 0..255 of what lies outside a photo in a letterbox; YOLO's choice


@dataclass(frozen=True)
class Window:
    """The part of a photo that an input shows, edge to edge; it may reach beyond the photo, where padding is.

    photo, shown: (H, W) in pixels of the photo and of the input. left, top, right, bottom: in pixels of the photo.
    Coordinates are continuous: a pixel's center is at + 0.5, and the right edge of a photo of W pixels is at W.
    """

    photo: tuple[int, int]
    shown: tuple[int, int]
    left: float
    top: float
    right: float
    bottom: float

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the photo per pixel of the input, (across, down)."""
        return (self.right - self.left) / self.shown[1], (self.bottom - self.top) / self.shown[0]

    def points_of_photo(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) x and y in pixels of the input -> the same in pixels of the photo."""
        return np.asarray(points, dtype=float) * self.scale + (self.left, self.top)

    def points_of_input(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) x and y in pixels of the photo -> the same in pixels of the input."""
        return (np.asarray(points, dtype=float) - (self.left, self.top)) / self.scale

    def boxes_of_photo(self, boxes: np.ndarray) -> np.ndarray:
        """(..., 4) left, top, right, bottom in pixels of the input -> in pixels of the photo, cut off at its edges."""
        height, width = self.photo
        corners = self.points_of_photo(np.asarray(boxes, dtype=float).reshape(*np.shape(boxes)[:-1], 2, 2))
        return corners.clip(0, (width, height)).reshape(np.shape(boxes))

    def boxes_of_input(self, boxes: np.ndarray) -> np.ndarray:
        """(..., 4) left, top, right, bottom in pixels of the photo -> in pixels of the input."""
        corners = np.asarray(boxes, dtype=float).reshape(*np.shape(boxes)[:-1], 2, 2)
        return self.points_of_input(corners).reshape(np.shape(boxes))

    def mask_of_photo(self, mask: np.ndarray, outside: int = 0) -> np.ndarray:
        """(H, W) uint8 of the input -> (H, W) uint8 of the photo, by the nearest pixel; outside: where the input shows
        nothing of the photo."""
        (across, down), (height, width) = self.scale, self.photo
        back = (1 / across, 0.0, -self.left / across, 0.0, 1 / down, -self.top / down)
        picture = Image.fromarray(np.asarray(mask, dtype=np.uint8))
        made = picture.transform((width, height), Image.Transform.AFFINE, back, fillcolor=outside)
        return np.asarray(made)

    def mask_of_input(self, mask: np.ndarray, outside: int = 0) -> np.ndarray:
        """(H, W) uint8 of the photo -> (H, W) uint8 of the input, by the nearest pixel; outside: where padding is."""
        (across, down), (height, width) = self.scale, self.shown
        picture = Image.fromarray(np.asarray(mask, dtype=np.uint8))
        there = (across, 0.0, self.left, 0.0, down, self.top)
        return np.asarray(picture.transform((width, height), Image.Transform.AFFINE, there, fillcolor=outside))


def fitted(image: Image.Image, spec: ImageSpec) -> tuple[Image.Image, Window]:
    """`fit_image(image, spec)`, the weights' own resize and center crop, and what it shows."""
    size = image.height, image.width
    return fit_image(image, spec), Window(size, spec.size, *shown_part(size, spec))


def stretched(image: Image.Image, spec: ImageSpec) -> tuple[Image.Image, Window]:
    """The whole photo, stretched to the input: nothing is cut off, forms change."""
    height, width = spec.size
    window = Window((image.height, image.width), spec.size, 0, 0, image.width, image.height)
    return image.resize((width, height), resampling(spec)), window


def letterbox(image: Image.Image, spec: ImageSpec, fill: tuple[int, int, int] = GRAY) -> tuple[Image.Image, Window]:
    """The whole photo in the middle of the input, its form kept; `fill` around it. Raises ConfigError for an input
    without pixels."""
    height, width = spec.size
    if min(height, width) < 1:
        raise ConfigError(f"an input of {height} x {width} pixels shows nothing")
    share = min(width / image.width, height / image.height)  # pixels of the input per pixel of the photo
    inside = max(1, round(image.width * share)), max(1, round(image.height * share))
    left, top = (width - inside[0]) // 2, (height - inside[1]) // 2
    made = Image.new("RGB", (width, height), fill)
    made.paste(image.resize(inside, resampling(spec)), (left, top))
    across, down = image.width / inside[0], image.height / inside[1]  # rounding makes them differ by a little
    edges = -left * across, -top * down, (width - left) * across, (height - top) * down
    return made, Window((image.height, image.width), spec.size, *edges)
