"""What reports of several tasks have in common: bars, matrices, and pictures of chosen images. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from visiontl.errors import DataError
from visiontl.kit.words import count, told
from visiontl.report.items import Pictures

LETTERS = 22  # of a name at an axis

T = TypeVar("T")


def short(name: str) -> str:
    """A name that fits an axis."""
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"


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
    axes.invert_yaxis()
    axes.set_xlim(0, max(1e-3, *values) * 1.15)
    axes.set_xlabel(label)


def draw_confusion(axes: Any, shares: np.ndarray, texts: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    """A matrix of confusion.

    shares: (K, K) 0..1 of the true class (row) that is called so (column); texts: what stands in each field.
    """
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    labels = [short(name) for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if text:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")


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
