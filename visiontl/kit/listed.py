"""The files that a list or an annotation file means by the names it states. Imports no torch.

Names are written on one machine and read on another: with the other one's folders in front, with backslashes, in
another Unicode form, with other capitals. What is not there as it is written is looked for in these ways, each counted
and told; nothing outside of the data set's folder is ever read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visiontl.errors import DataError
from visiontl.kit.folders import LONGEST, Folders, join, relative
from visiontl.kit.names import compared
from visiontl.kit.words import count, did_you_mean, some, told

DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # how an absolute path of Windows begins
SEARCHED = 20_000  # names among which a missing one is looked for, to say where it is

WAYS = {
    "slashes": "with backslashes, read as folders",
    "prefix": "with folders in front that are not here, found by the rest of the path",
    "form": "that differ from the file's in Unicode form or capitals alone",
}


@dataclass
class Listed:
    """names: of the files, relative to the base, "" for one that is not there. stated: as the list has them. ways: by
    which way (of WAYS) which stated names were found. refused: stated name -> why it is no name of a file here."""

    names: list[str] = field(default_factory=list[str])
    stated: list[str] = field(default_factory=list[str])
    ways: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    refused: dict[str, str] = field(default_factory=dict[str, str])

    def missing(self) -> list[str]:
        """Stated names of which there is no file, those that are refused left out."""
        return [one for one, name in zip(self.stated, self.names, strict=True) if not name and one not in self.refused]

    def notes(self, where: Any) -> list[str]:
        """One sentence on each way by which files were found."""
        return [
            f"{where}: {count(len(self.ways[way]), 'name')} {words}: {some(self.ways[way], 3)}"
            for way, words in WAYS.items()
            if way in self.ways
        ]


def find_listed(folders: Folders, stated: Sequence[str], places: Iterable[str] = ("",)) -> Listed:
    """Names as a list states them -> the files they mean, looked for in these places, the likeliest first.

    A name may be absolute: it is found where it leads into the base, or by its end. Folders in front of a relative one
    are left out only where no name of the list is there as it is written. One that steps out of its place (..) is
    refused. Raises DataError where a link leads out of the base, and where two names mean one file.
    """
    search = _Search(folders, list(dict.fromkeys(places)))
    found = Listed(stated=list(stated))
    found.names = [search.find(name, found) for name in found.stated]
    if not any(found.names):
        found.names = [
            X
            for name in found.stated
        ]
    meant: dict[str, str] = {}
    for name, file in zip(found.stated, found.names, strict=True):
        if file and meant.setdefault(file, name) != name:
            raise DataError(f"{told(meant[file])} and {told(name)} both mean {folders.path(file)}; name it once")
    return found


def whereabouts(folders: Folders, name: str) -> str:
    """Where a file of that last name lies, for the error on one that is not where it should be; "" where none does."""
    last = name.replace("\\", "/").rpartition("/")[2]
    there = folders.pictures().pictures
    same = [one for one in there[:SEARCHED] if compared(one.rpartition("/")[2]) == compared(last)]
    if same:
        return f"; a file of that name is at {folders.path(same[0])}"
    return did_you_mean(last, [one.rpartition("/")[2] for one in there[:SEARCHED]])


@dataclass
class _Search:
    """last: where the name before was found, for most lie together. forms: folder -> {compared name: its names}."""

    folders: Folders
    places: list[str]
    last: str = ""
    forms: dict[str, Mapping[str, list[str]]] = field(default_factory=dict[str, Mapping[str, list[str]]])

    def find(self, name: str, found: Listed) -> str:
        """The file as the name is written, but for slashes, the form of signs, and what stands before an absolute
        one; "" where there is none."""
        if _is_plain(name) and self.folders.has(join(self.last, name)):
            return join(self.last, name)
        plain, ways = name, list[str]()
        if "\\" in name and not any(self.folders.has(join(place, name)) for place in self.places if "\0" not in name):
            plain = name.replace("\\", "/")
            ways.append("slashes")
        absolute = os.path.isabs(plain) or DRIVE.match(plain) is not None
        if absolute and os.path.isabs(plain) and "\0" not in plain:
            inside = os.path.relpath(os.path.realpath(plain), os.path.realpath(self.folders.base)).replace(os.sep, "/")
            if not inside.startswith("..") and self.folders.has(inside):
                return self._took("", inside, name, ways, found)
        try:
            plain = plain if absolute else relative(plain)
        except ValueError as error:
            found.refused[name] = str(error)
            return ""
        if absolute:
            file = self.by_end(plain, name, found, ways)
            if not file:
                found.refused[name] = (
                    f"{told(name)} leaves the data set's folder, and no file in it ends so; paths must stay inside it"
                )
            return file
        for place in [self.last, *self.places]:
            file = join(place, plain)
            if self.folders.has(file):
                return self._took(place, file, name, ways, found)
        for place in self.places:
            file = self._same(join(place, plain))
            if file:
                return self._took(place, file, name, [*ways, "form"], found)
        return ""

    def by_end(self, plain: str, name: str, found: Listed, ways: Sequence[str] = ()) -> str:
        """The file whose path is the longest end of the name, or ""."""
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in plain or len(plain) > LONGEST:
            return ""
        for start in range(len(parts)):
            for place in self.places:
                file = join(place, "/".join(parts[start:]))
                same = file if self.folders.has(file) else self._same(file)
                if same:
                    more = ["prefix"] if same == file else ["prefix", "form"]
                    return self._took(place, same, name, [*ways, *more], found)
        return ""

    def _took(self, place: str, file: str, name: str, ways: Sequence[str], found: Listed) -> str:
        self.last = place
        for way in ways:
            found.ways.setdefault(way, []).append(name)
        return file

    def _same(self, name: str) -> str:
        """The only file whose path is the same in the form in which names are compared, or ""."""
        place = ""
        for part in name.split("/"):
            if place not in self.forms:
                groups: dict[str, list[str]] = {}
                for one in self.folders.entries(place):
                    groups.setdefault(compared(one), []).append(one)
                self.forms[place] = groups
            same = [part] if part in self.folders.entries(place) else self.forms[place].get(compared(part), [])
            if len(same) != 1:
                return ""
            place = join(place, same[0])
        return place if self.folders.has(place) else ""


def _is_plain(name: str) -> bool:
    return bool(name) and not name.startswith(("/", ".")) and not any(sign in name for sign in ("\\", "//", "/.", "\0"))
