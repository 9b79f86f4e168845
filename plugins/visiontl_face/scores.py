"""One record per image, and the scores of a split computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from visiontl import DataError
from visiontl.kit.words import count, some
from visiontl_face import identification, verification
from visiontl_face.config import FaceConfig
from visiontl_face.verification import FARS, TOO_FEW, Roc

BASELINES = ("pooled", "centered")  # embeddings that need no training


def rows(
    cfg: FaceConfig, outputs: Mapping[str, Tensor], batch: Mapping[str, Any], meta: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """{"embedding": (d,) fp32, "pooled", "centered": (E,) fp16, "name", "identity" ("" where nobody knows), "group",
    "pairs": [(name of the other image, same, fold)] or None where the split has no list}. Half precision moves a
    baseline's cosine by some 1e-5 and halves what is sent between processes."""
    embedding = outputs["embedding"].float().cpu().numpy()  # (B, d)
    others = {name: outputs[name].half().cpu().numpy() for name in BASELINES}  # (B, E)
    return [
        {"embedding": embedding[i], **{name: values[i] for name, values in others.items()}, **about}
        for i, about in enumerate(batch["about"])
    ]


@dataclass(frozen=True)
class Judged:
    """The pairs of a split. first, second: (P,) row numbers; same: (P,) bool; fold: (P,), negative where not stated.
    lost: pairs of the list whose images are not among the rows (data.on_bad: skip)."""

    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    fold: np.ndarray
    lost: int

    @property
    def both_kinds(self) -> bool:
        return bool(self.same.any() and not self.same.all())


def score(cfg: FaceConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a split.

    Verification: auc, eer, accuracy and accuracy_std (LFW's ten folds), tar_at_far and threshold_at_far (FAR -> value,
    or "not enough pairs"), best_threshold (of all pairs), groups. Identification: rank1, rank5, dir_at_far. The same
    features without training: pooled_auc, pooled_accuracy, centered_auc, centered_accuracy. pairs: counts of each kind.
    What the rows cannot tell is left out. Raises DataError for embeddings that are not finite.
    """
    embedding = stacked(rows, "embedding")  # (N, d)
    judged = pairs_of(cfg, rows)
    scores: dict[str, Any] = {}
    if judged.both_kinds:
        scores |= _verification(similarities(embedding, judged), judged)
        for name in BASELINES:
            similarity = similarities(stacked(rows, name), judged)
            scores[f"{name}_auc"] = verification.auc(verification.roc(similarity, judged.same))
            scores[f"{name}_accuracy"] = _ten_folds(similarity, judged)[0]
    names, identities = [row["name"] for row in rows], [row["identity"] for row in rows]
    gallery, probes = identification.gallery_and_probes(identities, names)
    scores |= identification.closed_set(embedding, np.array(identities), gallery, probes)
    directed = identification.open_set(embedding, np.array(identities), gallery, probes)
    if directed:
        scores["dir_at_far"] = directed
    if judged.both_kinds and any(row["group"] for row in rows):
        groups = [(rows[a]["group"], rows[b]["group"]) for a, b in zip(judged.first, judged.second, strict=True)]
        similarity = similarities(embedding, judged)
        scores["groups"] = verification.group_scores(similarity, judged.same, groups, scores["best_threshold"])
    same = int(judged.same.sum())
    scores["pairs"] = {"same": same, "different": len(judged.same) - same, "left out": judged.lost}
    return scores


def trivial(
    cfg: FaceConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """One vector for every image, which calls everybody the same person."""
    same = {name: np.ones_like(rows[0][name]) for name in ("embedding", *BASELINES)}
    return "one vector for every image", [{**row, **same} for row in rows]


def stacked(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """(N, width) float64, rows normalized. Raises DataError naming images whose embedding is not finite."""
    found = np.stack([row[key] for row in rows]).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise DataError(
            f"the {key} of {count(len(bad), 'image')} is not finite: {some(rows[i]['name'] for i in bad.tolist())}; "
            "weights or features overflow (try train.precision=fp32)"
        )
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def similarities(embedding: np.ndarray, judged: Judged) -> np.ndarray:
    """(P,) cosines."""
    return np.einsum("pd,pd->p", embedding[judged.first], embedding[judged.second])


def pairs_of(cfg: FaceConfig, rows: Sequence[Mapping[str, Any]]) -> Judged:
    """The pairs of the split's list, or, where it has none, of its own images: all, or cfg.pairs.made of them at most,
    the same in every evaluation."""
    if any(row["pairs"] is not None for row in rows):
        place = {row["name"]: i for i, row in enumerate(rows)}
        listed = [
            (i, place.get(other, -1), same, fold) for i, row in enumerate(rows) for other, same, fold in row["pairs"]
        ]
        found = np.array(listed, dtype=np.int64).reshape(-1, 4)
        there = found[:, 1] >= 0
        first, second, same, fold = found[there].T
        return Judged(first, second, same.astype(bool), fold, int((~there).sum()))
    labels = np.unique([row["identity"] for row in rows], return_inverse=True)[1]
    first, second = _made(labels, cfg.pairs.made)
    return Judged(first, second, labels[first] == labels[second], np.full(len(first), -1), 0)


def _made(labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs i < j of N images: all where there are at most `most`, else half of them of one person if there are so
    many, and different ones drawn at random."""
    count = len(labels)
    if count * (count - 1) // 2 <= most:
        return np.triu_indices(count, 1)
    rng = np.random.default_rng(0)
    same = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        upper = np.triu_indices(len(members), 1)
        same.append(np.stack([members[upper[0]], members[upper[1]]], 1))
    chosen = np.concatenate(same)  # (S, 2)
    if len(chosen) > most // 2:
        chosen = chosen[np.sort(rng.choice(len(chosen), most // 2, replace=False))]
    wanted = most - len(chosen)
    drawn = rng.integers(0, count, (4 * wanted, 2))
    drawn = np.unique(np.sort(drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]], axis=1), axis=0)  # (D, 2)
    if len(drawn) > wanted:
        drawn = drawn[np.sort(rng.choice(len(drawn), wanted, replace=False))]
    both = np.concatenate([chosen, drawn])
    return both[:, 0], both[:, 1]


def _verification(similarity: np.ndarray, judged: Judged) -> dict[str, Any]:
    curve = verification.roc(similarity, judged.same)
    mean, deviation = _ten_folds(similarity, judged)
    points = {f"{far:g}": verification.at_far(curve, far) for far in FARS}
    return {
        "auc": verification.auc(curve),
        "eer": verification.eer(curve),
        "accuracy": mean,
        "accuracy_std": deviation,
        "best_threshold": verification.best_threshold(similarity, judged.same),
        "tar_at_far": {far: TOO_FEW if point is None else point[0] for far, point in points.items()},
        "threshold_at_far": {far: TOO_FEW if point is None else point[1] for far, point in points.items()},
    }


def _ten_folds(similarity: np.ndarray, judged: Judged) -> tuple[float, float]:
    """Mean and standard deviation over the folds; where there are too few pairs for two folds, all at their own best
    threshold."""
    fold = verification.folds_of(judged.same, judged.fold)
    found = verification.fold_accuracies(similarity, judged.same, fold)
    if not found:
        threshold = verification.best_threshold(similarity, judged.same)
        found = [verification.accuracy(similarity, judged.same, threshold)]
    return float(np.mean(found)), float(np.std(found, ddof=1)) if len(found) > 1 else 0.0


def curve_of(rows: Sequence[Mapping[str, Any]], judged: Judged, key: str) -> Roc:
    """The ROC of one kind of embedding."""
    return verification.roc(similarities(stacked(rows, key), judged), judged.same)
