"""The range test of the learning rate (Smith 2017, Cyclical learning rates, section 3.3): what its losses say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visiontl.report.figures import BLUE, GRAY, ORANGE
from visiontl.report.formats import number

LOW, HIGH = 1e-6, 10.0  # learning rates of the head, between which the test goes
DIVERGED = 4.0  # times the lowest smoothed loss: nothing is learned beyond it
SMOOTH = 0.9  # of the running mean
LEAST = 0.05  # share of the first loss that it must fall by to say anything
FALL = 10.0  # rate of the lowest loss / rate that is safe, a rule of thumb


@dataclass(frozen=True)
class RangeTest:
    """rates, losses: (N,) of each update. smooth: running mean of the losses. lr: what is suggested, None where the
    losses do not say; why: the reason. steepest, lowest: rates where the smoothed loss falls fastest, and is lowest."""

    rates: Sequence[float]
    losses: Sequence[float]
    smooth: Sequence[float]
    lr: float | None
    why: str
    steepest: float | None = None
    lowest: float | None = None


def rates_between(steps: int, low: float = LOW, high: float = HIGH) -> list[float]:
    """Evenly over orders of magnitude, both ends included."""
    return [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]


def diverged(losses: Sequence[float]) -> bool:
    """Whether the newest loss is not finite, or the smoothed one far above the lowest so far."""
    if not math.isfinite(losses[-1]):
        return True
    smooth = smoothed(losses)
    return len(losses) > 10 and smooth[-1] > DIVERGED * max(min(smooth), 1e-8)


def smoothed(losses: Sequence[float]) -> list[float]:
    """The running mean, unbiased at its beginning as Adam's is."""
    mean, found = 0.0, []
    for i, loss in enumerate(losses, start=1):
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        found.append(mean / (1 - SMOOTH**i))
    return found


def suggestion(rates: Sequence[float], losses: Sequence[float]) -> RangeTest:
    """What the losses of a test say: a rate between the one where the loss falls fastest and a tenth of the one where
    it is lowest, their geometric mean; the first of these where it did not rise again; none where it hardly falls."""
    count = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    given, rates, losses = rates, list(rates[:count]), list(losses[:count])
    smooth = smoothed(losses)
    if count < 10:
        return RangeTest(rates, losses, smooth, None, f"the loss is not finite after {count} updates")
    values, places = np.array(smooth), np.log(np.array(rates))
    begin = max(3, count // 20)
    first, low = float(values[begin]), begin + int(values[begin:].argmin())
    fall, noise = first - float(values[low]), float(np.std(losses[: max(5, count // 5)]))
    if fall < max(LEAST * abs(first), noise):
        why = f"the loss falls by {number(fall)} of {number(first)} and varies by {number(noise)} from batch to batch"
        return RangeTest(rates, losses, smooth, None, f"{why}: it says nothing of the rate")
    half = max(2, count // 25)
    slopes = [
        float(np.polyfit(places[max(0, i - half) : i + half + 1], values[max(0, i - half) : i + half + 1], 1)[0])
        for i in range(begin, low + 1)
    ]
    steep = begin + int(np.argmin(slopes))
    why = f"the loss falls fastest at {rates[steep]:.2g} and is lowest at {rates[low]:.2g}"
    risen = float(values[low:].max()) - float(values[low])
    if risen < fall / 2 and count == len(given):
        lr = rounded(rates[steep])
        why += "; it never rose, as with few images that are soon known by heart, so the first of the two is taken"
    else:
        lr = rounded(math.sqrt(rates[steep] * rates[low] / FALL))
        why += f"; {lr:g} lies between the first and a tenth of the second"
    return RangeTest(rates, losses, smooth, lr, why, rates[steep], rates[low])


def rounded(rate: float) -> float:
    """Two digits: the test knows no more."""
    return float(f"{rate:.1e}")


def draw(test: RangeTest, ax: Any) -> None:
    """The test on matplotlib Axes."""
    ax.plot(test.rates, test.losses, color=GRAY, linewidth=0.8, alpha=0.6, label="each update")
    ax.plot(test.rates, test.smooth, color=BLUE, linewidth=1.8, label="running mean")
    if test.lr is not None:
        ax.axvline(test.lr, color=ORANGE, linewidth=1.5, label=f"suggested, {test.lr:g}")
    if test.steepest is not None and test.lowest is not None:
        ax.axvline(test.steepest, color=GRAY, linewidth=1, linestyle=":", label="falls fastest")
        ax.axvline(test.lowest, color=GRAY, linewidth=1, linestyle="--", label="lowest")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    known = test.smooth[3:] or test.smooth
    low, first = min(known), max(known[: max(1, len(known) // 2)])
    ax.set_ylim(low - 0.15 * (first - low), first + 0.6 * (first - low) + 1e-9)
    ax.set_xlabel("learning rate of the head")
    ax.set_ylabel("loss")
    ax.legend(loc="lower left")
    ax.grid(axis="y")


def until_diverged(rates: Sequence[float], found: Iterator[float]) -> Iterator[tuple[float, float]]:
    """(rate, loss) of each update until the loss diverges, that one included."""
    losses: list[float] = []
    for rate, loss in zip(rates, found, strict=False):
        losses.append(loss)
        yield rate, loss
        if diverged(losses):
            return
