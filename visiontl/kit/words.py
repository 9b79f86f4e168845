"""Counts, names and mistakes in the words that errors and notes are made of. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from visiontl.errors import DataError, did_you_mean, shortened

__all__ = ["count", "did_you_mean", "plural", "refusal", "some", "told"]

LINES = 8  # of an error with many mistakes
WIDTH = 120  # characters of a name that is quoted
PLURALS = {
    "box": "boxes", "category": "categories", "class": "classes", "identity": "identities", "process": "processes",
    "has": "have", "is": "are", "its": "their",
}  # fmt: skip


def count(number: int, noun: str) -> str:
    """A number and its noun: '1 box', '1,200 boxes'. `plural` says which nouns it knows."""
    return f"{number:,} {plural(number, noun)}"


def plural(number: int, word: str) -> str:
    """The word as the number asks: box, category, class, identity, process, has, is and its change as they do in
    English, all others take an s."""
    return word if number == 1 else PLURALS.get(word, word + "s")


def told(name: Any) -> str:
    """A name in one line of at most 120 characters, whatever is in it."""
    text = str(name)
    return shortened(text if text.isprintable() and text.strip() else ascii(text), WIDTH)


def some(names: Iterable[Any], most: int = 5) -> str:
    """The first few of many names, each as `told` gives it, and how many more: 'a, b, c, d, e and 1,200 more'."""
    names = list(names)
    shown = ", ".join(told(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def refusal(where: Any, problems: Sequence[str]) -> DataError:
    """One error to raise for all mistakes of a file or data set: the first 8 a line each, the rest counted."""
    if len(problems) == 1:
        return DataError(f"{where}: {problems[0]}")
    lines = [f"- {problem}" for problem in problems[:LINES]]
    if len(problems) > LINES:
        lines.append(f"- and {len(problems) - LINES:,} more")
    return DataError(f"{where}: {len(problems):,} errors", lines=lines)
