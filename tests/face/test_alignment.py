"""Similarity transforms and crops against solutions by hand and the published template."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image
from visiontl_face import alignment
from visiontl_face.alignment import align, similarity_transform

from visiontl import cli

# insightface, python-package/insightface/utils/face_align.py, arcface_dst: left eye, right eye, nose, corners of the
# mouth, in a crop of 112 x 112. Written out again, so that a template that changes is seen.
ARCFACE = np.array([(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)])


def by_hand(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The same transform as linear least squares in a, b, tx, ty of x' = a x - b y + tx, y' = b x + a y + ty."""
    rows, values = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, -y, 1, 0], [y, x, 0, 1]]
        values += [u, v]
    a, b, tx, ty = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return np.array([[a, -b, tx], [b, a, ty]])


def test_the_template_is_the_published_one():
    np.testing.assert_array_equal(alignment.TEMPLATE, ARCFACE)
    assert alignment.SIDE == 112


@pytest.mark.parametrize("seed", range(10))
def test_the_transform_is_the_least_squares_solution(seed):
    rng = np.random.default_rng(seed)
    turn, scale = rng.uniform(-3, 3), rng.uniform(0.2, 5)
    rotation = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    source = ARCFACE @ rotation.T + rng.uniform(-200, 200, 2) + rng.normal(0, 2 * scale, (5, 2))
    np.testing.assert_allclose(similarity_transform(source, ARCFACE), by_hand(source, ARCFACE), rtol=1e-9, atol=1e-8)


def test_an_upright_face_at_twice_the_size_gives_a_half_and_a_shift():
    """x' = x / 2 - 15, y' = y / 2 - 5, solved on paper."""
    landmarks = 2 * ARCFACE + np.array([30.0, 10.0])
    np.testing.assert_allclose(similarity_transform(landmarks, ARCFACE), [[0.5, 0, -15], [0, 0.5, -5]], atol=1e-12)


def test_points_in_one_place_are_refused():
    with pytest.raises(ValueError, match="one place"):
        similarity_transform(np.ones((5, 2)), ARCFACE)


def spots(scale: float, turn: float, side: int) -> tuple[Image.Image, np.ndarray]:
    """A dark picture with a bright blob at each landmark."""
    rotation = scale * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    points = (ARCFACE - 56) @ rotation.T + side / 2
    y, x = np.mgrid[:side, :side]
    pixels = np.zeros((side, side))
    for px, py in points:
        pixels += 255 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * (2.5 * scale) ** 2))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGB"), points


@pytest.mark.parametrize(("scale", "turn", "side"), [(1, 0, 160), (1.7, 0.4, 320), (3.3, -0.7, 600), (5.2, 2.8, 900)])
def test_landmarks_come_to_stand_on_the_template(scale, turn, side):
    """Also where the face is large, so that the picture is shrunk first, and where it stands on its head."""
    picture, points = spots(scale, turn, side)
    crop = align(picture, points)
    assert crop.size == (112, 112)
    pixels = np.asarray(crop.convert("L"), dtype=np.float64)
    for px, py in ARCFACE:
        left, top = round(px) - 5, round(py) - 5
        window = pixels[top : top + 11, left : left + 11]
        y, x = np.mgrid[top : top + 11, left : left + 11]
        found = (window * x).sum() / window.sum(), (window * y).sum() / window.sum()
        assert found == pytest.approx((px, py), abs=0.25)


def test_a_size_of_twice_the_template_is_the_same_picture():
    picture, points = spots(2.0, 0.1, 400)
    small, large = align(picture, points), align(picture, points, 224)
    difference = np.abs(np.asarray(small, float) - np.asarray(large.resize((112, 112), Image.Resampling.BOX), float))
    assert difference.mean() < 2


def test_exchanged_eyes_are_refused():
    picture, points = spots(1.5, 0, 300)
    with pytest.raises(ValueError, match="is their order left eye"):
        align(picture, points[[3, 4, 2, 0, 1]] * [1, 1])


def test_the_command_writes_crops_and_names_what_it_cannot_align(tmp_path, capsys):
    lines = ["file," + ",".join(f"{axis}{i}" for i in range(1, 6) for axis in "xy")]
    for name, turn in (("anna/1.png", 0.0), ("anna/2.png", 0.3), ("gone.png", 0.0), ("flat.png", 0.0)):
        picture, points = spots(1.4, turn, 200)
        if name != "gone.png":
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            picture.save(tmp_path / "photos" / name)
        points = points * 0 + 5 if name == "flat.png" else points
        lines.append(f"{name}," + ",".join(f"{v:.3f}" for v in points.flatten()))
    (tmp_path / "landmarks.csv").write_text("\n".join(lines))
    arguments = ["face", "align", str(tmp_path / "photos"), str(tmp_path / "landmarks.csv")]
    assert cli.main([*arguments, str(tmp_path / "crops")]) == 0
    said = capsys.readouterr().out
    assert "2 crops of 112 x 112" in said
    assert "gone.png: no such file" in said
    assert "flat.png: all points are in one place" in said
    assert {path.name for path in (tmp_path / "crops").rglob("*") if path.is_file()} == {"1.png", "2.png"}
    assert Image.open(tmp_path / "crops/anna/2.png").size == (112, 112)
    assert cli.main([*arguments, str(tmp_path / "crops")]) == 2
    assert "never overwrite" in capsys.readouterr().err
