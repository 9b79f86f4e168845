"""Pictures in folders that are called after what they show: FOLDER/ants/1.jpg, or FOLDER/train/ants/1.jpg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visiontl.errors import DataError
from visiontl.kit.folders import HIDDEN, Folders, Passed, join, passed_over
from visiontl.kit.images import is_image
from visiontl.kit.splits import WHOLE, split_names
from visiontl.kit.words import count, some

FolderLayout = Literal["auto", "splits", "labels"]


@dataclass(frozen=True)
class Labeled:
    """What `read_labeled` found.

    parts: split, or WHOLE, -> label (its folder's name) -> names of the pictures below, relative to the base; labels
    and names in plain sorted order (of code points), labels without a picture too. notes: what was passed over.
    """

    parts: Mapping[str, Mapping[str, Sequence[str]]]
    notes: Sequence[str]

    def labels(self) -> list[str]:
        return sorted({label for part in self.parts.values() for label in part})


def read_labeled(folders: Folders, layout: FolderLayout = "auto", noun: str = "class", ask: str = "") -> Labeled:
    """The pictures of folders that are called after what they show.

    layout: whether the base holds folders of splits or of labels; auto: of splits where a folder has such a name
    (`splits.SPLITS`) and holds folders. noun: what a label is. ask: what to say where auto cannot know.

    Raises DataError where it cannot know, where two folders mean one split, and where there are no folders of labels.
    """
    passed: list[Passed] = []
    notes: list[str] = []
    given = _splits(folders, layout, noun, ask, passed, notes)
    if given:
        parts = {split: _labels(folders, name, noun, passed) for split, name in given.items()}
        passed += _loose(folders, "", "in no split")
    else:
        parts = {WHOLE: _labels(folders, "", noun, passed)}
    return Labeled(parts, [*notes, *passed_over(folders.base, passed)])


def _splits(
    folders: Folders, layout: FolderLayout, noun: str, ask: str, passed: list[Passed], notes: list[str]
) -> dict[str, str]:
    """{"train": "train", "val": "valid"} where the base holds splits, else {}."""
    if layout == "labels":
        return {}
    names = folders.folders()
    found = split_names(folders.base, names)
    others = [name for name in names if name not in found.values()]
    if layout == "splits" and not found:
        raise DataError(
            f"{folders.base}: format: splits expects folders named train, val, test; found {some(names) or 'none'}"
        )
    if layout == "auto":
        deep = [name for name in found.values() if folders.folders(name)]
        if others and not deep:  # vehicles: bus, car, train
            return {}
        if others and len(found) == 1:
            raise DataError(
                f"{folders.base}: {next(iter(found.values()))} holds folders and stands beside {some(others)}: a split "
                f"or {'an' if noun[0] in 'aeiou' else 'a'} {noun}?{ask}"
            )
    flat = found.get("test", "")
    if flat and len(found) > 1 and not folders.folders(flat):
        files = count(len(folders.files(flat)), "file")
        notes.append(f"{folders.path(flat)}: {files} without {noun} folders, so without labels; not used")
        del found["test"]
    passed += [Passed(f"{name}/", "in no split") for name in others]
    return found


def _labels(folders: Folders, folder: str, noun: str, passed: list[Passed]) -> dict[str, Sequence[str]]:
    """label -> the names of its pictures."""
    labels = folders.folders(folder)
    if not labels:
        number = _pictures(folders, folder)
        have = f"{count(number, 'picture')} but no {noun} folders" if number else f"no {noun} folders"
        raise DataError(
            f"{folders.path(folder)}: holds {have}; expected one folder per {noun} (FOLDER/{noun.upper()}/1.jpg), or a "
            f".csv file with the columns path and {'label' if noun == 'class' else noun}"
        )
    passed += _loose(folders, folder, f"in no {noun} folder")
    found: dict[str, Sequence[str]] = {}
    for label in labels:
        inside = folders.pictures(join(folder, label))
        found[label] = inside.pictures
        passed += inside.passed
    return found


def _pictures(folders: Folders, folder: str) -> int:
    return sum(is_image(Path(name)) for name in folders.files(folder))


def _loose(folders: Folders, folder: str, why: str) -> list[Passed]:
    """Files beside folders, and what is hidden."""
    names = set(folders.entries(folder)) - set(folders.folders(folder))
    return [Passed(join(folder, name), HIDDEN if name.startswith(".") else why) for name in sorted(names)]
