"""Counts and scores against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.scores import confusion, packed, rows, score, summed, unpacked

CFG = SegmentationConfig.model_validate({"data": "."})
IGNORED = 255


def meta(classes: int, background: int | None = None) -> dict:
    return {"classes": [f"c{k}" for k in range(classes)], "background": background}


def made(guesses: list, truths: list, classes: int) -> list[dict]:
    """Rows of images whose logits say exactly these guesses, at the masks' own size."""
    guess = torch.tensor(np.stack(guesses))
    truth = torch.tensor(np.stack(truths), dtype=torch.uint8)
    logits = torch.nn.functional.one_hot(guess.long(), classes).permute(0, 3, 1, 2).float()
    sizes = torch.tensor([truth.shape[1:]] * len(truth))
    batch = {"truth": list(truth), "mask": truth, "size": sizes, "shown": sizes}
    return rows(CFG, {"logits": logits, "extent": sizes}, batch, meta(classes))


@pytest.mark.parametrize("classes", [2, 15, 16, 60, 254])
@pytest.mark.parametrize("side", [1, 13], ids=["noise", "runs"])
def test_confusion_is_scikit_learns(by, classes, side):
    draw = np.random.default_rng(classes)
    guess, truth = draw.integers(0, classes, (2, 40, 50)).astype(np.uint8).repeat(side, 2)
    truth[draw.random(truth.shape) < 0.1 / side] = IGNORED
    pairs, pixels = confusion(torch.tensor(guess), torch.tensor(truth), classes)
    table = summed([{"pairs": pairs, "pixels": pixels}], "pairs", "pixels", classes)
    kept = truth != IGNORED
    expected = confusion_matrix(truth[kept], guess[kept], labels=range(classes))
    assert np.array_equal(table, expected)


def test_scores_are_scikit_learns():
    draw = np.random.default_rng(1)
    truths = [draw.integers(0, 4, (20, 30)) for _ in range(3)]
    guesses = [np.where(draw.random((20, 30)) < 0.7, truth, draw.integers(0, 4, (20, 30))) for truth in truths]
    truths = [np.where(draw.random((20, 30)) < 0.1, IGNORED, truth) for truth in truths]
    found = score(CFG, made(guesses, truths, 4), meta(4))
    flat_truth, flat_guess = np.concatenate([t.ravel() for t in truths]), np.concatenate([g.ravel() for g in guesses])
    kept = flat_truth != IGNORED
    each = jaccard_score(flat_truth[kept], flat_guess[kept], average=None)
    assert list(found["per_class"].values()) == pytest.approx(each.tolist())
    assert found["miou"] == pytest.approx(each.mean())
    assert found["dice"] == pytest.approx((2 * each / (1 + each)).mean())
    assert found["accuracy"] == pytest.approx((flat_truth == flat_guess)[kept].mean())
    alone = [
        jaccard_score(t[t != IGNORED], g[t != IGNORED], average="macro") for t, g in zip(truths, guesses, strict=True)
    ]
    assert found["miou_per_image"] == pytest.approx(np.mean(alone))
    assert found["counts"] == {"images": 3, "pixels": int(kept.sum()), "ignored": int((~kept).sum())}
    assert found["confusion"]["c0"]["c0"] == int(((flat_truth == 0) & (flat_guess == 0)).sum())


TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, IGNORED]])


def test_a_class_that_is_nowhere_is_left_out():
    found = score(CFG, made([np.where(TRUTH == IGNORED, 0, TRUTH)], [TRUTH], 3), meta(3))
    assert found["miou"] == 1
    assert found["per_class"] == {"c0": 1.0, "c1": 1.0}


def test_a_class_that_is_predicted_and_never_true_counts_as_zero():
    guess = np.where(TRUTH == IGNORED, 0, TRUTH)
    guess[0, 0] = 2
    found = score(CFG, made([guess], [TRUTH], 3), meta(3))
    assert found["per_class"] == {"c0": 3 / 4, "c1": 1.0, "c2": 0.0}
    assert found["miou"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert found["accuracy"] == 6 / 7


def test_what_is_said_of_ignored_pixels_counts_nowhere():
    one, other = (np.where(TRUTH == IGNORED, said, TRUTH) for said in (0, 2))
    scores = [score(CFG, made([guess], [TRUTH], 3), meta(3)) for guess in (one, other)]
    assert scores[0] == scores[1]


def test_an_answer_of_one_class_only():
    found = score(CFG, made([np.zeros((2, 4), dtype=int)], [TRUTH], 2), meta(2))
    assert found["per_class"] == {"c0": 4 / 7, "c1": 0.0}
    assert found["miou"] == pytest.approx(2 / 7)
    assert found["accuracy_per_class"] == pytest.approx(1 / 2)


def test_nothing_but_ignored_pixels():
    nothing = np.full((2, 4), IGNORED)
    found = score(CFG, made([np.zeros((2, 4), dtype=int)], [nothing], 2), meta(2))
    assert np.isnan(found["miou"])
    assert "accuracy" not in found
    both = score(CFG, made([np.zeros((2, 4), dtype=int), np.zeros((2, 4), dtype=int)], [nothing, TRUTH], 2), meta(2))
    assert both["miou"] == both["miou_per_image"] == pytest.approx(2 / 7)


def test_the_background_may_be_left_out_of_means():
    cfg = SegmentationConfig.model_validate(
        {"data": {"folder": ".", "background": "c0", "background_policy": "unscored"}}
    )
    guess = np.zeros((2, 4), dtype=int)
    found = score(cfg, made([guess], [TRUTH], 2), meta(2, background=0))
    assert found["miou"] == 0
    assert found["accuracy"] == 4 / 7


def test_both_sizes_are_scored():
    """The network saw half of the size; its answer is doubled for the photo's own."""
    truth = torch.tensor(np.kron([[0, 1], [1, 0]], np.ones((4, 4))), dtype=torch.uint8)
    truth[0, 0] = 1
    small = truth[1::2, 1::2]
    logits = torch.nn.functional.one_hot(small.long(), 2).permute(2, 0, 1)[None].float()
    batch = {"truth": [truth], "mask": small[None], "size": torch.tensor([[8, 8]]), "shown": torch.tensor([[4, 4]])}
    found = score(CFG, rows(CFG, {"logits": logits, "extent": torch.tensor([[4, 4]])}, batch, meta(2)), meta(2))
    assert found["miou_as_shown"] == 1
    assert found["miou"] == pytest.approx((31 / 32 + 32 / 33) / 2)


def test_small_masks_survive_packing():
    mask = torch.randint(0, 256, (700, 300), dtype=torch.uint8)
    small = unpacked(packed(mask))
    assert small.shape == (175, 75)
    assert np.array_equal(small, mask[2::4, 2::4].numpy())
