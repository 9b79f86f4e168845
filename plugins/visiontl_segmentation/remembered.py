"""What was seen in mask files, as bytes that hold no code, and which of it is still true of the files."""

from __future__ import annotations

import io
import os.path
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from visiontl.kit import memory
from visiontl.kit.headers import in_threads
from visiontl_segmentation.looks import Counted, Form, Look, look

NAME = "masks.npz"
RULES = "1"  # by which masks are looked at; another number where `look` finds other things in the same file
FORMS = get_args(Form)
Stamp = tuple[int, int]  # of a file: bytes, and when it was changed, in nanoseconds


def stamp(path: Path) -> Stamp:
    """(-1, -1) of a file that is not there."""
    try:
        found = path.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def look_at(base: str, photos: Mapping[str, str]) -> dict[str, Look]:
    """{name of a mask's file: name of its photo} -> {name: what its file holds}; what the run has kept of a file that
    did not change is not read again."""
    place = os.path.realpath(base)
    known = loaded(memory.recalled(NAME), place)
    stamps = {name: stamp(Path(base, name)) for name in photos}
    fresh = [name for name in photos if name not in known or known[name][0] != stamps[name]]

    def looked(name: str) -> Look:
        return look(Path(base, name), Path(base, photos[name]))

    read = dict(zip(fresh, in_threads(looked, fresh, "masks read"), strict=True))
    looks = {name: read[name] if name in read else known[name][1] for name in photos}
    if read:
        sound = {name: (stamps[name], one) for name, one in looks.items() if one.size is not None}  # else tried again
        memory.keep(NAME, dumped(sound, place))
    return looks


def dumped(looks: Mapping[str, tuple[Stamp, Look]], place: str) -> bytes:
    """{name: (its stamp, what it holds)} of files below a place -> an .npz without pickled objects."""
    rows, flat = [], []
    for (size, time), one in looks.values():
        height, width = one.size or (-1, -1)
        alpha = Counted() if one.alpha is None else one.alpha
        lengths = [len(one.found.values), len(one.palette), len(alpha.values)]
        flags = [FORMS.index(one.form), int(one.lossy), int(one.more)]
        rows.append([size, time, height, width, *flags, *lengths])
        parts = [one.found.values, one.found.pixels, one.found.solid, one.palette]
        flat += [*parts, alpha.values, alpha.pixels, alpha.solid]
    made = io.BytesIO()
    np.savez(
        made,
        place=np.array([place, RULES], dtype=np.str_),
        names=np.array(list(looks), dtype=np.str_),
        problems=np.array([one.problem for _, one in looks.values()], dtype=np.str_),
        rows=np.array(rows, dtype=np.int64).reshape(-1, 10),
        flat=np.concatenate([np.zeros(0, dtype=np.int64), *flat]).astype(np.int64),
    )
    return made.getvalue()


def loaded(content: bytes | None, place: str) -> dict[str, tuple[Stamp, Look]]:
    """What `dumped` made; empty for bytes that are of another place, something else, or damaged."""
    if content is None:
        return {}
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return parsed(file) if file["place"].tolist() == [place, RULES] else {}
    except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile):
        return {}


def parsed(file: Any) -> dict[str, tuple[Stamp, Look]]:
    flat, place = file["flat"], 0

    def take(length: int) -> np.ndarray:
        nonlocal place
        place += length
        if place > len(flat):
            raise ValueError("fewer values than are announced")
        return flat[place - length : place]

    found: dict[str, tuple[Stamp, Look]] = {}
    names, problems, rows = (file[key].tolist() for key in ("names", "problems", "rows"))
    for name, problem, row in zip(names, problems, rows, strict=True):
        size, time, height, width, form, lossy, more, values, palette, alpha = row
        held = Counted(take(values), take(values), take(values))
        colors = take(palette)
        seen = Counted(take(alpha), take(alpha), take(alpha)) if alpha else None
        shape = None if height < 0 else (height, width)
        one = Look(shape, FORMS[form], held, colors, seen, bool(lossy), bool(more), problem)
        found[name] = (size, time), one
    return found
