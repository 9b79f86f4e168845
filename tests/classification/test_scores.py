"""Every score against scikit-learn, on random cases with absent classes and with ties."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn import metrics
from visiontl_classification import TASK
from visiontl_classification.scores import calibration_error, confusion

from tests.classification.helpers import config, shapes_meta


def single(classes: int, images: int, seed: int, ties: bool):
    """Random logits (N, K) and labels that leave some classes out."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (images, classes)).astype(np.float32)
    if ties:
        logits = logits.round()
    present = rng.permutation(classes)[: max(2, classes // 2)]
    return logits, rng.choice(present, images)


def scored(logits: np.ndarray, true: np.ndarray):
    meta = shapes_meta([f"class {i}" for i in range(logits.shape[1])])
    cfg = config()
    rows = []
    for start in range(0, len(true), 7):
        batch = {"label": torch.from_numpy(true[start : start + 7])}
        rows += TASK.rows(cfg, {"logits": torch.from_numpy(logits[start : start + 7])}, batch, meta)
    assert json.loads(json.dumps(rows)) == rows  # small and plain
    return TASK.score(cfg, rows, meta)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 5, 8, 30])
def test_single_label_scores(classes, ties):
    for seed in range(4):
        logits, true = single(classes, 90, seed, ties)
        scores = scored(logits, true)
        predicted = logits.argmax(1)  # the first of equals
        assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
        assert ("top5" in scores) == (classes > 5)  # with five or fewer it is 1 whatever was learned
        if classes > 5:  # scikit-learn prefers the last of equals: with the classes in reverse that is our first
            mirrored = classes - 1 - true
            top = metrics.top_k_accuracy_score(mirrored, logits[:, ::-1], k=5, labels=range(classes))
            assert scores["top5"] == pytest.approx(top)
        present = np.unique(true)
        f1 = metrics.f1_score(true, predicted, labels=present, average="macro", zero_division=0)
        assert scores["macro_f1"] == pytest.approx(f1)
        recall = metrics.recall_score(true, predicted, labels=present, average=None, zero_division=0)
        assert list(scores["per_class"].values()) == pytest.approx(recall.tolist())
        assert list(scores["per_class"]) == [f"class {i}" for i in present]
        matrix = metrics.confusion_matrix(true, predicted, labels=range(classes))
        assert scores["confusion"] == matrix.tolist()
        exact = logits.astype(np.float64)
        exact = np.exp(exact) / np.exp(exact).sum(1, keepdims=True)
        assert scores["nll"] == pytest.approx(metrics.log_loss(true, exact, labels=range(classes)), rel=1e-5)


def test_calibration_error_by_hand():
    # bins of width 1/15: 0.95 and 0.97 share the last (14/15, 1], 0.6 = 9/15 closes the ninth, 0.61 is in the tenth
    confidence = np.array([0.95, 0.97, 0.6, 0.61])
    right = np.array([True, False, True, False])
    by_hand = 2 / 4 * abs(0.5 - 0.96) + 1 / 4 * abs(1 - 0.6) + 1 / 4 * abs(0 - 0.61)
    assert calibration_error(confidence, right) == pytest.approx(by_hand)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0.0
    assert calibration_error(np.array([0.0, 1.0]), np.array([True, False])) == 1.0


def test_calibration_error_by_a_plain_loop():
    rng = np.random.default_rng(3)
    confidence, right = rng.random(500), rng.random(500) < 0.6
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += inside.sum() / 500 * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(total)


def test_a_perfect_and_a_hopeless_model():
    true = np.array([0, 1, 2, 1])
    perfect = scored(np.eye(3, dtype=np.float32)[true] * 50, true)
    assert (perfect["accuracy"], perfect["macro_f1"]) == (1.0, 1.0)
    assert perfect["ece"] == pytest.approx(0, abs=1e-6)
    hopeless = scored(np.eye(3, dtype=np.float32)[(true + 1) % 3] * 200, true)
    assert (hopeless["accuracy"], hopeless["macro_f1"]) == (0.0, 0.0)
    assert np.isfinite(hopeless["nll"])


@pytest.mark.parametrize("ties", [False, True])
def test_multi_label_scores(ties):
    classes = 6
    meta, cfg = shapes_meta([f"label {i}" for i in range(classes)], "multi"), config("a.csv", labels="multi")
    for seed in range(6):
        rng = np.random.default_rng(seed)
        true = rng.random((80, classes)) < 0.3
        true[:, seed % classes] = False  # a label that no image has
        logits = rng.normal(-0.5, 2, true.shape).astype(np.float32)
        if ties:
            logits = logits.round()
        batch = {"label": torch.from_numpy(true).float()}
        rows = TASK.rows(cfg, {"logits": torch.from_numpy(logits)}, batch, meta)
        scores = TASK.score(cfg, rows, meta)
        present = np.flatnonzero(true.any(0))
        predicted = logits >= 0
        assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
        mean = metrics.average_precision_score(true[:, present], logits[:, present], average="macro")
        assert scores["mAP"] == pytest.approx(mean)
        one = metrics.average_precision_score(true[:, present], logits[:, present], average=None)
        assert list(scores["per_class"].values()) == pytest.approx(np.ravel(one).tolist())
        assert scores["micro_f1"] == pytest.approx(metrics.f1_score(true, predicted, average="micro"))
        macro = metrics.f1_score(true[:, present], predicted[:, present], average="macro", zero_division=0)
        assert scores["macro_f1"] == pytest.approx(macro)


def test_multi_label_without_any_label():
    meta, cfg = shapes_meta(["a", "b"], "multi"), config("a.csv", labels="multi")
    rows = TASK.rows(cfg, {"logits": torch.zeros(2, 2)}, {"label": torch.zeros(2, 2)}, meta)
    scores = TASK.score(cfg, rows, meta)
    assert all(np.isfinite(value) for value in (scores["accuracy"], scores["mAP"], scores["macro_f1"]))


def test_confusion_counts():
    assert confusion(np.array([0, 0, 1]), np.array([1, 1, 0]), 3).tolist() == [
        [0, 2, 0],
        [1, 0, 0],
        [0, 0, 0],
    ]
