"""What training and evaluation are shown: boxes follow their pixels, and everything random follows the seed."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_detection.config import PRESETS, DetectionConfig
from visiontl_detection.listing import Annotated
from visiontl_detection.views import resized, settled_size, still_view, training_view

from visiontl import ImageSpec

SPEC = ImageSpec(size=(64, 64))
BOX = (40, 20, 100, 80)  # of the bright square


def config(**values) -> DetectionConfig:
    return DetectionConfig.model_validate({"data": "nowhere", **values})


def square(ignored: bool = False) -> tuple[Image.Image, Annotated]:
    """A white square on black, with its box."""
    pixels = np.zeros((120, 180, 3), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    flags = np.array([ignored])
    box = np.array([BOX], dtype=np.float64)
    return Image.fromarray(pixels), Annotated("x.png", (120, 180), box, np.array([1]), flags, np.array([3600.0]), ["7"])


def extent(image: torch.Tensor) -> list[float]:
    """The box of what is bright, (3, h, w) uint8."""
    rows = torch.nonzero((image.float().mean(0) > 180).any(1))[:, 0]
    columns = torch.nonzero((image.float().mean(0) > 180).any(0))[:, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


@pytest.mark.parametrize("name", ["light", "standard", "strong", "large-scale jitter"])
def test_boxes_follow_their_pixels(name):
    augment = {"jitter": [0.1, 2.0]} if name == "large-scale jitter" else {**PRESETS[name], "color": 0.0}
    meta = {"size": {"short": [80, 120], "long": 200}}
    view = pickle.loads(pickle.dumps(training_view(config(augment=augment), SPEC, meta)))
    shapes, kept = set(), 0
    for seed in range(60):
        made = view(*square(), seed)
        again = view(*square(), seed)
        assert torch.equal(made["image"], again["image"])
        assert made["size"] == (120, 180)
        assert max(made["image"].shape[1:]) <= 200
        shapes.add(tuple(made["image"].shape))
        if len(made["boxes"]) == 0:
            continue
        kept += 1
        assert made["labels"].tolist() == [1]
        height, width = made["image"].shape[1:]
        box = made["boxes"][0].tolist()
        assert 0 <= box[0] < box[2] <= width
        assert 0 <= box[1] < box[3] <= height
        assert np.abs(np.array(extent(made["image"])) - box).max() <= 3, (seed, extent(made["image"]), box)
        assert made["truth"]["boxes"].tolist() == [list(BOX)]
    assert len(shapes) > 1
    assert kept > 50


def test_color_changes_pixels_and_no_box():
    meta = {"size": {"short": [120], "long": 200}}
    plain = training_view(config(augment={"flip": False, "color": 0.0, "jitter": [1, 1]}), SPEC, meta)
    colored = training_view(config(augment={"flip": False, "color": 1.0, "jitter": [1, 1]}), SPEC, meta)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 180, 3), dtype=np.uint8))
    pairs = [(plain(noise, square()[1], seed), colored(noise, square()[1], seed)) for seed in range(8)]
    assert sum(not torch.equal(a["image"], b["image"]) for a, b in pairs) >= 6
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in pairs)


def test_the_evaluation_view_is_the_whole_photo_resized():
    meta = {"size": {"short": [40, 60], "long": 200}}
    made = still_view(config(), SPEC, meta)(*square(), 0)
    assert made["image"].shape == (3, 60, 90)  # the last of the sides evaluates
    assert made["boxes"].tolist() == [[20, 10, 50, 40]]
    assert np.abs(np.array(extent(made["image"])) - [20, 10, 50, 40]).max() <= 1


def test_ignored_boxes_are_not_learned_but_known():
    meta = {"size": {"short": [60], "long": 200}}
    for view in (still_view(config(), SPEC, meta), training_view(config(augment="standard"), SPEC, meta)):
        made = view(*square(ignored=True), 0)
        assert len(made["boxes"]) == 0
        assert made["truth"]["ignored"].tolist() == [True]
        assert made["truth"]["area"].tolist() == [3600]


@pytest.mark.parametrize(
    ("photo", "short", "long", "expected"),
    [((480, 640), 320, 1000, (320, 427)), ((640, 480), 320, 400, (400, 300)), ((1, 5000), 800, 1333, (1, 1333))],
)
def test_sizes_by_hand(photo, short, long, expected):
    assert resized(photo, short, long, SPEC) == expected


def test_a_backbone_of_one_size_gets_every_photo_inside_it():
    assert resized((100, 400), 800, 1333, ImageSpec(size=(64, 64), sizing="fixed")) == (16, 64)


def test_auto_takes_the_median_of_the_shorter_sides_up_to_800():
    images = [
        Annotated("x", size, *(np.zeros((0, 4)), *[np.zeros(0)] * 3)) for size in ((300, 500), (400, 350), (900, 900))
    ]
    assert settled_size(config(), images) == {"short": [350], "long": 583}
    assert settled_size(config(), [images[2]]) == {"short": [800], "long": 1333}
    assert settled_size(config(size=[320, 480]), images) == {"short": [320, 480], "long": 800}
