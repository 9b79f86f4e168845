"""Where a photo lies in its input, held against marks that are found again in the pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from visiontl import ImageSpec
from visiontl.kit.images import fit_image
from visiontl.kit.windows import Window, fitted, letterbox, stretched

SIZES = [(300, 200), (200, 300), (97, 251), (64, 64), (640, 480)]  # (W, H)
SPEC = ImageSpec(size=(96, 128), crop=0.8)


def marked(size: tuple[int, int]) -> tuple[Image.Image, np.ndarray]:
    """A black photo with a white disc, and the disc's center (x, y)."""
    width, height = size
    x, y = 0.45 * width, 0.56 * height
    down, across = np.mgrid[0:height, 0:width] + 0.5
    inside = (across - x) ** 2 + (down - y) ** 2 < (0.08 * min(size)) ** 2
    return Image.fromarray(np.repeat(inside[..., None] * np.uint8(255), 3, 2)), np.array([x, y])


def center(image: Image.Image) -> np.ndarray:
    """(x, y) of the center of mass of what is white, of pixels' centers."""
    light = (np.asarray(image.convert("L"), dtype=float) - 114).clip(0)
    down, across = np.mgrid[0 : light.shape[0], 0 : light.shape[1]] + 0.5
    return np.array([(light * across).sum(), (light * down).sum()]) / light.sum()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [fitted, stretched, letterbox])
def test_a_mark_is_where_the_window_says(make, size):
    photo, mark = marked(size)
    made, window = make(photo, SPEC)
    assert made.size == (128, 96)
    assert window.photo == (size[1], size[0])
    found = center(made)
    assert np.abs(window.points_of_input(mark) - found).max() < 0.6  # pixels of the input
    assert np.abs(window.points_of_photo(found) - mark).max() < 0.6 * max(window.scale)
    np.testing.assert_allclose(window.points_of_photo(window.points_of_input(mark)), mark)


def test_fitted_is_fit_image_and_a_letterbox_keeps_the_form():
    photo, _ = marked((300, 200))
    assert fitted(photo, SPEC)[0].tobytes() == fit_image(photo, SPEC).tobytes()
    made, window = letterbox(photo, SPEC, fill=(10, 20, 30))
    assert window.scale == pytest.approx((300 / 128, 200 / 85))  # 85.33 rows, rounded
    assert made.getpixel((0, 0)) == made.getpixel((127, 95)) == (10, 20, 30)
    assert window.left == 0
    assert window.top < 0


def test_boxes_go_there_and_back_and_end_at_the_edge():
    window = Window((200, 300), (96, 128), 0, -12.5, 300, 212.5)
    boxes = np.array([[10.0, 20.0, 110.0, 90.0], [0.0, 0.0, 300.0, 200.0]])
    there = window.boxes_of_input(boxes)
    assert there[1].tolist() == pytest.approx([0, 12.5 / 225 * 96, 128, 212.5 / 225 * 96])
    np.testing.assert_allclose(window.boxes_of_photo(there), boxes)
    assert window.boxes_of_photo(np.array([-5.0, -5.0, 500.0, 500.0])).tolist() == [0, 0, 300, 200]
    assert window.boxes_of_photo(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("make", [fitted, stretched, letterbox])
def test_masks_go_there_and_back(make):
    """What the input shows comes back but for a pixel at edges; what it does not show is `outside`."""
    photo, _ = marked((300, 200))
    mask = (np.asarray(photo)[..., 0] > 0).astype(np.uint8)  # (H, W)
    _, window = make(photo, SPEC)
    back = window.mask_of_photo(window.mask_of_input(mask, outside=9), outside=7)
    assert back.shape == mask.shape
    seen = back != 7
    assert set(np.unique(back)) <= {0, 1, 7}
    assert (back[seen] == mask[seen]).mean() > 0.99
    assert seen.mean() == pytest.approx(1 if make is not fitted else 0.8 * 0.8 * (4 / 3) / 1.5, abs=0.02)
