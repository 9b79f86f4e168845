"""ROC and what is read off it, against scikit-learn; the LFW protocol, ranks and open-set rates against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import auc as sklearn_auc
from sklearn.metrics import roc_auc_score, roc_curve
from visiontl_face import identification, verification
from visiontl_face.config import FaceConfig
from visiontl_face.scores import pairs_of, score

from visiontl import DataError


def made(seed: int, ties: bool = False, pairs: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.4
    similarity = rng.normal(0, 1, pairs) + same
    return (similarity.round(1) if ties else similarity), same


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_roc_auc_eer_and_tar_are_scikit_learns(seed, ties):
    similarity, same = made(seed, ties)
    far, tar, threshold = roc_curve(same, similarity, drop_intermediate=False)
    curve = verification.roc(similarity, same)
    np.testing.assert_allclose(curve.far, far)
    np.testing.assert_allclose(curve.tar, tar)
    np.testing.assert_allclose(curve.threshold[1:], threshold[1:])
    assert verification.auc(curve) == pytest.approx(roc_auc_score(same, similarity), abs=1e-12)
    assert verification.auc(curve) == pytest.approx(sklearn_auc(far, tar), abs=1e-12)
    grid = np.linspace(0, 1, 200_001)
    middle = np.interp(grid, far, 1 - tar) if not ties else None
    if middle is not None:
        assert verification.eer(curve) == pytest.approx(grid[np.argmin(np.abs(middle - grid))], abs=0.01)
    for level in (0.1, 0.01):
        point = verification.at_far(curve, level)
        assert point is not None
        assert point[0] == tar[far <= level].max()
        assert ((similarity >= point[1])[~same]).mean() <= level
        assert ((similarity >= point[1])[same]).mean() == point[0]


def test_eer_by_hand():
    similarity = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    same = np.array([True, True, False, True, False, False])
    assert verification.eer(verification.roc(similarity, same)) == pytest.approx(1 / 3)
    assert verification.eer(verification.roc(similarity, np.array([True] * 3 + [False] * 3))) == 0


def test_tar_needs_at_least_one_pair_over_far():
    similarity, same = made(0)
    curve = verification.roc(similarity, same)  # about 240 different pairs
    assert verification.at_far(curve, 1e-2) is not None
    assert verification.at_far(curve, 1e-3) is None


def test_when_the_most_similar_pairs_are_of_two_people_nothing_is_accepted():
    similarity, same = np.array([0.9] * 30 + [0.5] * 30), np.array([False] * 30 + [True] * 30)
    point = verification.at_far(verification.roc(similarity, same), 0.1)
    assert point is not None
    assert point[0] == 0
    assert point[1] > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_ten_folds_are_those_of_a_plain_loop(seed):
    """Huang et al.: the threshold that is best on nine folds, tested on the tenth."""
    rng = np.random.default_rng(seed)
    fold = np.repeat(np.arange(10), 60)
    same = np.tile(np.repeat([True, False], 30), 10)
    similarity = rng.normal(0, 1, 600) + 2 * same
    found = verification.fold_accuracies(similarity, same, fold)
    for number, accuracy in enumerate(found):
        train = fold != number
        grid = np.unique(similarity[train])
        rates = [((similarity[train] >= t) == same[train]).mean() for t in grid]
        chosen = verification.best_threshold(similarity[train], same[train])
        assert ((similarity[train] >= chosen) == same[train]).mean() == max(rates)
        held = fold == number
        assert accuracy == pytest.approx(((similarity[held] >= chosen) == same[held]).mean())
    assert len(found) == 10


def test_made_folds_hold_equal_shares_and_are_always_the_same():
    same = np.arange(600) < 300
    fold = verification.folds_of(same, np.full(600, -1))
    assert [int((same & (fold == i)).sum()) for i in range(10)] == [30] * 10
    assert [int((~same & (fold == i)).sum()) for i in range(10)] == [30] * 10
    np.testing.assert_array_equal(fold, verification.folds_of(same, np.full(600, -1)))
    np.testing.assert_array_equal(verification.folds_of(same, np.arange(600) % 7), np.arange(600) % 7)


def test_accuracy_weighs_both_kinds_alike():
    similarity = np.array([1.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    same = np.array([True, True, True, True, False, False])
    assert verification.accuracy(similarity, same, 0.5) == pytest.approx((0.75 + 0.5) / 2)


def rows_of(embedding, identities, groups=None, pairs=None):
    groups = groups or [""] * len(embedding)
    return [
        {
            "embedding": vector, "pooled": vector, "centered": vector, "name": f"{i:03d}.png", "identity": who,
            "group": group, "pairs": None if pairs is None else pairs.get(i, []),
        }
        for i, (vector, who, group) in enumerate(zip(embedding, identities, groups, strict=True))
    ]  # fmt: skip


CFG = FaceConfig.model_validate({"data": "x"})


def people(seed: int, count: int = 6, each: int = 4, noise: float = 0.7):
    rng = np.random.default_rng(seed)
    identities = np.repeat(np.arange(count), each)
    vectors = rng.normal(0, 1, (count, 8))[identities] + noise * rng.normal(0, 1, (len(identities), 8))
    return vectors.astype(np.float32), [f"p{i}" for i in identities]


@pytest.mark.parametrize("seed", range(3))
def test_ranks_and_dir_are_those_of_plain_loops(seed):
    vectors, identities = people(seed, count=8, each=6)
    scores = score(CFG, rows_of(vectors, identities), {})
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    first = {who: identities.index(who) for who in dict.fromkeys(identities)}
    ranks = []
    for i, who in enumerate(identities):
        if first[who] != i:
            order = sorted(first, key=lambda other: -float(unit[first[other]].astype(float) @ unit[i].astype(float)))
            ranks.append(order.index(who) + 1)
    assert scores["rank1"] == pytest.approx(np.mean([rank == 1 for rank in ranks]))
    assert scores["rank5"] == pytest.approx(np.mean([rank <= 5 for rank in ranks]))
    enrolled = sorted(first)
    rates = []
    for half in (enrolled[::2], enrolled[1::2]):
        best = {}
        for i, who in enumerate(identities):
            if first[who] != i:
                values = {other: float(unit[first[other]].astype(float) @ unit[i].astype(float)) for other in half}
                best[i] = max(values.items(), key=lambda pair: pair[1])
        strangers = sorted((value for i, (_, value) in best.items() if identities[i] not in half), reverse=True)
        threshold = strangers[int(0.1 * len(strangers))]  # of 20: two may pass
        known = [i for i in best if identities[i] in half]
        rates.append(np.mean([best[i][0] == identities[i] and best[i][1] > threshold for i in known]))
    assert scores["dir_at_far"]["0.1"] == pytest.approx(np.mean(rates))
    assert scores["dir_at_far"]["0.01"] == identification.TOO_FEW


def test_dir_at_far_by_hand():
    """Two halves of one person each; strangers come near the enrolled person 0, 1, ... 9 times in ten probes."""
    gallery, probes = np.array([0, 11]), np.r_[1:11, 12:22]
    identities = np.array(["a"] * 11 + ["b"] * 11)
    angle = np.r_[0.0, np.full(10, 0.3), np.pi / 2, np.pi / 2 - np.r_[1.4, np.full(9, 0.2)]]
    embedding = np.stack([np.cos(angle), np.sin(angle)], 1)
    found = identification.open_set(embedding, identities, gallery, probes)
    # a enrolled: strangers at angles 0.17 and nine of 1.37; one of ten may pass, the threshold is cos 1.37, all a pass
    # b enrolled: strangers at pi/2 - 0.3, all alike; none passes, and nine b at 0.2 do, not that at 1.4
    assert found["0.1"] == pytest.approx((1.0 + 0.9) / 2)
    assert found["0.01"] == identification.TOO_FEW


def test_scores_per_group_use_one_threshold_and_leave_out_mixed_pairs():
    rng = np.random.default_rng(1)
    vectors, identities = people(1, count=8, each=4, noise=0.4)
    groups = ["x"] * 16 + ["y"] * 16
    vectors[16:] += 1.5 * rng.normal(0, 1, (16, 8)).astype(np.float32)  # y is harder
    rows = rows_of(vectors, identities, groups)
    scores = score(CFG, rows, {})
    assert scores["groups"].keys() == {"x", "y"}
    unit = vectors.astype(float) / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    for name, own in (("x", range(16)), ("y", range(16, 32))):
        pairs = [(i, j) for i in own for j in own if i < j]
        similarity = np.array([unit[i] @ unit[j] for i, j in pairs])
        same = np.array([identities[i] == identities[j] for i, j in pairs])
        told = scores["groups"][name]
        assert told["pairs"] == len(pairs)
        assert told["auc"] == pytest.approx(roc_auc_score(same, similarity))
        called = similarity >= scores["best_threshold"]
        assert told["false_match"] == pytest.approx(called[~same].mean())
        assert told["false_non_match"] == pytest.approx((~called[same]).mean())
    assert scores["groups"]["y"]["auc"] < scores["groups"]["x"]["auc"]


def test_a_list_of_pairs_is_what_is_judged():
    vectors, identities = people(2)
    pairs = {0: [("001.png", True, 0), ("004.png", False, 1)], 8: [("009.png", True, 1), ("000.png", False, 0)]}
    rows = rows_of(vectors, identities, pairs=pairs)
    judged = pairs_of(CFG, rows)
    assert list(zip(judged.first.tolist(), judged.second.tolist(), strict=True)) == [(0, 1), (0, 4), (8, 9), (8, 0)]
    assert judged.same.tolist() == [True, False, True, False]
    assert judged.fold.tolist() == [0, 1, 1, 0]
    assert score(CFG, rows, {})["pairs"] == {"same": 2, "different": 2, "left out": 0}
    assert score(CFG, [row for row in rows if row["name"] != "009.png"], {})["pairs"]["left out"] == 1


def test_accuracy_is_the_mean_over_the_lists_folds_and_its_deviation():
    """Three folds by hand: 0.9 and 0.8 are told apart from 0.1 and 0.2 at any threshold between; fold 2 has one of
    each kind on the wrong side."""
    similarity = np.array([0.9, 0.8, 0.1, 0.2, 0.9, 0.8, 0.1, 0.2, 0.9, 0.1, 0.9, 0.1])
    same = np.array([True, True, False, False] * 3)
    rows = []
    for i, (value, kind) in enumerate(zip(similarity, same, strict=True)):
        pair = [(f"{i:02d}b", bool(kind), i // 4)]
        for name, vector, pairs in (
            (f"{i:02d}a", [1.0, 0.0], pair),
            (f"{i:02d}b", [value, np.sqrt(1 - value**2)], []),
        ):
            vector = np.array(vector, np.float32)
            kinds = {"embedding": vector, "pooled": vector, "centered": vector}
            rows.append({**kinds, "name": name, "identity": name, "group": "", "pairs": pairs})
    scores = score(CFG, rows, {})
    assert scores["accuracy"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert scores["accuracy_std"] == pytest.approx(np.sqrt((2 * (1 / 6) ** 2 + (1 / 3) ** 2) / 2))


def test_many_images_give_a_limited_number_of_pairs_of_both_kinds():
    vectors, identities = people(3, count=30, each=10)
    cfg = FaceConfig.model_validate({"data": "x", "pairs": {"made": 1000}})
    judged = pairs_of(cfg, rows_of(vectors, identities))
    assert len(judged.same) == 1000
    assert judged.same.sum() == 500
    assert len({(a, b) for a, b in zip(judged.first.tolist(), judged.second.tolist(), strict=True)}) == 1000
    for a, b, same in zip(judged.first, judged.second, judged.same, strict=True):
        assert (identities[a] == identities[b]) == same


def test_embeddings_that_are_not_finite_are_named():
    vectors, identities = people(4)
    vectors[3, 2] = np.nan
    with pytest.raises(DataError, match=r"embedding of 1 image is not finite: 003.png"):
        score(CFG, rows_of(vectors, identities), {})


def test_what_cannot_be_told_is_left_out():
    vectors, identities = people(5, count=1, each=7)
    scores = score(CFG, rows_of(vectors, identities), {})
    assert scores == {"pairs": {"same": 21, "different": 0, "left out": 0}}
