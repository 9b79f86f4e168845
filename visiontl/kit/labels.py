"""Pictures in folders that are called after what they show: FOLDER/ants/1.jpg, or FOLDER/train/ants/1.jpg."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from visiontl.errors import DataError
from visiontl.kit.folders import HIDDEN, Folders, Passed, join, passed_over
from visiontl.kit.images import is_image
from visiontl.kit.splits import WHOLE, split_names
from visiontl.kit.words import count, plural, some

FolderLayout = Literal["auto", "splits", "labels", "inner"]
SHARED = 2  # names of inner folders that the outer ones have in common, from which it is asked which of them are labels
LOOSE = 10  # one picture of so many in the outer folders is a stray one


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
    (`splits.SPLITS`) and holds folders; inner: a label is the folder that a picture lies in, whatever is above it
    (FOLDER/person7/ants/1.jpg), of splits or not. noun: what a label is. ask: what to say where auto cannot
    know; without it outer folders are labels where inner ones might be.

    Raises DataError where it cannot know, where two folders mean one split, and where there are no folders of labels.
    """
    passed: list[Passed] = []
    notes: list[str] = []
    given = _splits(folders, layout, noun, ask, passed, notes)
    read = _inner if layout == "inner" else _labels
    if given:
        parts = {split: read(folders, name, noun, passed) for split, name in given.items()}
        passed += _loose(folders, "", "in no split")
    else:
        parts = {WHOLE: read(folders, "", noun, passed)}
    if layout == "auto" and ask:
        for split, part in parts.items():
            _check_depth(folders, given.get(split, ""), part, noun, ask)
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
    if layout == "inner" and "train" not in found:
        return {}
    if layout == "splits" and not found:
        raise DataError(
            f"{folders.base}: format: splits expects folders named train, val, test; found {some(names) or 'none'}"
        )
    if layout == "auto":
        deep = [name for name in found.values() if folders.folders(name)]
        if others and not deep and len(found) > 1 and "train" in found:
            raise DataError(
                f"{folders.base}: {some(found.values())} hold no folders and stand beside {some(others)}: splits or "
                f"{plural(2, noun)}?{ask}"
            )
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


def _inner(folders: Folders, folder: str, noun: str, passed: list[Passed]) -> dict[str, Sequence[str]]:
    """label -> the names of the pictures in all folders of that name, at whatever depth. A folder with such folders
    inside is none itself."""
    inside = folders.pictures(folder)
    passed += inside.passed
    found: dict[str, list[str]] = {}
    parents = {PurePosixPath(name).parent for name in inside.pictures}
    outer = {str(above) for parent in parents for above in parent.parents}
    for name in inside.pictures:
        above = PurePosixPath(name).parent
        if str(above) in outer or str(above) in (folder, "."):
            passed.append(Passed(name, f"in no {noun} folder"))
        else:
            found.setdefault(above.name, []).append(name)
    if not found:
        raise DataError(
            f"{folders.path(folder)}: holds no pictures in folders; expected FOLDER/OUTER/{noun.upper()}/1.jpg"
        )
    return {label: found[label] for label in sorted(found)}


def _check_depth(folders: Folders, place: str, part: Mapping[str, Sequence[str]], noun: str, ask: str) -> None:
    """Raises DataError where folders that are taken for labels may as well be people, days or splits that hold the
    folders of labels: their pictures lie deeper, and half of them or more have folders of the same names."""
    above = {label: [str(PurePosixPath(name).parent) for name in names] for label, names in part.items() if names}
    own = sum(one == join(place, label) for label, parents in above.items() for one in parents)
    if len(above) < 2 or LOOSE * own > sum(map(len, above.values())):
        return
    tally = Counter(inner for parents in above.values() for inner in {one.rpartition("/")[2] for one in parents})
    shared = sorted(inner for inner, number in tally.items() if number >= 2 and 2 * number >= len(above))
    if len(shared) >= SHARED:
        raise DataError(
            f"{folders.path(place)}: {some(above)} hold folders of the same names ({some(shared)}), and the pictures "
            f"lie in those: which of the two are the {plural(2, noun)}?{ask}"
        )


def _pictures(folders: Folders, folder: str) -> int:
    return sum(is_image(Path(name)) for name in folders.files(folder))


def _loose(folders: Folders, folder: str, why: str) -> list[Passed]:
    """Files beside folders, and what is hidden."""
    names = set(folders.entries(folder)) - set(folders.folders(folder))
    return [Passed(join(folder, name), HIDDEN if name.startswith(".") else why) for name in sorted(names)]
