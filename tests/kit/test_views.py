"""Random changes of image, boxes and mask: they move together, and chance follows the seed alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from visiontl import ImageSpec, seeded
from visiontl.kit.views import Scene, evaluation_view, moved, random_part

BOX = (10, 6, 22, 15)  # of the bright block, class 1 of the mask


def scene(extra_box: tuple[int, ...] | None = None) -> Scene:
    """A bright block on black, its box, and a mask of it."""
    pixels = np.zeros((30, 40), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 200
    boxes = np.array([BOX, *([extra_box] if extra_box else [])], dtype=np.float64)
    return Scene(torch.from_numpy(pixels).repeat(3, 1, 1), boxes, np.arange(5, 5 + len(boxes)), pixels // 200)


def parts(made: Scene) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    assert made.boxes is not None
    assert made.labels is not None
    assert made.mask is not None
    return made.image.numpy(), made.boxes, made.labels, made.mask


def test_a_mirrored_scene_by_hand():
    image, boxes, labels, mask = parts(moved(scene(), v2.RandomHorizontalFlip(p=1.0)))
    before = scene()
    assert before.mask is not None
    assert np.array_equal(image, before.image.numpy()[:, :, ::-1])
    assert boxes.tolist() == [[40 - 22, 6, 40 - 10, 15]]
    assert labels.tolist() == [5]
    assert np.array_equal(mask, before.mask[:, ::-1])


@pytest.mark.parametrize("transform", [v2.RandomCrop(20), v2.RandomAffine(0, (0.2, 0.2)), v2.RandomRotation((90, 90))])
def test_pixels_boxes_and_mask_move_together(transform):
    for seed in range(20):
        image, boxes, _, mask = parts(moved(scene(), transform, v2.ClampBoundingBoxes(), seed=seed))
        assert np.array_equal(image[0] // 200, mask)
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert boxes.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]


def test_masks_are_never_blended():
    whole = scene()
    assert whole.mask is not None
    image, _, _, mask = parts(moved(Scene(whole.image, whole.boxes, whole.labels, whole.mask * 7), v2.Resize((41, 53))))
    assert set(np.unique(mask)) == {0, 7}
    assert len(np.unique(image)) > 2  # those of the image are


def test_labels_go_with_their_boxes():
    cut = v2.CenterCrop((18, 40))  # rows 6 to 24
    made = moved(scene((30, 25, 39, 29)), cut, v2.SanitizeBoundingBoxes())
    assert parts(made)[1].tolist() == [[10, 0, 22, 9]]
    assert parts(made)[2].tolist() == [5]


def test_chance_is_a_function_of_the_seed_and_leaves_other_generators_alone():
    change = (v2.RandomPhotometricDistort(p=1.0), v2.RandomResizedCrop((16, 16), antialias=True))
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    one, again, other = (moved(scene(), *change, seed=seed) for seed in (3, 3, 4))
    assert (torch.rand(1), np.random.rand(), random.random()) == expected
    for a, b, c in zip(parts(one), parts(again), parts(other), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == c.dtype
    assert not torch.equal(one.image, other.image)
    with seeded(3):
        assert torch.equal(moved(scene(), *change).image, one.image)  # goes on where the caller's block is


def test_what_is_not_there_stays_away():
    made = moved(Scene(scene().image), v2.RandomHorizontalFlip(p=1.0))
    assert (made.boxes, made.labels, made.mask) == (None, None, None)
    nothing = moved(Scene(scene().image, np.zeros((0, 4)), np.zeros(0, dtype=np.int64)), v2.RandomCrop(8))
    assert parts(Scene(nothing.image, nothing.boxes, nothing.labels, np.zeros(1)))[1].shape == (0, 4)


def test_a_random_part_has_its_share_and_shape():
    x, y = np.meshgrid(np.arange(200), np.arange(100))
    photo = Image.fromarray(np.stack([x, y, x * 0], -1).astype(np.uint8))
    seen = set()
    for seed in range(40):
        with seeded(seed):
            part = random_part(photo, (0.2, 0.5), (0.5, 2.0))
        pixels: Any = np.asarray(part)
        assert 0.18 <= part.width * part.height / 20_000 <= 0.52
        assert 0.48 <= part.width / part.height <= 2.1
        left, top = int(pixels[0, 0, 0]), int(pixels[0, 0, 1])
        assert pixels[-1, -1].tolist() == [left + part.width - 1, top + part.height - 1, 0]  # cut out, not resized
        seen.add((left, top, *part.size))
    assert len(seen) > 30


def test_the_evaluation_view_is_the_weights_own():
    view = evaluation_view(Image.new("RGB", (200, 100), (9, 8, 7)), ImageSpec(size=(32, 48)))
    assert (view["image"].shape, view["image"].dtype, view["size"]) == ((3, 32, 48), torch.uint8, (100, 200))
    assert view["image"][:, 5, 5].tolist() == [9, 8, 7]
