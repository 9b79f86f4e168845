"""The files that a list or an annotation file means by the names it states. Imports no torch.

Names are written on one machine and read on another: with the other one's folders in front, with backslashes, in
another Unicode form. What is not there as it is written is looked for in these ways, each counted
and told; nothing outside of the data set's folder is ever read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from visiontl.errors import DataError
from visiontl.kit.absent import DRIVE
from visiontl.kit.folders import LONGEST, Folders, join, other_forms
from visiontl.kit.words import count, some, told

WAYS = {
    "slashes": "with backslashes, read as folders",
    "prefix": "with folders in front that are not here, found by the rest of the path",
}
FORM = "form"  # the way of another Unicode form, in the words of `folders.other_forms`


@dataclass
class Listed:
    """names: of the files, relative to the base, "" for one that is not there. stated: as the list has them. ways: by
    which way (of WAYS, or FORM) which stated names were found. refused: stated name -> why it is no name of a file
    here."""

    names: list[str] = field(default_factory=list[str])
    stated: list[str] = field(default_factory=list[str])
    ways: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    refused: dict[str, str] = field(default_factory=dict[str, str])

    def missing(self) -> list[str]:
        """Stated names of which there is no file, those that are refused left out."""
        return [one for one, name in zip(self.stated, self.names, strict=True) if not name and one not in self.refused]

    def notes(self, where: Any) -> list[str]:
        """One sentence on each way by which files were found."""
        said = [
            f"{where}: {count(len(self.ways[way]), 'name')} {words}: {some(self.ways[way], 3)}"
            for way, words in WAYS.items()
            if way in self.ways
        ]
        return said + other_forms(where, self.ways.get(FORM, []))


def find_listed(folders: Folders, stated: Sequence[str], places: Iterable[str] = ("",)) -> Listed:
    """Names as a list states them -> the files they mean, looked for in these places, the likeliest first.

    A name may be absolute: it is found where it leads into the base, or by its end. Folders in front of a relative one
    are left out only where no name of the list is there as it is written. One that steps out of its place (..) is
    refused. Raises DataError where two names mean one file.
    """
    search = _Search(folders, list(dict.fromkeys(places)))
    found = Listed(stated=list(stated))
    found.names = [search.find(name, found) for name in found.stated]
    if not any(found.names):
        for i, name in enumerate(found.stated):
            if name not in found.refused:
                slashes = ["slashes"] if "\\" in name else []
                found.names[i] = search.by_end(name.replace("\\", "/"), name, found, slashes)
    meant: dict[str, str] = {}
    for name, file in zip(found.stated, found.names, strict=True):
        first = meant.setdefault(file, name) if file else name
        if first != name and os.path.normpath(first) != os.path.normpath(name):
            raise DataError(f"{told(first)} and {told(name)} both mean {folders.path(file)}; name it once")
    return found


@dataclass
class _Search:
    """last: where the name before was found, for most lie together."""

    folders: Folders
    places: list[str]
    last: str = ""

    def find(self, name: str, found: Listed) -> str:
        """The file as the name is written, but for slashes, the form of signs, and what stands before an absolute
        one; "" where there is none."""
        if _is_plain(name) and self.folders.has(join(self.last, name)):
            return join(self.last, name)
        plain, ways = name, list[str]()
        if "\\" in name and not any(self.folders.has(join(place, name)) for place in self.places):
            plain = name.replace("\\", "/")
            ways.append("slashes")
        try:
            if DRIVE.match(plain):
                raise ValueError(f"{told(name)} lies outside of the data set's folder; paths must stay inside it")
            below = self.folders.within(plain)
        except ValueError as error:
            absolute = os.path.isabs(plain) or DRIVE.match(plain) is not None
            file = self.by_end(plain, name, found, ways) if absolute else ""
            if not file:
                found.refused[name] = str(error)
            return file
        for place in [""] if os.path.isabs(plain) else [self.last, *self.places]:
            file = self.folders.found(join(place, below))
            if file is not None:
                return self._took(place, file, name, ways if file == join(place, below) else [*ways, FORM], found)
        return ""

    def by_end(self, plain: str, name: str, found: Listed, ways: Sequence[str] = ()) -> str:
        """The file whose path is the longest end of the name, or ""."""
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in plain or len(plain) > LONGEST:
            return ""
        for start in range(len(parts)):
            for place in self.places:
                stated = join(place, "/".join(parts[start:]))
                file = self.folders.found(stated)
                if file is not None:
                    more = ["prefix"] if file == stated else ["prefix", FORM]
                    return self._took(place, file, name, [*ways, *more], found)
        return ""

    def _took(self, place: str, file: str, name: str, ways: Sequence[str], found: Listed) -> str:
        self.last = place
        for way in ways:
            found.ways.setdefault(way, []).append(name)
        return file


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(("/", ".")) and not any(sign in name for sign in ("\\", "//", "/.", "\0"))
