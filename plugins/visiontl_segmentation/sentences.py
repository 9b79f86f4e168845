"""Counts, names and mistakes in the words that errors and notes are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from visiontl import DataError

LINES = 8  # of an error with many mistakes
WIDTH = 120  # characters of a name that is quoted
PLURALS = {"class": "classes", "has": "have", "is": "are"}


def count(number: int, noun: str) -> str:
    return f"{number:,} {plural(number, noun)}"


def plural(number: int, word: str) -> str:
    """The word as the number asks: its plural stands in PLURALS, or ends in s."""
    return word if number == 1 else PLURALS.get(word, word + "s")


def told(name: Any) -> str:
    """A name in one line of at most 120 characters, whatever is in it."""
    text = str(name)
    if not text.isprintable() or not text.strip():
        text = ascii(text)
    half = (WIDTH - 5) // 2
    return text if len(text) <= WIDTH else f"{text[:half]} ... {text[-half:]}"


def some(names: Iterable[Any], most: int = 5) -> str:
    """The first few of many names, for a sentence."""
    names = list(names)
    shown = ", ".join(told(name) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def refusal(where: Any, problems: Sequence[str]) -> DataError:
    """One error for all mistakes of a data set: the first ones a line each, the rest counted."""
    if len(problems) == 1:
        return DataError(f"{where}: {problems[0]}")
    lines = [f"{where}: {len(problems):,} errors", *(f"  - {problem}" for problem in problems[:LINES])]
    if len(problems) > LINES:
        lines.append(f"  - and {len(problems) - LINES:,} more")
    return DataError("\n".join(lines))
