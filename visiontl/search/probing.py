"""How well labels can be read out of features, without training the backbone: a linear probe, nearest neighbors, LogME;
and whether two orders agree. All in NumPy and torch on the CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STRENGTH = 1.0  # of the penalty: 1 / C of scikit-learn's LogisticRegression, on standardized features
ITERATIONS = 200
CONSTANT = {"fp32": 1e-6}  # of a feature's mean: a deviation below it is rounding, by the precision of the features
CONSTANT_HALF = 2e-3  # of all others
TINY = 1e-30  # features of random weights are small, and as good as large ones
NEIGHBORS = 5
LOGME_ROWS = 5000  # rows that the evidence is computed on at the most
CHUNK = 2048  # rows whose neighbors are looked for at a time


@dataclass(frozen=True)
class Table:
    """Features with their labels. x: (N, D) float32; y: (N,) class numbers or (N, K) 0/1; owner: (N,) number of the
    image; fold: (N,) part that a row is left out in. mean_recall: score classes alike, however many rows each has.
    precision: that the features were computed in."""

    x: Tensor
    y: Tensor
    owner: Tensor
    fold: Tensor
    mean_recall: bool = False
    precision: str = "bf16"

    @property
    def multi(self) -> bool:
        return self.y.ndim == 2

    @property
    def classes(self) -> int:
        return int(self.y.shape[1]) if self.multi else int(self.y.max()) + 1


def score_names(table: Table) -> str:
    return "mean average precision" if table.multi else "mean recall" if table.mean_recall else "accuracy"


# --------------------------------------------------------------------------------------------------------- linear probe


def probe_scores(table: Table) -> tuple[list[float], Tensor]:
    """(the score on each fold of logistic regression that was fitted on the others; (images,) share of each image's
    labels that it got right there, NaN for an image without one). With mean_recall a label counts by the rarity of its
    class in both."""
    scores: list[float] = []
    right = torch.zeros(len(table.x))
    for fold in table.fold.unique(sorted=True):
        out = table.fold == fold
        x, new = standardized(table.x[~out], table.x[out], table.precision)
        weight, bias = logistic(x, table.y[~out], table.classes)
        logits = new @ weight.T + bias
        scores.append(score(logits, table.y[out], table))
        right[out] = rightness(logits, table.y[out])
    weights = torch.ones(len(right))
    if table.mean_recall:
        weights = 1 / torch.bincount(table.y, minlength=table.classes)[table.y]
    images = int(table.owner.max()) + 1
    sums, whole = (torch.zeros(images).index_add_(0, table.owner, one) for one in (right * weights, weights))
    return scores, sums / whole


def rightness(logits: Tensor, y: Tensor) -> Tensor:
    """(M,) 1 where the class is right; of several classes the share that is."""
    if y.ndim == 2:
        return ((logits > 0) == (y > 0)).float().mean(1)
    return (logits.argmax(1) == y).float()


def standardized(x: Tensor, new: Tensor, precision: str = "bf16") -> tuple[Tensor, Tensor]:
    """Both by the mean and deviation of the first, (N, D) and (M, D). A feature that is constant up to the rounding of
    the precision that it was computed in becomes 0."""
    mean, deviation = x.mean(0), x.std(0, correction=0)
    varies = deviation > CONSTANT.get(precision, CONSTANT_HALF) * mean.abs() + TINY
    scale = torch.where(varies, 1 / deviation.clamp(min=TINY), torch.zeros_like(deviation))
    return (x - mean) * scale, (new - mean) * scale


def logistic(x: Tensor, y: Tensor, classes: int, strength: float = STRENGTH) -> tuple[Tensor, Tensor]:
    """(weight (K, D), bias (K,)) that make the sum of the log losses plus strength / 2 |weight|^2 least.

    y: (N,) class numbers: softmax, as scikit-learn's LogisticRegression(C=1 / strength); (N, K) 0/1: K sigmoids.
    """
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )
    multi, count = y.ndim == 2, len(x)

    def loss() -> Tensor:
        solver.zero_grad()
        logits = x @ weight.T + bias
        if multi:
            found = torch.nn.functional.binary_cross_entropy_with_logits(logits, y.float(), reduction="sum")
        else:
            found = torch.nn.functional.cross_entropy(logits, y, reduction="sum")
        total = (found + strength / 2 * weight.square().sum()) / count
        total.backward()
        return total

    solver.step(loss)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


def score(logits: Tensor, y: Tensor, table: Table) -> float:
    """Of (M, K) logits or votes against their labels."""
    if table.multi:
        return mean_average_precision(logits.numpy(), y.numpy())
    right = logits.argmax(1) == y
    if not table.mean_recall:
        return float(right.float().mean())
    return float(np.mean([float(right[y == one].float().mean()) for one in y.unique()]))


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that occur: precision at each image that has the class, in the order of the scores."""
    found: list[float] = []
    for values, right in zip(scores.T, truth.T.astype(bool), strict=True):
        if right.any():
            hits = right[np.argsort(-values, kind="stable")]
            found.append(float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean()))
    return float(np.mean(found)) if found else math.nan


# --------------------------------------------------------------------------------------------------- nearest neighbors


def neighbor_score(table: Table, neighbors: int = NEIGHBORS) -> float:
    """The mean over folds of the score of a vote of the nearest rows of the other folds, by cosine, each weighed by its
    similarity."""
    x = torch.nn.functional.normalize(table.x - table.x.mean(0), dim=1)
    votes = table.y.float() if table.multi else torch.nn.functional.one_hot(table.y, table.classes).float()
    found: list[float] = []
    for fold in table.fold.unique():
        out = table.fold == fold
        known, labels = x[~out], votes[~out]
        logits = torch.cat([_voted(part, known, labels, neighbors) for part in x[out].split(CHUNK)])
        found.append(score(logits, table.y[out], table))
    return float(np.mean(found))


def _voted(x: Tensor, known: Tensor, labels: Tensor, neighbors: int) -> Tensor:
    alike, place = (x @ known.T).topk(min(neighbors, len(known)), dim=1)  # (M, k)
    return ((alike + 1).unsqueeze(2) * labels[place]).sum(1)


# --------------------------------------------------------------------------------------------------------------- LogME


def logme(x: np.ndarray, y: np.ndarray) -> float:
    """LogME (You et al. 2021, Logme: practical assessment of pre-trained models for transfer learning): the logarithm
    of the largest evidence of a Bayesian linear model from features to a class's 0/1, per row, mean over the classes.

    x: (N, D); y: (N,) class numbers or (N, K) 0/1.
    """
    x = x.astype(np.float64)
    targets = y.astype(np.float64) if y.ndim == 2 else np.eye(int(y.max()) + 1)[y]
    targets = targets[:, targets.any(0)]  # a class that no row has has no evidence
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return float(np.mean([largest_evidence(u.T @ t, s, float(t @ t), x.shape) for t in targets.T]) / len(x))


def largest_evidence(z: np.ndarray, s: np.ndarray, squared: float, shape: tuple[int, ...]) -> float:
    """The evidence at the fixed point of MacKay's updates of alpha and beta. z: U^T y of x = U diag(s) V^T; squared:
    |y|^2; shape: (N, D)."""
    count, _ = shape
    alpha = beta = 1.0
    outside = max(0.0, squared - float(z @ z))  # of y, what no feature reaches
    for _ in range(200):
        ratio = alpha / beta
        effective = float((s**2 / (s**2 + ratio)).sum())  # gamma
        squares = float(((s * z / (s**2 + ratio)) ** 2).sum())  # |m|^2
        rest = outside + float(((ratio / (s**2 + ratio) * z) ** 2).sum())  # |x m - y|^2
        alpha, beta = effective / max(squares, 1e-12), (count - effective) / max(rest, 1e-12)
        if abs(alpha / beta - ratio) <= 1e-6 * ratio:
            break
    return evidence(alpha, beta, z, s, squared, shape)


def evidence(alpha: float, beta: float, z: np.ndarray, s: np.ndarray, squared: float, shape: tuple[int, ...]) -> float:
    """log p(y) of y = x w + noise, w ~ N(0, 1 / alpha), noise ~ N(0, 1 / beta)."""
    count, width = shape
    ratio = alpha / beta
    squares = float(((s * z / (s**2 + ratio)) ** 2).sum())
    rest = max(0.0, squared - float(z @ z)) + float(((ratio / (s**2 + ratio) * z) ** 2).sum())
    determinant = float(np.log(alpha + beta * s**2).sum()) + (width - len(s)) * math.log(alpha)
    return (
        width / 2 * math.log(alpha)
        + count / 2 * math.log(beta / (2 * math.pi))
        - beta / 2 * rest
        - alpha / 2 * squares
        - determinant / 2
    )


def logme_of(table: Table) -> float:
    """LogME of a table, of at most LOGME_ROWS of its rows, evenly spread."""
    step = -(-len(table.x) // LOGME_ROWS)
    return logme(table.x[::step].numpy(), table.y[::step].numpy())


# ----------------------------------------------------------------------------------------------------- orders and noise


def kendall(one: Sequence[float], other: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the same things: 1 the same order, -1 the opposite; nan where one has no order
    at all."""
    pairs = [(np.sign(a - b), np.sign(c - d)) for i, (a, c) in enumerate(zip(one, other, strict=True))
             for b, d in list(zip(one, other, strict=True))[:i]]  # fmt: skip
    agree = sum(a * b for a, b in pairs)
    counts = math.sqrt(sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs))
    return float(agree / counts) if counts else math.nan
