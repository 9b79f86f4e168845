"""YOLO text: data.yaml or its like, folders or lists of images, and a label file for each image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any

from visiontl import DataError
from visiontl.kit.absent import DRIVE, instead
from visiontl.kit.folders import LONGEST, Folders, passed_over
from visiontl.kit.listed import find_listed
from visiontl.kit.words import count, refusal, some, told
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated, Listing
from visiontl_detection.yolo_labels import read_labels
from visiontl_detection.yolo_settings import Settings, read_settings, source

MOST_LIST = 1 << 30  # bytes of a list of images


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming file and line, for whatever is not as the format has it."""
    file = source(folders)
    assert file is not None
    where = folders.path(file)
    settings = read_settings(folders, file)
    notes: list[str] = []
    given: Mapping[str, Any] = settings.entries
    if cfg.train is not None:
        given = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    listed: dict[str, list[str]] = {}
    for split, entry in given.items():
        if entry not in (None, "", []):
            key = f"{where}: {split}" if cfg.train is None else f"task.data.{split}"
            listed[split] = _image_names(folders, settings, entry, key, notes)
    if not listed:
        has = f" (it has {some(settings.keys)})" if settings.keys else ""
        raise DataError(f"{where}: names no images; expected the keys train, val and test{has}")
    parts: dict[str, Sequence[Annotated]] = {
        split: read_labels(folders, split, names, settings, cfg.bad_annotations(), notes)
        for split, names in listed.items()
    }
    stated = _as_stated(folders, settings, {split: _entries(given[split]) for split in listed})
    shared = _shared({split: listed[split] for split in stated}, where) if cfg.train is None else []
    return Listing(folders.base, parts, settings.classes, None, [*notes, *shared], str(where), bool(shared))


def _shared(listed: Mapping[str, Sequence[str]], where: Any) -> list[str]:
    """What to say of images that the data set's own file puts into two splits, as that of coco128 does."""
    said = []
    splits = list(listed)
    for i, one in enumerate(splits):
        for other in splits[i + 1 :]:
            both = sorted(set(listed[one]) & set(listed[other]))
            if both:
                said.append(
                    f"{where}: {count(len(both), 'image')} in {one} and in {other}, as it says: {some(both, 3)}; "
                    f"scores of {other} tell how well they are remembered, not how new photos will fare"
                )
    return said


def _image_names(folders: Folders, settings: Settings, entry: Any, key: str, notes: list[str]) -> list[str]:
    """Images of a folder, of a list file, or of several of these; names relative to the base."""
    entries = _entries(entry)
    if any(not isinstance(one, str) or not one for one in entries):
        raise DataError(f"{key}: expected a folder, a list file, or a list of them")
    names: list[str] = []
    for one in entries:
        place = _place(folders, settings, one, key, notes)
        if folders.is_folder(place):
            names += _below(folders, settings, place, notes)
        else:
            names += _listed(folders, settings, place, notes)
    if not names:
        raise DataError(f"{key}: {some(entries)} holds no images")
    return names


def _entries(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def _stated(settings: Settings, entry: str) -> tuple[str, str]:
    return os.path.join(settings.base, entry), entry


def _as_stated(folders: Folders, settings: Settings, entries: Mapping[str, list[str]]) -> list[str]:
    """The splits that the file itself puts where they are found, or where it puts another split."""
    found = []
    for split, own in entries.items():
        others = [theirs for other, theirs in entries.items() if other != split]
        if own in others or all(_is_stated(folders, settings, one) for one in own):
            found.append(split)
    return found


def _is_stated(folders: Folders, settings: Settings, entry: str) -> bool:
    """Whether an entry is where it says, rather than where `_place` guesses it: two guesses may meet in one folder."""
    for candidate in _stated(settings, entry):
        with suppress(ValueError):
            name = folders.within(candidate)
            if folders.is_folder(name) or folders.has(name):
                return True
    return False


def _place(folders: Folders, settings: Settings, entry: str, key: str, notes: list[str]) -> str:
    """Where an entry of data.yaml is, in the folder that the config names.

    Its `path`, a leading ../ as Roboflow writes it, and an absolute path are often of another machine; then what is
    here is taken.
    """
    stripped = entry
    while stripped.startswith(("../", "./")):
        stripped = stripped.partition("/")[2]
    stated = _stated(settings, entry)
    tried = []
    for candidate in (*stated, stripped, *_ends(stated)):
        try:
            name = folders.within(candidate)
        except ValueError as error:
            tried.append(error)
            continue
        if folders.is_folder(name) or folders.has(name):
            if candidate not in stated:
                notes.append(f"{key}: {told(entry)} is taken for {folders.path(name)}")
            return name
        tried.append(ValueError(f"no folder or file {folders.path(name)}"))
    raise DataError(f"{key}: {tried[0]}")


def _ends(stated: Sequence[str]) -> list[str]:
    """The ends of absolute paths, and of those with backslashes, the longest first."""
    found = []
    for path in stated:
        if os.path.isabs(path) or DRIVE.match(path) or "\\" in path:
            parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
            while ".." in parts:
                parts = parts[parts.index("..") + 1 :]
            found += ["/".join(parts[start:]) for start in range(len(parts))]
    return found


def _below(folders: Folders, settings: Settings, place: str, notes: list[str]) -> list[str]:
    found = folders.pictures(place)  # a label may lie beside its picture
    passed = [one for one in found.passed if not one.name.endswith(".txt") and one.name != settings.file]
    notes += passed_over(folders.path(place), passed)
    return list(found.pictures)


def _listed(folders: Folders, settings: Settings, file: str, notes: list[str]) -> list[str]:
    """A list file: one image a line, from data.yaml's folder or the list's own."""
    path = folders.path(file)
    numbered = enumerate(folders.read_text(file, MOST_LIST).split("\n"), start=1)
    lines = {number: line.strip() for number, line in numbered if line.strip()}
    if not lines:
        raise DataError(f"{path}: lists no image")
    places = [str(PurePosixPath(file).parent).removeprefix("."), ""]
    if settings.base and not os.path.isabs(settings.base) and not settings.base.startswith(".."):
        places.append(os.path.normpath(settings.base).removeprefix("."))
    found = find_listed(folders, list(lines.values()), places)
    refused = [(number, line) for number, line in lines.items() if line in found.refused]
    if refused:
        first = refused[0][1]
        near = instead(folders, first) if len(first) < LONGEST else ""
        problems = [f"line {number}: {found.refused[line]}" for number, line in refused]
        raise refusal(path, [problems[0] + near, *problems[1:]])
    missing = found.missing()
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of {count(len(lines), 'image')} not found below {folders.base}: {some(missing)}"
            f"{instead(folders, missing[0])}"
        )
    notes += found.notes(path)
    return found.names
