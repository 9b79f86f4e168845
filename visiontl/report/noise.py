"""Whether two numbers differ by more than chance: intervals of means and shares, paired tests, several comparisons at
once. Imports no torch.

Sources: Wilson 1927 (interval of a share); McNemar 1947 in its exact form (two models on the same images, as Dietterich
1998 advises for one test set); Student's paired and Welch's 1947 unpaired t-test; Holm 1979 (several comparisons).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05  # what happens by chance less often than this is called a difference
Z = 1.959963984540054  # the normal distribution's 0.975 quantile
EXACT = 4000  # images on which two models disagree, up to which McNemar's test is counted out


@dataclass(frozen=True)
class Interval:
    """Where a value lies with 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class Test:
    """A difference, what of it chance could have made, and how that was found.

    difference: of the means, the one asked about minus the other. p: how often chance alone makes a difference as
    large, 0..1. how: the test in words. count: images, or runs of both sides together.
    """

    difference: float
    p: float
    how: str
    count: int


def is_share(values: np.ndarray) -> bool:
    """Whether every value is 0 or 1, so that the mean is a share."""
    return bool(np.isin(values, (0, 1)).all())


def interval(values: np.ndarray) -> Interval | None:
    """95 % interval of the mean of (N,) values, one an image: Wilson's where all are 0 or 1 (it does not shrink to
    nothing at 0 and 1), Student's otherwise. None for fewer than 2 values."""
    count = len(values)
    if count < 2:
        return None
    mean = float(values.mean())
    if is_share(values):
        middle = (mean + Z**2 / (2 * count)) / (1 + Z**2 / count)
        half = Z / (1 + Z**2 / count) * math.sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2))
        return Interval(max(0.0, middle - half), min(1.0, middle + half))
    half = student_quantile(count - 1) * float(values.std(ddof=1)) / math.sqrt(count)
    return Interval(mean - half, mean + half)


def paired(a: np.ndarray, b: np.ndarray) -> Test:
    """Two models on the same images, (N,) values each in the same order: McNemar's exact test where all values are 0 or
    1, else Student's paired t-test. Raises ValueError for fewer than 2 images."""
    count = len(a)
    if count < 2 or len(b) != count:
        raise ValueError(f"{count} and {len(b)} values; a paired test needs the same 2 or more images")
    difference = a - b
    mean = float(difference.mean())
    if is_share(a) and is_share(b):
        return Test(mean, mcnemar(int((difference > 0).sum()), int((difference < 0).sum())), "McNemar, paired", count)
    error = float(difference.std(ddof=1)) / math.sqrt(count)
    p = student(mean / error, count - 1) if error > 0 else float(mean == 0)
    return Test(mean, p, "t-test, paired", count)


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p of McNemar's exact test: of the images that one model alone has right, half would be each one's by
    chance (a binomial test); its normal approximation with continuity correction above EXACT such images."""
    number, fewer = only_a + only_b, min(only_a, only_b)
    if number == 0:
        return 1.0
    if number > EXACT:
        return math.erfc(max(0, abs(only_a - only_b) - 1) / math.sqrt(2 * number))
    tail = sum(math.comb(number, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**number) if fewer * 2 < number else 1.0


def unpaired(a: np.ndarray, b: np.ndarray) -> Test:
    """Welch's t-test of two means; the sides may differ in number and in spread. Raises ValueError for fewer than 2
    values on a side."""
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} values; 2 are needed on each side")
    parts = [float(side.var(ddof=1)) / len(side) for side in (a, b)]
    mean, count = float(a.mean() - b.mean()), len(a) + len(b)
    if sum(parts) == 0:
        return Test(mean, float(mean == 0), "Welch's t-test", count)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    return Test(mean, student(mean / math.sqrt(sum(parts)), freedom), "Welch's t-test", count)


def holm(p: Sequence[float]) -> list[float]:
    """The values of several comparisons, each raised so that a chance finding among all of them stays as rare as in one
    (Holm 1979); the order is kept."""
    raised, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda one: p[one])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        raised[place] = highest
    return raised


def student(t: float, freedom: float) -> float:
    """Two-sided p of Student's t: I_x(freedom / 2, 1 / 2) at x = freedom / (freedom + t^2)."""
    return _beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(freedom: float) -> float:
    """The t that 95 % lie within, by halving."""
    low, high = 0.0, 1000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if student(middle, freedom) > LEVEL else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function, by its continued fraction (Lentz; Press et al. 2007, section 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # where the other side's fraction is the quick one
        return 1 - _beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    tiny, c = 1e-300, 1.0
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            value *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return front * value / a


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
