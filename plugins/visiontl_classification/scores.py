"""One small record per image, and the scores of a split computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from visiontl_classification.config import ClassificationConfig

TOP = 5  # classes kept per image
BINS = 15  # of the calibration error, as in Guo et al. 2017
THRESHOLD = 0.5  # multi-label: a class counts as named from this probability
MATRIX_LIMIT = 100  # classes up to which the confusion matrix is among the scores


def rows(
    cfg: ClassificationConfig,
    outputs: Mapping[str, Tensor],
    batch: Mapping[str, Any],
    meta: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """single: {"true", "top": the 5 most probable classes, "probability": theirs, "nll": -log p(true), "right"}.
    multi: {"true": indices, "probability": (K,) float32, "right": every label is}. Ties go to the lower class index."""
    logits = outputs["logits"].detach().float().cpu()  # (B, K)
    label = batch["label"].cpu()
    if cfg.labels == "multi":
        probability = logits.sigmoid().numpy()  # (B, K)
        return [
            {
                "true": np.flatnonzero(truth).tolist(),
                "probability": values,
                "right": bool((truth == (values >= THRESHOLD)).all()),
            }
            for truth, values in zip(label.numpy() > 0.5, probability, strict=True)
        ]
    log_probability = logits.log_softmax(1)  # (B, K)
    order = logits.argsort(dim=1, descending=True, stable=True)  # (B, K)
    top = order[:, :TOP]  # (B, min(5, K))
    probability = log_probability.gather(1, top).exp()
    nll = -log_probability.gather(1, label[:, None])[:, 0]  # (B,)
    return [
        {"true": int(t), "top": i.tolist(), "probability": p.tolist(), "nll": float(n), "right": int(t) == int(i[0])}
        for t, i, p, n in zip(label, top, probability, nll, strict=True)
    ]


def score(cfg: ClassificationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a split.

    single: accuracy (top-1), top5 (where there are more than five classes), macro_f1, ece, nll (nats), per_class
    (class -> share of its images that are right), confusion ([true][predicted] counts, up to 100 classes).
    multi: accuracy (images with every label right), mAP (macro average precision), micro_f1, macro_f1 at
    probability 0.5, per_class (class -> average precision).
    Means over classes are over those that have an image in the split; per_class lists only these.
    """
    return _multi(rows, meta["classes"]) if cfg.labels == "multi" else _single(rows, meta["classes"])


def _single(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    true = np.array([row["true"] for row in rows])  # (N,)
    predicted = np.array([row["top"][0] for row in rows])
    confidence = np.array([row["probability"][0] for row in rows])
    recall, _, f1, present = per_class(true, predicted, len(names))
    scores: dict[str, Any] = {"accuracy": float((true == predicted).mean())}
    if len(names) > TOP:  # with fewer classes it is 1 whatever was learned
        scores["top5"] = float(np.mean([row["true"] in row["top"] for row in rows]))
    scores |= {
        "macro_f1": float(f1[present].mean()),
        "ece": calibration_error(confidence, true == predicted),
        "nll": float(np.mean([row["nll"] for row in rows])),
        "per_class": {names[i]: float(recall[i]) for i in np.flatnonzero(present).tolist()},
    }
    if len(names) <= MATRIX_LIMIT:
        scores["confusion"] = confusion(true, predicted, len(names)).tolist()
    return scores


def _multi(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    true, probability = label_matrix(rows, len(names))  # (N, K) both
    predicted = probability >= THRESHOLD
    present = true.any(0)  # (K,)
    hits = (true & predicted).sum(0)
    f1 = _ratio(2 * hits, true.sum(0) + predicted.sum(0))  # (K,)
    precision = {int(i): average_precision(true[:, i], probability[:, i]) for i in np.flatnonzero(present)}
    return {
        "accuracy": float((true == predicted).all(1).mean()),
        "mAP": float(np.mean(list(precision.values()))) if precision else 0.0,
        "micro_f1": float(_ratio(2 * hits.sum(), true.sum() + predicted.sum())),
        "macro_f1": float(f1[present].mean()) if precision else 0.0,
        "per_class": {names[i]: value for i, value in precision.items()},
    }


def trivial(
    cfg: ClassificationConfig, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]
) -> tuple[str, list[dict[str, Any]]]:
    """How often each class or label occurs in the split, as the answer for every image."""
    if cfg.labels == "multi":
        share = label_matrix(rows, len(meta["classes"]))[0].mean(0).astype(np.float32)  # (K,)
        return "each label's frequency for every image", [{"true": row["true"], "probability": share} for row in rows]
    share = np.bincount([row["true"] for row in rows], minlength=len(meta["classes"])) / len(rows)  # (K,)
    order = np.argsort(-share, kind="stable")
    top = order[:TOP].tolist()
    answer = {"top": top, "probability": share[top].tolist()}
    made = [{"true": row["true"], **answer, "nll": float(-np.log(share[row["true"]]))} for row in rows]
    return f"the most frequent class ({meta['classes'][top[0]]}) for every image", made


def label_matrix(rows: Sequence[Mapping[str, Any]], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Multi-label rows -> truth (N, K) bool and probabilities (N, K)."""
    true = np.zeros((len(rows), classes), dtype=bool)
    for i, row in enumerate(rows):
        true[i, row["true"]] = True
    return true, np.stack([row["probability"] for row in rows])


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) counts, [true][predicted]."""
    return np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def per_class(
    true: np.ndarray, predicted: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(N,) indices each -> recall, precision, F1 and whether the class has images, (K,) each; 0 for 0 / 0."""
    right, images, named = (np.bincount(one, minlength=classes) for one in (true[true == predicted], true, predicted))
    return _ratio(right, images), _ratio(right, named), _ratio(2 * right, images + named), images > 0


def calibration_bins(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number, mean confidence and accuracy of the images in each of 15 equal bins ((m-1)/15, m/15]."""
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    number = np.bincount(bins, minlength=BINS)  # (15,)
    mean = _ratio(np.bincount(bins, weights=confidence, minlength=BINS), number)
    accuracy = _ratio(np.bincount(bins, weights=right, minlength=BINS), number)
    return number, mean, accuracy


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: sum of n_m / n * |accuracy_m - confidence_m| (Guo et al. 2017, On
    calibration of modern neural networks, equation 3)."""
    number, mean, accuracy = calibration_bins(confidence, right)
    return float((number * np.abs(accuracy - mean)).sum() / number.sum())


def average_precision(true: np.ndarray, scores: np.ndarray) -> float:
    """sum over thresholds of (R_n - R_{n-1}) P_n, equal scores being one threshold, without interpolation."""
    order = np.argsort(-scores, kind="stable")
    true, scores = true[order], scores[order]
    last = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1]  # the last image of each threshold
    hits = np.cumsum(true)[last]
    precision, recall = hits / (last + 1), hits / true.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _ratio(above: Any, below: Any) -> Any:
    """above / below, 0 where below is 0."""
    below = np.asarray(below, dtype=np.float64)
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)
