"""LFW's lists of pairs (`pairs.txt`): people and numbers of images, and which images these are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visiontl import DataError
from visiontl.kit.folders import read_lines
from visiontl.kit.names import compared
from visiontl.kit.words import refusal, told

Image = tuple[str, int]  # a person as the list writes it, and the number of an image
FORMAT = "'name n1 n2' of one person, 'name1 n1 name2 n2' of two"


@dataclass(frozen=True)
class Numbered:
    """A pair as a list writes it. readings: the ways to read its line, several where names and numbers between blanks
    leave it open which is which."""

    line: int
    readings: Sequence[tuple[Image, Image]]
    same: bool
    fold: int
    text: str


def lfw_pairs(path: Path) -> list[Numbered]:
    """LFW's format (Huang et al. 2007): a line `folds pairs`, then for each fold that many lines `name n1 n2` of one
    person, and as many lines `name1 n1 name2 n2` of two. Tabs part the cells; without tabs blanks do, and a name is
    all that stands before its numbers. Raises DataError, saying for a list without its first line what that would be.
    """
    lines = read_lines(path)
    head = lines[0][1].split() if lines else []
    if len(head) == 1:  # view 1 (pairsDevTest.txt): one fold
        head = ["1", *head]
    if len(head) != 2 or not all(map(whole, head)):
        raise DataError(f"{path}: {_headless([line for _, line in lines])}")
    folds, each = int(head[0]), int(head[1])
    body = lines[1:]
    if folds < 1 or each < 1 or len(body) != folds * each * 2:
        raise DataError(
            f"{path}: its first line announces {folds} folds of {each} pairs of one person and {each} of two, so "
            f"{2 * folds * each:,} lines; it has {len(body):,}"
        )
    problems, found = [], []
    for index, (number, line) in enumerate(body):
        fold, place = divmod(index, 2 * each)
        same = place < each
        readings = [pair for pair, one in _readings(line) if one == same]
        if not readings:
            expected = "name n1 n2" if same else "name1 n1 name2 n2"
            problems.append(f"line {number}: {told(' '.join(line.split()))!r}; expected '{expected}' here")
        else:
            found.append(Numbered(number, readings, same, fold, line.strip()))
    if problems:
        raise refusal(path, problems)
    return found


def _headless(lines: Sequence[str]) -> str:
    """What to do with a list that begins with none of the numbers."""
    said = f"the first line is {told(lines[0])!r}" if lines else "the first line is 'nothing'"
    said += "; LFW's lists begin with two numbers, such as '10 300'"
    kinds = [{same for _, same in _readings(line)} for line in lines]
    if not lines or not all(kinds):
        return f"{said}, and go on with lines {FORMAT}; a .csv with the columns file_a,file_b,same is read too"
    each = sum(True in kind for kind in kinds)
    if 2 * each == len(kinds) and all(True in kind for kind in kinds[:each]) and all(False in k for k in kinds[each:]):
        return (
            f"{said} (folds, and pairs of each kind in a fold): put a line '1 {each}' before its {len(kinds)} pairs, "
            "or write a .csv with the columns file_a,file_b,same"
        )
    return (
        f"{said}, and in each fold the pairs of one person stand first, as many as of two; here {each} of {len(kinds)} "
        "are of one: write a .csv with the columns file_a,file_b,same, for which neither order nor number matters"
    )


def _readings(line: str) -> list[tuple[tuple[Image, Image], bool]]:
    """All ways to read a line as ((person, number), (person, number)) and whether that is one person."""
    if "\t" in line:
        cells = [cell.strip() for cell in line.strip().split("\t")]
        if len(cells) == 3 and cells[0] and all(map(whole, cells[1:])):
            return [(((cells[0], int(cells[1])), (cells[0], int(cells[2]))), True)]
        if len(cells) == 4 and cells[0] and cells[2] and all(map(whole, cells[1::2])):
            return [(((cells[0], int(cells[1])), (cells[2], int(cells[3]))), False)]
        return []
    cells = line.split()
    if len(cells) < 3 or not whole(cells[-1]):
        return []
    last = int(cells[-1])
    found: list[tuple[tuple[Image, Image], bool]] = []
    if whole(cells[-2]):
        name = " ".join(cells[:-2])
        found.append((((name, int(cells[-2])), (name, last)), True))
    for place in range(1, len(cells) - 2):
        if whole(cells[place]):
            first, second = " ".join(cells[:place]), " ".join(cells[place + 1 : -1])
            found.append((((first, int(cells[place])), (second, last)), False))
    return found


def whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9


@dataclass(frozen=True)
class Numbers:
    """Which picture is image n of a person: `name/name_000n`, else the one in the folder `name` whose own name ends in
    the number n; each first by its exact spelling, then by `kit.names.compared`.

    named: spelling -> {folder/stem: pictures}. ending: spelling -> {(folder, number): pictures}.
    """

    named: Sequence[Mapping[str, Sequence[str]]]
    ending: Sequence[Mapping[tuple[str, int], Sequence[str]]]

    def find(self, image: Image) -> Sequence[str]:
        """The pictures that it can be: none, one, or several that bear one name."""
        for form, named, ending in zip(SPELLINGS, self.named, self.ending, strict=True):
            who, number = form(image[0]), image[1]
            found = named.get(f"{who}/{who}_{number:04d}") or ending.get((who, number))
            if found:
                return found
        return ()


SPELLINGS = (str, compared)


def numbered(names: Iterable[str]) -> Numbers:
    """names: of pictures, such as train/Anna/Anna_0001.jpg."""
    named: list[dict[str, list[str]]] = [{} for _ in SPELLINGS]
    ending: list[dict[tuple[str, int], list[str]]] = [{} for _ in SPELLINGS]
    for name in names:
        path = PurePosixPath(name)
        digits = re.search(r"[0-9]{1,8}$", path.stem)
        for place, form in enumerate(SPELLINGS):
            folder = form(path.parent.name)
            named[place].setdefault(f"{folder}/{form(path.stem)}", []).append(name)
            if digits:
                ending[place].setdefault((folder, int(digits.group())), []).append(name)
    return Numbers(named, ending)


def key(image: Image) -> str:
    """How LFW calls it: Anna/Anna_0001."""
    return f"{image[0]}/{image[0]}_{image[1]:04d}"
