"""The curves of a run: loss and its parts, scores of each evaluation, learning rate, gradient norm, speed, memory."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visiontl.report.figures import BLUE, CYCLE, GRAY, SOFT
from visiontl.report.formats import is_number, scientific, titled
from visiontl.report.items import Figure
from visiontl.report.run import Best, Training

POINTS = 1500  # points of a curve; longer ones are averaged in equal groups
SMOOTHED = 40  # points from which on a running mean is drawn over a noisy curve
TOGETHER = 6  # curves of one figure
APART = 4  # figures of scores that are no shares
SIZE = (4.7, 2.9)  # inches (width, height)
_NOT_SCORES = frozenset({"step", "epoch", "kind", "seconds", "images_per_second", "memory", "lr", "grad_norm"})

Record = Mapping[str, Any]  # a line of metrics.jsonl
Points = tuple[list[float], list[float]]  # (steps, values)


@dataclass(frozen=True)
class Plot:
    """What one figure shows. edges: (step, epoch) where a freezing phase begins, after the first.

    how: noisy: long curves get a running mean; marked: each point is seen; small: an axis in powers of ten; level:
    an axis from 0.
    """

    title: str
    curves: Mapping[str, Points]
    how: Literal["noisy", "marked", "small", "level"]
    edges: Sequence[tuple[float, int]]
    best: Best | None = None


def training_figures(training: Training | None, metrics: Sequence[Record]) -> list[Figure]:
    """The figures of a run that have anything to show: one point is no curve, and its number stands in a table."""
    train = [record for record in metrics if record.get("kind") == "train"]
    val = [record for record in metrics if record.get("kind") not in ("train", None)]
    edges = phase_edges(training, metrics)
    best = training.best if training else None
    parts = [key for key in keys(train) if key != "loss" and not key.startswith("lr")]
    scores = sorted((key for key in keys(val) if key != "loss"), key=lambda key: best is None or key != best.score)
    shares = [key for key in scores if all(0 <= y <= 1 for y in points(val, key)[1])]
    others = [key for key in scores if key not in shares]
    losses = {"training": points(train, "loss"), "validation": points(val, "loss")}
    plots = [
        Plot("Loss", losses, "noisy", edges),
        Plot("Parts of the loss", {key: points(train, key) for key in parts[:TOGETHER]}, "noisy", edges),
        Plot("Scores at each evaluation", {key: points(val, key) for key in shares[:TOGETHER]}, "marked", edges, best),
        *(
            Plot(f"{key.replace('_', ' ')} at each evaluation", {key: points(val, key)}, "marked", edges, best)
            for key in others[:APART]
        ),
        Plot("Learning rate of the head", {"lr": points(train, "lr")}, "small", edges),
        Plot("Gradient norm", {"gradient norm": points(train, "grad_norm")}, "noisy", edges),
        Plot(
            "Images per second", {"images per second": above_zero(points(train, "images_per_second"))}, "level", edges
        ),
        Plot("Memory, GB", {"memory": gigabytes(points(train, "memory"))}, "level", edges),
    ]
    return [
        Figure(plot.title, functools.partial(draw, plot), size=SIZE)
        for plot in plots
        if any(len(steps) > 1 for steps, _ in plot.curves.values())
    ]


def draw(plot: Plot, ax: Any) -> None:
    """The plot on matplotlib Axes."""
    curves = {name: found for name, found in plot.curves.items() if found[0]}
    for (name, (x, y)), color in zip(curves.items(), itertools.cycle(CYCLE), strict=False):
        x, y = thin(x, y)
        if plot.how == "noisy" and len(x) >= SMOOTHED:
            ax.plot(x, y, color=color, alpha=0.25, linewidth=0.8)
            y = running_mean(y, max(3, len(y) // 25))
        dots = "o" if plot.how == "marked" or len(x) < 2 else ""
        ax.plot(x, y, color=color, linewidth=1.5, marker=dots, markersize=3.5, label=titled(name))
    best = plot.best
    if best is not None and best.score in curves and best.value is not None:
        ring = {"marker": "o", "markersize": 9, "fillstyle": "none", "linestyle": ""}
        ax.plot([best.step], [best.value], color=BLUE, label="best", **ring)
    _draw_edges(plot.edges, ax)
    if plot.how == "small":
        ax.yaxis.set_major_formatter(lambda value, _: rate(value))
    if plot.how == "level":
        ax.set_ylim(0, 1.15 * max(max(y) for _, y in curves.values()))
    ax.set_title(plot.title)
    ax.set_xlabel("step (optimizer updates)")
    ax.locator_params(axis="x", integer=True)
    ax.grid(axis="y")
    names = ax.get_legend_handles_labels()[1]
    if len(names) > 1 or (plot.how == "noisy" and names != [plot.title.lower()]):
        ax.legend()


def rate(value: float) -> str:
    """0.001 -> '0.001', 0.00001 -> '1e-5'."""
    return f"{value:.3g}" if value == 0 or abs(value) >= 1e-3 else scientific(value, 1).replace(".0e", "e")


def above_zero(found: Points) -> Points:
    """Without the points where nothing was measured yet."""
    kept = [(x, y) for x, y in zip(*found, strict=True) if y > 0]
    return [x for x, _ in kept], [y for _, y in kept]


def gigabytes(found: Points) -> Points:
    """Megabytes -> gigabytes."""
    return found[0], [y / 1000 for y in found[1]]


def _draw_edges(edges: Sequence[tuple[float, int]], ax: Any) -> None:
    for index, (step, epoch) in enumerate(edges):
        label = "phase edge" if index == 0 else None
        ax.axvline(step, color=GRAY, linewidth=0.9, linestyle=(0, (4, 3)), label=label, zorder=0)
        ax.annotate(
            f"epoch {epoch}",
            (step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            rotation=90,
            va="top",
            fontsize=7.5,
            color=SOFT,
        )


def keys(records: Iterable[Record]) -> list[str]:
    """Names of the numbers that any of the records holds, in order of appearance."""
    found = (key for record in records for key, value in record.items() if is_number(value) and key not in _NOT_SCORES)
    return list(dict.fromkeys(found))


def points(records: Iterable[Record], key: str) -> Points:
    """(steps, values) of the records that hold a finite number under the key."""
    x: list[float] = []
    y: list[float] = []
    for record in records:
        step, value = record.get("step"), record.get(key)
        if isinstance(step, int | float) and isinstance(value, int | float) and math.isfinite(value):
            x.append(step)
            y.append(value)
    return x, y


def phase_edges(training: Training | None, metrics: Sequence[Record]) -> list[tuple[float, int]]:
    """(step, epoch) of each phase after the first, by the pace that the records show."""
    known = [r for r in metrics if is_number(r.get("step")) and is_number(r.get("epoch")) and r["epoch"] > 0]
    if not known or training is None:
        return []
    pace = known[-1]["step"] / known[-1]["epoch"]  # updates per epoch: the same in every epoch
    epochs = [phase.epoch for phase in training.trainability]
    return [(epoch * pace, epoch) for epoch in epochs if 0 < epoch <= known[-1]["epoch"]]


def thin(x: list[float], y: list[float]) -> Points:
    """At most POINTS points, each the mean of equally many neighbors."""
    group = -(-len(x) // POINTS)
    if group <= 1:
        return x, y
    parts = range(0, len(x), group)
    return [_mean(x[i : i + group]) for i in parts], [_mean(y[i : i + group]) for i in parts]


def running_mean(values: list[float], width: int) -> list[float]:
    """Mean over up to `width` neighbors, as many before as after."""
    sums = [0.0, *itertools.accumulate(values)]
    half = width // 2
    spans = [(max(0, i - half), min(len(values), i + half + 1)) for i in range(len(values))]
    return [(sums[end] - sums[begin]) / (end - begin) for begin, end in spans]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
