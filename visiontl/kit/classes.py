"""Names of classes of one data set among those of a model or of a table. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from visiontl.errors import ConfigError, closest
from visiontl.kit.names import compared
from visiontl.kit.words import count, did_you_mean, some, told


def names_in(meta: Mapping[str, Any], key: str = "classes") -> list[str]:
    """The names under a key of the meta that a model is built from. Raises ValueError for what no task writes there,
    as a file that somebody changed may hold."""
    found = meta[key]
    names = [one for one in cast(list[Any], found) if isinstance(one, str)] if isinstance(found, list) else None
    if names is None or names != found:
        raise ValueError(f"{key}: expected a list of names, got {found!r:.80}")
    return names


@dataclass(frozen=True)
class Match:
    """Names match where they are equal, sign by sign: `cat` and `Cat` may be two classes.

    index: their name -> its place among ours. missing: ours that are not among theirs. surplus: theirs that are not
    among ours. alike: surplus name -> the one of ours from which it differs in capitals, blanks or signs that cannot be
    seen alone; so it is likely the same one.
    """

    ours: Sequence[str]
    index: dict[str, int]
    missing: Sequence[str]
    surplus: Sequence[str]
    alike: dict[str, str]

    def hint(self) -> str:
        """What the first surplus name may have meant, as the end of a sentence."""
        if not self.surplus:
            return ""
        first = self.surplus[0]
        if first in self.alike and self.alike[first] not in closest(first, self.ours):
            return f"; did you mean {told(self.alike[first])!r}?"
        return did_you_mean(first, self.ours)

    def unknown(self) -> str:
        """The surplus names and the hint: '2 classes that the model does not know: ant, bug; did you mean 'ants'?'"""
        return f"{count(len(self.surplus), 'class')} that the model does not know: {some(self.surplus)}{self.hint()}"


def match(ours: Sequence[str], theirs: Iterable[str], also: Sequence[str] = ()) -> Match:
    """Names of classes elsewhere among ours. also: a second name for each of ours, where they have two; the first goes
    first."""
    places = {name: place for place, name in reversed([*enumerate(ours)])}
    others = {name: place for place, name in reversed([*enumerate(also)])}
    known = {**others, **places}
    theirs = list(dict.fromkeys(theirs))
    index = {name: known[name] for name in theirs if name in known}
    surplus = [name for name in theirs if name not in known]
    plain = {compared(name, loose=True): name for name in reversed([*ours, *also])}
    forms = {name: compared(name, loose=True) for name in surplus}
    alike = {name: plain[form] for name, form in forms.items() if form in plain}
    found = set(index.values())
    missing = [name for place, name in enumerate(ours) if place not in found]
    return Match([*ours, *(name for name in also if name not in places)], index, missing, surplus, alike)


def place_of(name: str | int, names: Sequence[str], what: str) -> int:
    """The place of a name that a user typed; of those that differ in capitals, blanks or dashes alone it is meant where
    it is the only one. what: begins the sentence of the ConfigError for a name that is not there."""
    found = match(names, [str(name)])
    if found.index:
        return next(iter(found.index.values()))
    form = compared(str(name), loose=True)
    alike = [place for place, one in enumerate(names) if compared(one, loose=True) == form]
    if len(alike) == 1:
        return alike[0]
    raise ConfigError(f"{what}: the model knows no {told(str(name))!r}{found.hint()}")
