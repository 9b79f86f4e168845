"""What a name that a table or an annotation file states, and that no file has, may have meant. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import PurePosixPath

from visiontl.errors import closest
from visiontl.kit.folders import Folders, join
from visiontl.kit.names import compared, told_apart
from visiontl.kit.words import told

LOOKED = 20_000  # names of a folder, beyond which none is compared with each
DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def instead(folders: Folders, name: str) -> str:
    """The end of a sentence that says that `name` is not there: what is, or nothing.

    Looked for are: the same with / for \\, without folders of another machine before it, in a folder below, with a
    picture's extension, with other capitals or signs that cannot be seen, and what is spelled nearly so.
    """
    plain = DRIVE.sub("", name).replace("\\", "/").strip("/")
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")][-40:]
    for start in range(len(parts)):
        tail = "/".join(parts[start:])
        there = tail if _is_there(folders, tail) else _looks_like(folders, tail)
        if there:
            return _said(folders, name, parts[:start], tail, there)
    below = [join(place, "/".join(parts)) for place in folders.folders()]
    there = next((one for one in below if parts and _is_there(folders, one)), "")
    if there:
        return f"; {told(there)} is there: write the paths so, or name the folder that they start from"
    return _near(folders, "/".join(parts))


def _is_there(folders: Folders, name: str) -> bool:
    return folders.found(name) is not None


def _looks_like(folders: Folders, name: str) -> str:
    """A file that differs from the name in its extension, or in what is hardly seen; "" for none."""
    place, _, last = name.rpartition("/")
    names = folders.entries(place)
    if len(names) > LOOKED:
        return ""
    form = compared(last)
    same = [one for one in names if compared(one) == form]
    same = same or ["" if "." in last else one for one in names if PurePosixPath(one).stem == last]
    there = join(place, same[0]) if len(same) == 1 and same[0] else ""
    return there if there and _is_there(folders, there) else ""


def _said(folders: Folders, name: str, left: list[str], tail: str, there: str) -> str:
    ways: list[str] = []
    if "\\" in name:
        ways.append("write / for \\")
    if left:
        before = name[: len(name.replace("\\", "/")) - len(tail)]
        ways.append(f"leave out {told(before)}")
    if PurePosixPath(there).name != PurePosixPath(tail).name:
        last = [PurePosixPath(one).name for one in (tail, there)]
        differ = compared(last[0]) == compared(last[1])
        ways.append(f"{told_apart(last)} are two names" if differ else "write the extension too")
    return f"; {told(there)} is there" + (f" ({', '.join(ways)})" if ways else "")


def _other_kind(folders: Folders, name: str) -> str:
    path = folders.path(name)
    if path.is_symlink() and not path.exists():
        return f"a link to {told(os.readlink(path))}, which is not there (a store that was not fetched?)"
    return "a folder" if path.is_dir() else "no regular file"


def _near(folders: Folders, name: str) -> str:
    place, _, last = name.rpartition("/")
    if last in folders.entries(place):
        return f"; {told(name)} is {_other_kind(folders, name)}"
    stems = {PurePosixPath(one).stem: one for one in folders.entries(place)}  # extensions make all names similar
    found = closest(PurePosixPath(last).stem, stems) if last and len(stems) <= LOOKED else []
    return f"; did you mean {' or '.join(repr(told(join(place, stems[one]))) for one in found)}?" if found else ""
