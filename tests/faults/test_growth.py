"""What work grows with: counted in calls of functions at two sizes, so that no clock decides."""

from __future__ import annotations

import sys
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from visiontl import plugins
from visiontl.backbones import matching
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import resolve
from visiontl.doctor import findings
from visiontl.errors import ConfigError, WeightsError
from visiontl.kit import depths

SMALL, LARGE = 500, 4000
classification = plugins.task("classification")


def calls(function) -> int:
    """How many functions, Python's and C's, are called."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


@pytest.fixture(scope="module")
def tiny():
    return make_backbone(plugins.backbone_entry("visiontl/tiny")[0], "none")[0]


@pytest.mark.parametrize("form", ["{}.a.b.c.d", "x.{}.y", "m{}", "{}.weight", "a.b.c.{}"])
def test_a_checkpoint_of_odd_names_takes_time_by_their_number(tiny, form):
    def refused(number: int):
        with pytest.raises(WeightsError):
            matching.adopt(tiny, {form.format(i): torch.zeros(2) for i in range(number)}, "file", [])

    small, large = (calls(lambda n=number: refused(n)) for number in (SMALL, LARGE))
    assert large < 1.5 * small * LARGE / SMALL


def copies(number: int) -> SimpleNamespace:
    """`number` photos that show 20 pictures, a third of them saved anew each time."""
    random = np.random.default_rng(0)
    looks = [random.bytes(16) for _ in range(20)]
    photos = [SimpleNamespace(look=looks[i % 20], pixels=b"%d" % (i if i % 3 == 0 else i % 20)) for i in range(number)]
    places = [("train" if i < number // 2 else "val", i) for i in range(number)]
    return SimpleNamespace(photos=photos, places=places, scans={"train": 0, "val": 0}, name=str)


def test_copies_of_few_pictures_take_time_by_their_number():
    small, large = (calls(lambda n=number: findings.lookalikes(copies(n))) for number in (SMALL, LARGE))
    assert large < 1.5 * small * LARGE / SMALL


def test_photos_that_look_alike_are_those_that_comparing_all_with_all_finds():
    album = copies(90)
    expected = {}
    for name, first in (("val", "train"), ("train", "train"), ("val", "val")):
        expected[name, first] = sum(
            any(
                other.look == one.look and other.pixels != one.pixels and album.places[j][0] == first and j < i
                for j, other in enumerate(album.photos)
            )
            for i, one in enumerate(album.photos)
            if album.places[i][0] == name
        )
    found = [int(finding.what.split()[1]) for finding in findings.lookalikes(album)]
    assert found == [expected["val", "train"], expected["train", "train"], expected["val", "val"]]
    assert min(found) >= 10


@pytest.mark.parametrize("shape", [(3000, 3000), (1, 9_000_000), (1700, 1700, 3)])
def test_a_deep_picture_takes_no_memory_for_its_floats(shape):
    values = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    tracemalloc.start()
    made, levels = depths.in_8_bits(values, real=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert levels.white == 65535
    assert np.array_equal(made[-1], (values[-1].astype(np.float64) * (255 / 65535)).round())
    assert peak < values.size + 40 * depths.STRIP * (shape[0] > 1) + 40 * values[:1].size


def test_scores_and_report_of_many_classes_hold_no_table_of_pairs():
    """A model of ImageNet-21k: 21,841 x 21,841 counts are 3.8 GB."""
    classes, random = 20_000, np.random.default_rng(0)
    answers = random.integers(0, classes, (300, 2)).tolist()
    rows = [{"true": t, "top": [p, (p + 1) % classes], "probability": [0.6, 0.2], "nll": 1.0} for t, p in answers]
    rows += [{"true": 7, "top": [9, 8], "probability": [0.9, 0.1], "nll": 2.0}] * 5
    cfg, meta = classification.config(data="photos"), {"classes": [f"c{i}" for i in range(classes)]}
    tracemalloc.start()
    scores = classification.score(cfg, rows, meta)
    shown = classification.report(cfg, rows, meta, lambda id: Image.new("RGB", (8, 8)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert scores["accuracy"] == sum(t == p for t, p in answers) / 305
    pairs = next(item for item in shown if item.title == "Most confused pairs")
    assert tuple(pairs.rows[0][:3]) == ("c7", "c9", 5)
    assert peak < 100e6


@pytest.mark.parametrize("place", ["task", "train", ""])
def test_unknown_keys_take_time_by_their_number(place):
    def refused(number: int):
        config: dict = {"task": {"name": "classification", "data": "p"}, "backbone": {"name": "visiontl/tiny"}}
        section = config.setdefault(place, {}) if place else config
        section.update({f"key{i}": 1 for i in range(number)})
        with pytest.raises(ConfigError, match=f"{number} errors"):
            resolve(config)

    refused(SMALL)  # what is made once
    small, large = (calls(lambda n=number: refused(n)) for number in (SMALL, LARGE))
    assert large < 1.5 * small * LARGE / SMALL
    assert large < 400 * LARGE
