"""What a sweep tries: `key=a,b,c` is a list, `key=low..high` a range. Imports no torch."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from visiontl.errors import ConfigError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"\s*({NUMBER})\s*\.\.\s*({NUMBER})\s*(?:[,: ]\s*(log))?\s*")
LIKE_A_RANGE = re.compile(rf"\s*{NUMBER}\s*\.\.")
OPEN, CLOSED = "[{(", "]})"


@dataclass(frozen=True)
class Choice:
    """values: as they stand behind `key=`."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Range:
    """low to high, both included. whole: whole numbers alone; log: evenly spread over orders of magnitude."""

    key: str
    low: float
    high: float
    log: bool
    whole: bool

    def text(self, value: float) -> str:
        return str(round(value)) if self.whole else f"{value:.4g}"


Axis = Choice | Range


@dataclass(frozen=True)
class Space:
    """fixed: the words that hold in every trial; axes: what differs between trials."""

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]

    @property
    def ranges(self) -> bool:
        return any(isinstance(axis, Range) for axis in self.axes)

    @property
    def lists(self) -> list[Choice]:
        return [axis for axis in self.axes if isinstance(axis, Choice)]

    def grid(self) -> list[tuple[str, ...]]:
        """Every combination of the lists, as `key=value` words; of a range its ends."""
        sides = [
            [f"{axis.key}={value}" for value in axis.values]
            if isinstance(axis, Choice)
            else [f"{axis.key}={axis.text(axis.low)}", f"{axis.key}={axis.text(axis.high)}"]
            for axis in self.axes
        ]
        return list(itertools.product(*sides))

    def words(self, values: Mapping[str, str | float]) -> tuple[str, ...]:
        """The `key=value` words of one trial."""
        return tuple(
            f"{axis.key}={values[axis.key] if isinstance(axis, Choice) else axis.text(float(values[axis.key]))}"
            for axis in self.axes
        )


def read_space(words: Sequence[str]) -> Space:
    """`a.b=c` words as they were typed. Raises ConfigError for a range that is none and for a key that is tried and
    stands twice."""
    fixed: list[str] = []
    axes: list[Axis] = []
    for word in words:
        key, _, text = word.partition("=")
        key = key.strip()
        if any(axis.key == key for axis in axes):
            raise ConfigError(f"{key} stands twice in the sweep; write all its values in one list: {key}=a,b,c")
        found = RANGE.fullmatch(text) if "..." not in text else None  # 1e-4...1e-2 would end at 0.001
        values = parts(text)
        if found:
            axes.append(_range(word, key, found))
        elif len(values) > 1:
            if "" in values:
                raise ConfigError(f"{word}: a value of the list is empty; write {key}=a,b,c")
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ConfigError(f"{word}: {twice[0]} stands twice in the list")
            axes.append(Choice(key, tuple(values)))
        elif LIKE_A_RANGE.match(text):
            raise ConfigError(f"{word} is no range; write the smaller number, two dots, the larger: {key}=1e-4..1e-2")
        else:
            fixed.append(word)
    for word in fixed:
        if any(axis.key == word.partition("=")[0].strip() for axis in axes):
            raise ConfigError(
                f"{word} stands beside values that are to be tried; leave it out, or put it in their list"
            )
    return Space(tuple(fixed), tuple(axes))


def _range(word: str, key: str, found: re.Match[str]) -> Range:
    low, high, log = float(found[1]), float(found[2]), found[3] is not None
    if not -math.inf < low < high < math.inf:
        raise ConfigError(
            f"{word}: a range goes from the smaller number to the larger one, both finite: {key}=1e-4..1e-2"
        )
    if log and low <= 0:
        raise ConfigError(f"{word}: a range by orders of magnitude (log) begins above 0")
    whole = all(re.fullmatch(r"[-+]?\d+", found[i]) for i in (1, 2))
    return Range(key, low, high, log, whole)


def parts(text: str) -> list[str]:
    """The values between commas; a comma within brackets or quotes is of the value."""
    found, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in OPEN:
            depth += 1
        elif letter in CLOSED:
            depth -= 1
        if letter == "," and not quote and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]
