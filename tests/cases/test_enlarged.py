"""`doctor` says "enlarged" only of pictures that are: measured against how they are prepared, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from visiontl import ImageSpec
from visiontl.doctor.scales import enlargement
from visiontl.kit.images import fit_tensor, to_tensor

SIDE = 96
WAYS = {  # how a task may bring a photo to its input: what it makes of (H, W), lesser of across and down
    "cropped": (
        lambda image: fit_tensor(image, ImageSpec(size=(SIDE, SIDE), crop=1.0)),
        lambda h, w: max(SIDE / h, SIDE / w),
    ),
    "letterboxed": (
        lambda image: to_tensor(ImageOps.pad(image, (SIDE, SIDE), color=(0, 0, 0))),
        lambda h, w: min(SIDE / h, SIDE / w),
    ),
    "padded": (
        lambda image: to_tensor(
            ImageOps.expand(image, (0, 0, max(0, SIDE - image.width), max(0, SIDE - image.height)))
        ),
        lambda h, w: 1.0,
    ),
    "stretched": (lambda image: to_tensor(image.resize((SIDE, SIDE))), lambda h, w: min(SIDE / h, SIDE / w)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [(48, 64), (64, 48), (60, 240), (300, 40), (90, 90), (200, 250)])
@pytest.mark.parametrize("real", [False, True])
def test_the_scale_is_measured_whatever_the_way(way, size, real):
    make, by_hand = WAYS[way]

    def prepare(image: Image.Image) -> dict[str, torch.Tensor]:
        pixels = make(image)
        return {"image": pixels.float() / 255 if real else pixels}

    found = enlargement(prepare, size)
    assert found is not None
    assert found == pytest.approx(by_hand(*size), rel=0.05)


def test_what_cannot_be_measured_is_none():
    assert enlargement(lambda image: {"other": 1}, (8, 8)) is None
    assert enlargement(lambda image: {"image": np.zeros((3, 8, 8))}, (8, 8)) is None
