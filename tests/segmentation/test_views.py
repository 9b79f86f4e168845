"""What the network is shown: photo and mask stay aligned, sizes are as asked, what is outside teaches nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.views import Frame, mean_color, sample, still_view, training_view

from visiontl import ImageSpec

SPEC = ImageSpec(size=(64, 96), mean=(0.5, 0.25, 0.75))
AUGMENT = {"scale": [0.5, 2.0], "rotate": 30, "flip": True}


def drawn(height: int = 120, width: int = 150) -> tuple[Image.Image, np.ndarray]:
    """A photo whose blocks have the color of their class: (60 * class, 0, 255)."""
    draw = np.random.default_rng(0)
    mask = np.kron(draw.integers(0, 4, (height // 30, width // 30)), np.ones((30, 30))).astype(np.uint8)
    pixels = np.stack([60 * mask, np.zeros_like(mask), np.full_like(mask, 255)], -1).astype(np.uint8)
    return Image.fromarray(pixels), mask


def config(**task) -> SegmentationConfig:
    return SegmentationConfig.model_validate({"data": ".", **task})


def agreement(image: torch.Tensor, mask: torch.Tensor) -> tuple[float, float]:
    """Shares: of pixels that count, how many have their class's color, within 25; and how many count."""
    valid = mask != 255
    off = (image[0].int() - 60 * mask.int()).abs()[valid]
    return float((off <= 25).float().mean()), float(valid.float().mean())


@pytest.mark.parametrize("resize", ["fit", "stretch", "original", 80])
@pytest.mark.parametrize(
    "augment", ["none", "light", {"scale": [0.5, 2.0]}, AUGMENT], ids=["none", "light", "scaled", "turned"]
)
def test_photo_and_mask_stay_together(resize, augment):
    photo, mask = drawn()
    view = training_view(config(resize=resize, augment=augment), SPEC)
    shares = []
    for seed in range(12):
        made = view(photo, mask, seed)
        assert made["image"].shape == (3, 64, 96)
        assert made["mask"].shape == (64, 96)
        assert made["image"].dtype == made["mask"].dtype == torch.uint8
        assert set(made["mask"].unique().tolist()) <= {0, 1, 2, 3, 255}, "masks are never blended"
        right, counted = agreement(made["image"], made["mask"])
        assert right > 0.85
        shares.append(counted)
    assert max(shares) > 0.6


def test_a_view_is_a_function_of_its_seed():
    photo, mask = drawn()
    view = training_view(config(augment={**AUGMENT, "color": 1.0}), SPEC)
    one, again, other = view(photo, mask, 3), view(photo, mask, 3), view(photo, mask, 4)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["image"], other["image"])


def test_a_crop_is_what_the_resized_photo_shows_there():
    """Cut before resizing, to rounding of the cut: every crop is found in the whole, resized photo."""
    photo, mask = drawn(240, 300)
    view = training_view(config(resize="original", augment={"flip": False}), SPEC)
    whole = np.asarray(photo)
    for seed in range(5):
        made = view(photo, mask, seed)
        image = made["image"].permute(1, 2, 0).numpy()
        places = [
            (top, left)
            for top in range(240 - 64 + 1)
            for left in range(0, 300 - 96 + 1)
            if (whole[top, left] == image[0, 0]).all() and (whole[top : top + 64, left : left + 96] == image).all()
        ]
        assert places
        assert any((mask[y : y + 64, x : x + 96] == made["mask"].numpy()).all() for y, x in places)


def test_padding_has_the_mean_color_and_is_ignored():
    photo, mask = drawn(60, 90)
    made = still_view(config(resize="original"), SPEC)(photo, mask, 0)
    assert made["image"].shape == (3, 64, 96)
    assert made["shown"] == made["size"] == (60, 90)
    assert made["image"][:, 63, 95].tolist() == mean_color(SPEC) == [128, 64, 191]
    assert (made["mask"][60:] == 255).all()
    assert (made["mask"][:, 90:] == 255).all()
    assert np.array_equal(made["mask"][:60, :90].numpy(), mask)
    assert np.array_equal(made["truth"].numpy(), mask)


@pytest.mark.parametrize(
    ("resize", "photo", "shown", "canvas"),
    [
        ("fit", (100, 100), (64, 64), (64, 96)),
        ("fit", (50, 300), (16, 96), (64, 96)),
        ("stretch", (100, 100), (64, 96), (64, 96)),
        ("original", (100, 100), (100, 100), (128, 128)),
        (50, (100, 200), (50, 100), (64, 128)),
        ("fit", (100000, 1), (64, 1), (64, 96)),
    ],
)
def test_sizes(resize, photo, shown, canvas):
    frame = Frame(SPEC, resize)
    assert frame.target(photo) == shown
    assert frame.canvas(shown) == canvas


def test_sizes_that_backbone_and_decoder_ask_for():
    assert Frame(ImageSpec(size=(224, 224), sizing="fixed"), "fit").canvas((224, 100)) == (224, 224)
    assert Frame(ImageSpec(size=(70, 70), pad_to=28, sizing="multiple"), "original").canvas((70, 70)) == (224, 224)
    assert Frame(SPEC, "original", 128).canvas((60, 60)) == (128, 128)


def test_prediction_sees_what_evaluation_sees():
    photo, mask = drawn()
    for resize in ("fit", "stretch", "original", 80):
        cfg = config(resize=resize)
        seen, made = sample(cfg, SPEC, {})(photo), still_view(cfg, SPEC)(photo, mask, 0)
        assert torch.equal(seen["image"], made["image"])
        assert seen["size"] == (120, 150)
