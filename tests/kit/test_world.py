"""The drawn world: the same bits each time and on every processor, annotations that fit the pixels, colors that tell
nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.shared import ROOT
from visiontl.kit import world
from visiontl.kit.drawn.forms import Light, Part, draw, filled, pose
from visiontl.kit.drawn.textures import cosine, ramp, sine, tile
from visiontl.kit.world import KINDS

SMALL = (96, 72)


def digest() -> str:
    """Of a picture of each kind."""
    pictures = [
        world.crowd(7, 3, size=SMALL).image,
        world.portrait(2, 1, 64).image,
        world.photo(5, SMALL),
        world.painting("shards", 32),
    ]
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()


def test_the_same_bits_on_a_processor_without_vector_kernels_and_without_torch():
    code = "import sys; from tests.kit.test_world import digest; print(digest(), 'torch' in sys.modules)"
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    plain = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512F AVX2 FMA3 AVX512_SKX",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, **plain},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [digest(), "False"]


def test_another_number_is_another_picture():
    seen = {world.crowd(0, number, size=SMALL).image.tobytes() for number in range(4)}
    seen |= {world.crowd(1, number, size=SMALL).image.tobytes() for number in range(4)}
    seen |= {world.portrait(person, view, 72).image.tobytes() for person in range(2) for view in range(2)}
    assert len(seen) == 12


@pytest.mark.parametrize("number", range(6))
def test_boxes_are_the_bounds_of_masks_which_do_not_overlap(number):
    scene = world.crowd(4, number, size=(160, 120))
    covered = np.zeros((120, 160), int)
    for thing in scene.things:
        rows, columns = np.nonzero(thing.mask)
        assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        covered += thing.mask
        assert thing.kind in KINDS
    assert covered.max() <= 1
    labels = scene.labels()
    assert [int((labels == 1 + index).sum()) for index in range(len(KINDS))] == [
        sum(int(thing.mask.sum()) for thing in scene.things if thing.kind == kind) for kind in KINDS
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_lies_where_the_thing_was_drawn(kind, monkeypatch):
    """The same scene with the thing in one glaring color: what has that color, and nothing else, is its mask."""
    make = world.FORMS[kind]

    def glaring(rng):
        return [Part(one.outline, ((255, 0, 255),), bulge=0, gloss=0) for one in make(rng)]

    monkeypatch.setitem(world.FORMS, kind, glaring)
    for number in range(3):
        scene = world.scene([50, number], [kind], (160, 120))
        red, green, blue = (np.asarray(scene.image, dtype=int)[..., channel] for channel in range(3))
        found = (red > 1.8 * green + 30) & (blue > 1.8 * green + 30)
        (thing,) = scene.things
        assert (found & thing.mask).sum() / (found | thing.mask).sum() > 0.9


def test_what_lies_in_front_is_taken_out_of_the_mask(monkeypatch):
    whole = Part(np.array([(-9, -9), (9, -9), (9, 9), (-9, 9)]), ((0, 0, 0),))
    monkeypatch.setattr(world, "CLUTTER", (lambda rng: [whole],) * 4)
    hidden = [not world.scene([60, number], ["fish"], SMALL).things for number in range(8)]
    assert any(hidden)  # something lies in front in half of the pictures, and hides all
    assert not all(hidden)


def test_filled_measures_the_share_of_a_pixel():
    square = np.array([(2.0, 3.0), (6.0, 3.0), (6.0, 6.0), (2.0, 6.0)])
    mask = filled(square, (10, 10))
    assert mask.sum() == pytest.approx(12, abs=4)  # Pillow fills half a fine pixel around the corners
    assert mask[4, 3] == 1
    assert mask[8, 8] == 0
    light = Light(1.0, 0.0, 0.5, (1.0, 1.0, 1.0), 0.5)
    part = Part(square, ((10, 20, 30),), bulge=0)
    assert draw([part], pose(-500, -500, 1, 0), light, (10, 10)) is None
    drawn = draw([part], pose(0, 0, 1, 0), light, (10, 10))
    assert drawn.color[4 - drawn.top, 3 - drawn.left].tolist() == [10, 20, 30]


@pytest.mark.parametrize("name", ["bricks", "grass", "spots"])
def test_tiles_go_on_over_their_edges(name):
    values = np.asarray(tile(name), dtype=int)
    assert values.shape == (1024, 1024)
    within = np.abs(np.diff(values[:, :512], axis=1)).mean()
    across = np.abs(values[:, 512] - values[:, 511]).mean()
    assert across < 3 * within + 3


def test_sines_and_ramps():
    turns = np.linspace(-2, 2, 401)
    np.testing.assert_allclose(sine(turns), np.sin(2 * np.pi * turns), atol=2e-3)
    np.testing.assert_allclose(cosine(turns), np.cos(2 * np.pi * turns), atol=2e-3)
    assert ramp(((0, 10, 20), (100, 110, 120)))[[0, 255]].tolist() == [[0, 10, 20], [100, 110, 120]]


def test_a_creature_keeps_its_looks_and_changes_its_pose():
    views = [world.portrait(3, view, 96) for view in range(6)]
    marks = np.array([view.landmarks for view in views])  # (6, 5, 2)
    left, right, nose, low, high = (marks[:, i] for i in range(5))
    assert (left[:, 0] < right[:, 0]).all()
    assert (low[:, 0] < high[:, 0]).all()
    assert (nose[:, 1] > (left[:, 1] + right[:, 1]) / 2).all()
    assert ((low[:, 1] + high[:, 1]) / 2 > nose[:, 1]).all()
    middle = (left + right) / 2
    turned = (nose[:, 0] - middle[:, 0]) / np.abs(right - left)[:, 0]  # sideways, in distances of the eyes
    assert np.ptp(turned) > 0.12
    for view in views:
        x1, y1, x2, y2 = view.box
        assert all(x1 < x < x2 and y1 < y < y2 for x, y in view.landmarks)


def test_pupils_are_dark_at_the_landmarks():
    darker = 0
    for person in range(8):
        view = world.portrait(person, 0, 160)
        gray = np.asarray(view.image.convert("L"), dtype=float)
        for x, y in view.landmarks[:2]:
            column, row = round(x), round(y)
            darker += gray[row - 3 : row + 4, column - 3 : column + 4].min() < 60
    assert darker >= 14  # of 16; a lid may be down


def test_names():
    assert len({world.name(person) for person in range(60)}) == 60
    with pytest.raises(ValueError, match="60 has no name"):
        world.name(60)


def test_colors_tell_no_class():
    """A ridge classifier on histograms of 64 colors: hardly better than one in six."""

    def histograms(part: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, labels = [], []
        for number in range(count):
            for label, kind in enumerate(KINDS):
                values = np.asarray(world.scene([part, label, number], [kind], (96, 96)).image) >> 6
                codes = (values[..., 0] * 4 + values[..., 1]) * 4 + values[..., 2]
                rows.append(np.sqrt(np.bincount(codes.ravel(), minlength=64)))
                labels.append(label)
        return np.array(rows), np.array(labels)

    (seen, known), (new, wanted) = histograms(70, 20), histograms(71, 10)
    mean, spread = seen.mean(0), seen.std(0) + 1e-3
    seen, new = (np.hstack([(one - mean) / spread, np.ones((len(one), 1))]) for one in (seen, new))
    weights = np.linalg.solve(seen.T @ seen + 30 * np.eye(seen.shape[1]), seen.T @ np.eye(len(KINDS))[known])
    assert ((new @ weights).argmax(1) == wanted).mean() < 0.42  # 60 pictures: 0.17 by chance, give or take 0.05
