"""Same person or not: ROC and what is read off it, the LFW protocol, scores per group. NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
TOO_FEW = "not enough pairs"
FOLDS = 10


@dataclass(frozen=True)
class Roc:
    """At threshold t a pair is called the same when its similarity is at least t. far: (T,) share of the different
    pairs called the same, rising; tar: (T,) of the same pairs; threshold: (T,) falling, the first infinite."""

    far: np.ndarray
    tar: np.ndarray
    threshold: np.ndarray
    same: int
    different: int


def roc(similarity: np.ndarray, same: np.ndarray) -> Roc:
    """similarity: (P,); same: (P,) bool, with pairs of both kinds. One point per different similarity."""
    order = np.argsort(-similarity, kind="stable")
    values, hits = similarity[order], same[order]
    last = np.r_[np.flatnonzero(np.diff(values)), len(values) - 1]  # the last pair of each threshold
    right = np.cumsum(hits)[last]
    wrong = last + 1 - right
    count, others = int(same.sum()), int((~same).sum())
    return Roc(np.r_[0.0, wrong / others], np.r_[0.0, right / count], np.r_[np.inf, values[last]], count, others)


def auc(curve: Roc) -> float:
    """The area under the ROC by trapezoids: the chance that a same pair is more similar than a different one."""
    return float(np.trapezoid(curve.tar, curve.far))


def eer(curve: Roc) -> float:
    """The error where as many same pairs are refused as different ones accepted, interpolated between thresholds."""
    gap = curve.far - (1 - curve.tar)  # rises from -1 to 1
    after = int(np.argmax(gap >= 0))
    if gap[after] == 0 or after == 0:
        return float(curve.far[after])
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    return float(curve.far[after - 1] + share * (curve.far[after] - curve.far[after - 1]))


def at_far(curve: Roc, far: float) -> tuple[float, float] | None:
    """(TAR, threshold) with the most same pairs accepted among the thresholds whose FAR is at most `far`; None where
    there are fewer different pairs than 1 / far, of which not even one may be accepted."""
    if curve.different * far < 1 - 1e-9:
        return None
    best = int(np.flatnonzero(curve.far <= far + 1e-12)[-1])
    accepted = float(curve.tar[best])
    if not np.isfinite(curve.threshold[best]):  # the most similar different pair stands before all same ones
        return 0.0, float(np.nextafter(curve.threshold[1], np.inf))
    return accepted, float(curve.threshold[best])


def folds_of(same: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(P,) fold numbers: the list's own, where it states them (none is negative); else up to ten, each with its share
    of the same and of the different pairs, dealt in an order that is a function of their number alone."""
    if len(fold) and (fold >= 0).all():
        return fold
    made = np.zeros(len(same), dtype=np.int64)
    number = max(1, min(FOLDS, int(same.sum()), int((~same).sum())))
    for kind in (True, False):
        places = np.flatnonzero(same == kind)
        made[np.random.default_rng(0).permutation(places)] = np.arange(len(places)) % number
    return made


def best_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """Where the mean of both kinds' accuracies is largest: in the middle between two neighboring similarities, the
    middle one of equally good places."""
    curve = roc(similarity, same)
    balanced = (curve.tar + 1 - curve.far) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    place = int(best[len(best) // 2])
    upper = curve.threshold[place]
    lower = curve.threshold[min(place + 1, len(curve.threshold) - 1)]
    return float(np.nextafter(lower, np.inf) if not np.isfinite(upper) else (upper + lower) / 2)


def accuracy(similarity: np.ndarray, same: np.ndarray, threshold: float) -> float:
    """The mean of the shares of same pairs and of different pairs that are told right. With as many pairs of one kind
    as of the other, as in LFW, that is the share of all pairs."""
    called = similarity >= threshold
    shares = [float((called[same == kind] == kind).mean()) for kind in (True, False) if (same == kind).any()]
    return float(np.mean(shares))


def fold_accuracies(similarity: np.ndarray, same: np.ndarray, fold: np.ndarray) -> list[float]:
    """The LFW protocol (Huang et al. 2007, view 2): each fold is judged at the threshold that is best on the others.
    Empty where the pairs do not fill two folds."""
    found = []
    for number in np.unique(fold):
        held = fold == number
        if len(np.unique(same[~held])) == 2:
            found.append(accuracy(similarity[held], same[held], best_threshold(similarity[~held], same[~held])))
    return found


def group_scores(
    similarity: np.ndarray, same: np.ndarray, groups: Sequence[tuple[str, str]], threshold: float
) -> dict[str, dict[str, float | str]]:
    """Scores of the pairs within each group, at one threshold for all: pairs, auc, false_match (different people called
    the same) and false_non_match. Pairs of two groups, or of none, count nowhere."""
    names = sorted({a for a, b in groups if a and a == b})
    found: dict[str, dict[str, float | str]] = {}
    for name in names:
        chosen = np.array([a == b == name for a, b in groups])
        values, kinds = similarity[chosen], same[chosen]
        called = values >= threshold
        scores: dict[str, float | str] = {"pairs": int(chosen.sum())}
        scores["auc"] = auc(roc(values, kinds)) if len(np.unique(kinds)) == 2 else TOO_FEW
        scores["false_match"] = float(called[~kinds].mean()) if (~kinds).any() else TOO_FEW
        scores["false_non_match"] = float((~called[kinds]).mean()) if kinds.any() else TOO_FEW
        found[name] = scores
    return found
