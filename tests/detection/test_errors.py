"""Each kind of error made by hand, its cost worked out on paper, and the definitions once more as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from visiontl_detection.errors import (
    KINDS,
    by_threshold,
    costs,
    counts,
    match,
    mean_precision,
    operating_point,
    per_image,
)

from tests.detection.test_scores import made, row

A, B, FAR = [0, 0, 100, 100], [200, 0, 300, 100], [200, 200, 290, 290]
THIRD = [0, 0, 100, 30]  # IoU 0.3 with A
HALF_FOUND = 51 / 101  # AP of one of two boxes: the recalls 0 .. 0.50 are reached
BETWEEN = (51 + 50 * 2 / 3) / 101  # right, wrong, right, of two boxes: 1 up to recall 0.50, then 2/3


def found(**kinds: float) -> dict[str, float]:
    return {kind: kinds.get(kind, 0) for kind in KINDS}


@pytest.mark.parametrize(
    ("one", "count", "cost", "base"),
    [
        (row([A], [0.9], [0], [A], [0]), {}, {}, 1.0),
        (row([A], [0.9], [1], [A], [0]), {"classification": 1}, {"classification": 1}, 0.0),
        (row([THIRD], [0.9], [0], [A], [0]), {"localisation": 1}, {"localisation": 1}, 0.0),
        (row([THIRD], [0.9], [1], [A], [0]), {"both": 1, "missed": 1}, {"missed": 1}, 0.0),
        (
            row([A, A, B], [0.9, 0.8, 0.7], [0, 0, 0], [A, B], [0, 0]),
            {"duplicate": 1},
            {"duplicate": 1 - BETWEEN},
            BETWEEN,
        ),
        (
            row([A, FAR, B], [0.9, 0.8, 0.7], [0, 0, 0], [A, B], [0, 0]),
            {"background": 1},
            {"background": 1 - BETWEEN},
            BETWEEN,
        ),
        (
            row([A, THIRD, B], [0.9, 0.8, 0.7], [0, 1, 0], [A, B], [0, 0]),  # of a class without truth: costs nothing
            {"both": 1},
            {},
            1.0,
        ),
        (row([A], [0.9], [0], [A, B], [0, 0]), {"missed": 1}, {"missed": 1 - HALF_FOUND}, HALF_FOUND),
        (row(true=[A], true_labels=[0]), {"missed": 1}, {"missed": 1}, 0.0),
        # the class of the wrong one is right for B: mended, it fills class 1 and leaves class 0
        (
            row([A, B], [0.8, 0.9], [0, 0], [A, B], [0, 1]),
            {"classification": 1},
            {"classification": 1 - 0.5 / 2},
            0.5 / 2,
        ),
        # two of the wrong class on A: mended, one fills it and the other goes
        (
            row([A, A, FAR, B], [0.9, 0.8, 0.7, 0.6], [1, 1, 0, 0], [A, B], [0, 0]),
            {"classification": 2, "background": 1},
            {"classification": BETWEEN - HALF_FOUND / 2, "background": HALF_FOUND / 2},
            HALF_FOUND / 2,
        ),
        # two aimed at one box: both kinds can fill it, only one does
        (
            row([THIRD, A], [0.9, 0.8], [0, 1], [A], [0]),
            {"localisation": 1, "classification": 1},
            {"localisation": 1, "classification": 0.5},  # the misplaced one stays in front of the renamed one
            0.0,
        ),
    ],
)
def test_one_kind_at_a_time(one, count, cost, base):
    matches = match([one])
    assert counts(matches, 0.5) == found(**count)
    assert mean_precision(matches) == pytest.approx(base, abs=1e-12)
    assert costs(matches) == pytest.approx(found(**cost), abs=1e-12)


def test_a_box_on_a_crowd_is_no_error():
    matches = match([row([FAR, FAR, A], [0.9, 0.8, 0.7], [0, 0, 0], [A, FAR], [0, 0], [False, True])])
    assert counts(matches, 0.0) == found()
    assert mean_precision(matches) == 1.0
    other = match([row([FAR, A], [0.9, 0.7], [1, 0], [A, FAR], [0, 0], [False, True])])  # a crowd of another class
    assert counts(other, 0.0) == found(background=1)


def test_a_mended_detection_takes_the_box_from_a_lower_one():
    # the wrong class at 0.9 lies on A, which 0.3 has found; between them two on nothing
    matches = match([row([A, FAR, FAR, A], [0.9, 0.8, 0.7, 0.3], [1, 0, 0, 0], [A, B], [0, 2])])
    assert counts(matches, 0.0)["classification"] == 1
    # AP50 = (1/3 + 0) / 2: class 0 is right third, class 2 is never found. Mended, A is found first: (1 + 0) / 2
    assert mean_precision(matches) == pytest.approx(1 / 6)
    assert costs(matches)["classification"] == pytest.approx(1 / 2 - 1 / 6)


def test_counts_are_those_of_the_operating_point():
    matches = match([row([A, FAR, THIRD], [0.9, 0.4, 0.3], [0, 0, 1], [A, B], [0, 0])])
    assert counts(matches, 0.95) == found(missed=2)
    assert counts(matches, 0.9) == counts(matches, 0.5) == found(missed=1)  # a score of 0.9 counts from 0.9 on
    assert counts(matches, 0.4) == found(missed=1, background=1)
    assert counts(matches, 0.0) == found(missed=1, background=1, both=1)
    assert operating_point(matches, 0.4) == {"precision": 1 / 2, "recall": 1 / 2}
    precision, recall, f1 = by_threshold(matches, np.array([0.0, 0.4, 0.9, 0.95]))
    np.testing.assert_allclose(precision, [1 / 3, 1 / 2, 1, np.nan])
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(f1, [2 / 5, 1 / 2, 2 / 3, 0])


def iou(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def by_definition(one, threshold: float) -> dict[str, int]:
    """Section 2.2 of the paper, one box after another."""
    number = found()
    true = list(zip(one["true_boxes"], one["true_labels"], strict=True))
    taken, covered = set(), set()
    for box, score, label in zip(one["boxes"].astype(float), one["scores"], one["labels"], strict=True):
        if score < threshold:
            continue
        same = {i: iou(box, b) for i, (b, k) in enumerate(true) if k == label}
        wrong = {i: iou(box, b) for i, (b, k) in enumerate(true) if k != label}
        free = {i: value for i, value in same.items() if i not in taken and value >= 0.5}
        own, other = max(same.values(), default=0), max(wrong.values(), default=0)
        if free:
            taken.add(max(free, key=lambda i: free[i]))
        elif 0.1 <= own < 0.5:
            number["localisation"] += 1
            covered.add(max(same, key=lambda i: same[i]))
        elif other >= 0.5:
            number["classification"] += 1
            covered.add(max(wrong, key=lambda i: wrong[i]))
        elif own >= 0.5:
            number["duplicate"] += 1
        elif other < 0.1:
            number["background"] += 1
        else:
            number["both"] += 1
    number["missed"] = len(true) - len(taken | covered)
    return number


def test_random_sets_against_the_definitions():
    totals = found()
    for seed in range(20):
        rows = [{**one, "true_ignored": np.zeros(len(one["true_boxes"]), dtype=bool)} for one in made(seed, classes=3)]
        matches = match(rows)
        for threshold in (0.0, 0.5):
            wanted = [by_definition(one, threshold) for one in rows]
            assert counts(matches, threshold) == {kind: sum(one[kind] for one in wanted) for kind in KINDS}
            assert per_image(matches, threshold, len(rows)).tolist() == [sum(one.values()) for one in wanted]
        totals = {kind: totals[kind] + counts(matches, 0.0)[kind] for kind in KINDS}
    assert min(totals.values()) > 20  # every kind was put to the test


@pytest.mark.parametrize("seed", range(8))
def test_all_mended_is_perfect_and_each_never_hurts(seed):
    matches = match(made(seed, images=6))
    assert mean_precision(matches) < 1
    assert mean_precision(matches, range(len(KINDS))) == 1.0
    assert min(costs(matches).values()) > -1e-12
