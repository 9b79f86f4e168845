"""Colors that the eye tells apart."""

from __future__ import annotations

import numpy as np
import pytest

from visiontl.kit.drawing import cielab, class_color, distinct_colors

RED = (232, 70, 46)


def test_cielab_of_known_colors():
    rgb = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128]])
    # Bruce Lindbloom's CIE color calculator: sRGB, D65
    expected = [
        [100, 0, 0],
        [0, 0, 0],
        [53.241, 80.092, 67.203],
        [87.735, -86.183, 83.179],
        [32.297, 79.188, -107.860],
        [53.585, 0, 0],
    ]
    np.testing.assert_allclose(cielab(rgb), expected, atol=0.05)


def test_each_color_is_as_far_as_can_be_from_all_before_it():
    chosen = distinct_colors(12, RED, levels=6)
    lab = cielab(np.array(chosen))
    values = [0, 51, 102, 153, 204, 255]
    grid = cielab(np.array([[r, g, b] for r in values for g in values for b in values]))
    chroma = np.sqrt(grid[:, 1] ** 2 + grid[:, 2] ** 2)
    grid = grid[(chroma > 30) & (grid[:, 0] > 35) & (grid[:, 0] < 92)]
    for i in range(1, 12):
        best = max(min(np.linalg.norm(one - before) for before in lab[:i]) for one in grid)
        assert min(np.linalg.norm(lab[i] - before) for before in lab[:i]) == pytest.approx(best)


def test_colors_stay_as_people_know_them():
    assert distinct_colors(4, RED) == ((232, 70, 46), (0, 255, 0), (70, 0, 255), (0, 209, 255))
    assert distinct_colors(4, (60, 120, 220), 10) == ((57, 113, 227), (0, 255, 0), (255, 0, 0), (85, 85, 28))
    assert distinct_colors(80, RED)[:4] == distinct_colors(4, RED)


def test_more_colors_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="take more levels"):
        distinct_colors(100, RED, levels=3)


def test_a_class_has_its_color_by_its_place_alone():
    colors = np.array([class_color(i) for i in range(80)], dtype=float)
    assert len({tuple(c) for c in colors}) == 80
    for count, least in ((2, 150), (8, 90), (20, 50), (80, 20)):
        gaps = np.linalg.norm(colors[:count, None] - colors[None, :count], axis=2)
        assert gaps[~np.eye(count, dtype=bool)].min() > least
    assert class_color(81) == class_color(1)
