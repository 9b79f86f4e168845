"""What reports of several tasks have in common: bars, matrices, and pictures of chosen images. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from visiontl.errors import DataError
from visiontl.kit.words import count, plural, some, told
from visiontl.report.items import Figure, Pictures

LETTERS, LAST = 22, 9  # of a name at an axis, and those of its end
FEW = 30  # classes that each have a bar of their own
PAIRS = 15  # pairs of classes that are confused most

T = TypeVar("T")


def short(name: str) -> str:
    """A name that fits an axis. A long one keeps its end too: names of one kind mostly begin alike."""
    return name if len(name) <= LETTERS else f"{name[: LETTERS - LAST - 1]}…{name[-LAST:]}"


def ends(items: Sequence[T], most: int) -> list[T]:
    """All where there are at most `most`; else half of that from the front, and half from the back."""
    half = most // 2
    return list(items) if len(items) <= most else [*items[:half], *items[-half:]]


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most `most`, evenly spaced from the first to the last."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int).tolist()]


def draw_bars(axes: Any, names: Sequence[str], values: Sequence[float], label: str) -> None:
    """A bar a name, the first on top, with its value beside it."""
    bars = axes.barh(range(len(names)), values)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axes.set_xlim(0, max(1e-3, *values) * 1.15)
    axes.set_xlabel(label)


def worst_bars(title: str, values: Sequence[tuple[str, float]], label: str, most: int) -> Figure:
    """A bar a class, the worst on top. values: (name, value), the worst first; of more than `most` the worst and the
    best are shown, half of each."""
    shown, caption = ends(values, most), ""
    if len(values) > most:
        half = most // 2
        caption = f"The {half} worst and the {half} best; {len(values) - 2 * half:,} between them are in the table."
    draw = partial(draw_bars, names=[name for name, _ in shown], values=[value for _, value in shown], label=label)
    return Figure(title, draw, caption, (6.0, 1.0 + 0.26 * len(shown)))


def draw_confusion(axes: Any, shares: np.ndarray, texts: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """A matrix of confusion.

    shares: (K, K) 0..1 of the true class (row) that is called so (column); texts: what stands in each field.
    """
    from matplotlib.colors import LinearSegmentedColormap

    # from nothing to blue: what is empty shows the page, light or dark, and its words are in the page's own color
    look = LinearSegmentedColormap.from_list("share", [(0.12, 0.37, 0.55, 0.0), (0.12, 0.37, 0.55, 1.0)])
    axes.imshow(shares, cmap=look, vmin=0, vmax=1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    labels = [short(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if text:
                color = {"color": "white"} if shares[row, column] > 0.55 else {}
                axes.text(column, row, text, ha="center", va="center", fontsize=8, **color)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


def confused_pairs(matrix: np.ndarray, names: Sequence[str], most: int = PAIRS) -> list[tuple[str, str, int, str]]:
    """The pairs of classes that are confused most: true class, the one it is called, how often, and which share of the
    true class that is. matrix: (K, K) counts, [true][predicted]."""
    true, called = np.nonzero(matrix)
    return most_confused(true, called, matrix[true, called], names, most)


def most_confused(
    true: np.ndarray, called: np.ndarray, number: np.ndarray, names: Sequence[str], most: int = PAIRS
) -> list[tuple[str, str, int, str]]:
    """`confused_pairs` of the filled cells of a matrix alone, those of the diagonal too, row by row: where K x K counts
    would take gigabytes. true, called, number: (C,) row, column and count of each cell."""
    of = np.bincount(true, weights=number, minlength=len(names))  # (K,)
    wrong = np.flatnonzero(true != called)
    order: list[int] = wrong[np.argsort(-number[wrong], kind="stable")][:most].tolist()
    cells = [(int(true[c]), int(called[c]), int(number[c])) for c in order]
    return [(names[t], names[p], n, f"{n / max(of[t], 1):.1%}") for t, p, n in cells]


def class_balance(names: Sequence[str], training: Sequence[float], here: Sequence[float], unit: str) -> Figure:
    """How often each class is there in training and in the split that is shown, which tells whether rare classes were
    to be learned, and whether both are alike. unit: what is counted, such as "images".

    Up to FEW classes: two bars each, of shares, with the counts. More: a curve from the most to the least frequent one,
    the split's own counts as dots, and the ends by name in the caption.
    """
    counts = np.array([training, here], dtype=np.float64)  # (2, K)
    order: list[int] = np.argsort(-counts[0], kind="stable").tolist()
    none = [names[k] for k in order if counts[0, k] and not counts[1, k]]
    caption = f"{unit.capitalize()} of each class."
    most, least = counts[0, order[0]], counts[0, [k for k in order if counts[0, k]][-1:]]
    if len(least) and most > least[0]:
        caption += f" In training the most frequent class has {most / least[0]:,.1f} times as many as the rarest."
    if none:
        caption += (
            f" {count(len(none), 'class')} of training {plural(len(none), 'is')} not in this split: {some(none)}."
        )
    if len(names) <= FEW:
        draw = partial(_draw_shares, names=[names[k] for k in order], counts=counts[:, order])
        return Figure("Class balance", draw, caption, (6.0, 1.2 + 0.42 * len(names)))
    most_of, fewest = (some(f"{names[k]} ({counts[0, k]:,.0f})" for k in part) for part in (order[:3], order[-3:]))
    draw = partial(_draw_ranks, counts=counts[:, order], unit=unit)
    return Figure("Class balance", draw, f"{caption} Most: {most_of}. Fewest: {fewest}.", (6.0, 3.4))


def _draw_shares(axes: Any, names: Sequence[str], counts: np.ndarray) -> None:
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for place, label in enumerate(("training", "this split")):
        bars = axes.barh(np.arange(len(names)) + (place - 0.5) * 0.4, shares[place], height=0.38, label=label)
        axes.bar_label(bars, [f"{number:,.0f}" for number in counts[place]], padding=3, fontsize=7.5)
    axes.set_yticks(range(len(names)), [short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, max(1.0, float(shares.max())) * 1.18)
    axes.set_xlabel("share in percent (number: count)")
    axes.legend(loc="lower right")


def _draw_ranks(axes: Any, counts: np.ndarray, unit: str) -> None:
    ranks = range(1, counts.shape[1] + 1)
    axes.plot(ranks, counts[0], label="training", linewidth=2)
    there = counts[1] > 0
    axes.plot(np.flatnonzero(there) + 1, counts[1][there], ".", markersize=4, label="this split")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")  # the report reads no formulas, such as 10 to the 2
    axes.minorticks_off()
    axes.set_xlabel("classes, the most frequent first")
    axes.set_ylabel(unit)
    axes.grid(axis="y")
    axes.legend(loc="upper right")


def file_of(image: Callable[[int], Image.Image], id: int) -> str:
    """The file of a photo in one short line, "" where it has none. image: what `report` and `preview` get."""
    names = getattr(image, "names", ())
    return told(str(names[id])) if id < len(names) else ""


def chosen_pictures(
    title: str, chosen: Iterable[T], picture: Callable[[T], tuple[str, Image.Image]], caption: str = ""
) -> list[Pictures]:
    """One item of a report, or none: picture(one) gives the words (with the photo's file, see `file_of`) and the
    picture of each of the chosen.

    An image that cannot be read any more, moved or damaged since it was scored, is left out; scores still count it, and
    the caption counts it.
    """
    items: list[tuple[str, Image.Image]] = []
    lost = 0
    for one in chosen:
        try:
            items.append(picture(one))
        except DataError:
            lost += 1
    left = f"{count(lost, 'more image')} cannot be read any more." if lost else ""
    return [Pictures(title, items, " ".join(filter(None, [caption, left])))] if items else []
