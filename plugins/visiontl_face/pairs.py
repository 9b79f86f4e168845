"""Lists of verification pairs: CSV, and LFW's pairs.txt."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from visiontl import DataError
from visiontl.kit.folders import near
from visiontl.kit.names import compared
from visiontl.kit.tables import read_table
from visiontl.kit.words import count, plural, refusal, some, told
from visiontl_face import lfw
from visiontl_face.listing import Item

SAME = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Pair:
    """first, second: names of images. fold: -1 where the list states none."""

    first: str
    second: str
    same: bool
    fold: int = -1


@dataclass(frozen=True)
class Named:
    """A pair whose images were looked up. line: of the file, for messages. first, second: pictures, or what the list
    calls them where there is none (in lost)."""

    line: int
    first: str
    second: str
    same: bool
    fold: int
    lost: tuple[str, ...] = ()


@dataclass
class Lookup:
    """Finds what a list calls its pictures. guessed: how it was found -> what was, where that was no exact name."""

    names: Sequence[str]
    root: Path
    guessed: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    problems: list[str] = field(default_factory=list[str])

    def guess(self, how: str, said: str, name: str) -> str:
        self.guessed.setdefault(how, {})[said] = name
        return name


def read_pairs(
    file: str, items: Sequence[Item], elsewhere: Mapping[str, str], missing: str, root: Path
) -> tuple[list[Pair], list[str]]:
    """The pairs of a list, and notes on what was left out or found under another name.

    items: of the split that the pairs are for. elsewhere: name of an image of another split -> that split. missing:
    error | skip, for pairs of images that are not there. root: of the images. Raises DataError that names file, line
    and image.
    """
    path = Path(file).expanduser()
    if "\0" in file or not path.is_file():
        raise DataError(f"task.pairs: {told(path)}: no such file{near(file)}")
    known = {item.name: item for item in items}
    lookup = Lookup([*known, *elsewhere], root)
    named = _found_lfw(path, lookup) if path.suffix.lower() == ".txt" else csv_pairs(path, lookup)
    problems = lookup.problems
    absent: dict[str, int] = {}
    pairs: list[Pair] = []
    seen: dict[frozenset[str], int] = {}
    repeated = 0
    for one in named:
        other = [name for name in (one.first, one.second) if name in elsewhere]
        for name in other:
            problems.append(
                f"line {one.line}: {told(name)} is in the {elsewhere[name]} split; pairs are within one split"
            )
        for name in one.lost:
            absent.setdefault(name, one.line)
        if other or one.lost:
            continue
        first, second = known[one.first], known[one.second]
        if first.identity and second.identity and (first.identity == second.identity) != one.same:
            problems.append(contradiction(one, first, second))
            continue
        pair = frozenset((one.first, one.second))
        repeated += pair in seen
        seen.setdefault(pair, one.line)
        pairs.append(Pair(first.name, second.name, one.same, one.fold))
    if absent and (missing == "error" or len(pairs) == 0):
        problems.append(_absent(absent, lookup))
    if problems:
        raise refusal(path, problems)
    notes = [
        f"{path}: {count(len(found), 'image')} found {how}: {some(f'{told(a)} is {told(b)}' for a, b in found.items())}"
        for how, found in lookup.guessed.items()
    ]
    if absent:
        left = len(named) - len(pairs)
        notes.append(
            f"{path}: {count(left, 'pair')} of {len(named):,} left out, because {count(len(absent), 'image')} "
            f"{plural(len(absent), 'is')} not in {root}: {some(absent)}; scores are not those of the whole list"
        )
    if repeated:
        notes.append(f"{path}: {count(repeated, 'pair')} stand there more than once, and count as often")
    return pairs, notes


def _absent(absent: Mapping[str, int], lookup: Lookup) -> str:
    """That images are not there, and what they may be called there."""
    listed = some(f"{told(name)} (line {line})" for name, line in absent.items())
    said = f"{count(len(absent), 'image')} of its pairs {plural(len(absent), 'is')} not in {lookup.root}: {listed}; "
    if lookup.names:
        said += f"images are called such as {told(min(lookup.names))} there; "
    return f"{said}task.pairs.missing=skip would leave such pairs out"


def contradiction(named: Named, first: Item, second: Item) -> str:
    """That the list says otherwise than the data whether two images show one person."""
    claim = "the same person" if named.same else "two people"
    return (
        f"line {named.line}: {told(first.name)} and {told(second.name)} are said to show {claim}, but the data "
        f"has them as {told(first.identity)} and {told(second.identity)} (where folders are no people: "
        "task.identities=false)"
    )


def csv_pairs(path: Path, lookup: Lookup) -> list[Named]:
    """Columns file_a, file_b, same (1 or 0) and optionally fold (a whole number)."""
    table = read_table(path, ("file_a", "file_b", "same"), ("fold",))
    lookup.problems.extend(table.problems)
    find, found = _by_path(lookup), []
    for line, record in table.records:
        same, fold = SAME.get(record["same"].lower()), record.get("fold", "")
        said = None
        if not record["file_a"] or not record["file_b"]:
            said = "two files were expected"
        elif same is None:
            said = f"same is {told(record['same'])!r}; expected 1 or 0"
        elif "fold" in table.columns and not lfw.whole(fold):
            said = f"fold is {told(fold)!r}; expected a whole number"
        if said is not None or same is None:
            lookup.problems.append(f"line {line}: {said}")
            continue
        (first, there), (second, also) = (find(record[column]) for column in ("file_a", "file_b"))
        lost = tuple(name for name, known in ((first, there), (second, also)) if not known)
        number = int(fold) if "fold" in table.columns else -1
        found += _apart(Named(line, first, second, same, number, lost), lookup)
    if not found and not lookup.problems:
        raise DataError(f"{path}: the table has a header and no pairs")
    return found


def _apart(named: Named, lookup: Lookup) -> list[Named]:
    """The pair, unless its images are one."""
    if named.first != named.second:
        return [named]
    lookup.problems.append(f"line {named.line}: {told(named.first)} is paired with itself")
    return []


def _by_path(lookup: Lookup) -> Callable[[str], tuple[str, bool]]:
    """A path as a table states it -> (the picture's name, True), or (the path, False) where there is none."""
    known = set(lookup.names)
    forms: dict[str, list[str]] = {}
    for name in lookup.names:
        forms.setdefault(compared(name), []).append(name)
    base = os.path.realpath(lookup.root)

    def find(said: str) -> tuple[str, bool]:
        plain = os.path.normpath(said).replace(os.sep, "/")
        if plain in known:
            return plain, True
        if os.path.isabs(said):
            inside = os.path.relpath(os.path.realpath(said), base).replace(os.sep, "/")
            return (lookup.guess("by absolute paths", plain, inside), True) if inside in known else (plain, False)
        turned = plain.replace("\\", "/")
        if turned in known:
            return lookup.guess("with \\ read as /", plain, turned), True
        like = forms.get(compared(turned), ())
        if len(like) == 1:
            return lookup.guess("under another spelling", plain, like[0]), True
        return plain, False

    return find


def _found_lfw(path: Path, lookup: Lookup) -> list[Named]:
    """The pairs of a list in LFW's format; of lines that can be read in several ways the one whose images are there."""
    numbers = lfw.numbered(lookup.names)
    found: list[Named] = []
    for one in lfw.lfw_pairs(path):
        whole = [pair for pair in one.readings if all(numbers.find(image) for image in pair)]
        if len(whole) > 1 or (len(one.readings) > 1 and not whole):
            lookup.problems.append(
                f"line {one.line}: {told(one.text)!r} can be read in {len(one.readings)} ways, since names hold "
                "numbers; put tabs between names and numbers"
            )
            continue
        pair = whole[0] if whole else one.readings[0]
        names, lost = [], []
        for image in pair:
            pictures = numbers.find(image)
            if len(pictures) > 1:
                listed = some(map(told, pictures))
                lookup.problems.append(f"line {one.line}: {told(lfw.key(image))} can be {listed}; it must be one")
            elif not pictures:
                lost.append(lfw.key(image))
            elif not _is_called(pictures[0], lfw.key(image)):
                lookup.guess("under other names than LFW's name/name_000n", lfw.key(image), pictures[0])
            names.append(pictures[0] if pictures else lfw.key(image))
        found += _apart(Named(one.line, names[0], names[1], one.same, one.fold, tuple(lost)), lookup)
    return found


def _is_called(name: str, key: str) -> bool:
    """Whether train/Anna/Anna_0001.jpg is what LFW calls Anna/Anna_0001."""
    path = PurePosixPath(name)
    return f"{path.parent.name}/{path.stem}" == key
