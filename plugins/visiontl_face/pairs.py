"""Lists of verification pairs: CSV, and LFW's pairs.txt."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from visiontl import DataError
from visiontl.kit.folders import near, read_lines
from visiontl.kit.names import by_form, in_form
from visiontl.kit.tables import read_table
from visiontl.kit.words import count, plural, refusal, some, told
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
    """A pair as a list writes it, before its images were looked up. line: of the file, for messages."""

    line: int
    first: str
    second: str
    same: bool
    fold: int


def read_pairs(
    file: str, items: Sequence[Item], elsewhere: Mapping[str, str], missing: str, where: str
) -> tuple[list[Pair], list[str]]:
    """The pairs of a list, and notes on what was left out.

    items: of the split that the pairs are for. elsewhere: name of an image of another split -> that split. missing:
    error | skip, for pairs of images that are not there. Raises DataError that names file, line and image.
    """
    path = Path(file).expanduser()
    if "\0" in file or not path.is_file():
        raise DataError(f"task.pairs: {told(path)}: no such file{near(file)}")
    lfw = path.suffix.lower() == ".txt"
    named = lfw_pairs(path) if lfw else csv_pairs(path)
    known = {_stem(item.name): item for item in items} if lfw else {item.name: item for item in items}
    other = {_stem(name): split for name, split in elsewhere.items()} if lfw else dict(elsewhere)
    forms = by_form([*known, *other])
    problems: list[str] = []
    absent: dict[str, int] = {}
    pairs: list[Pair] = []
    seen: dict[frozenset[str], int] = {}
    repeated = 0
    for one in named:
        keys = tuple(in_form(key, forms) or key for key in (one.first, one.second))
        lost = [key for key in keys if key not in known]
        for key in lost:
            if key in other:
                problems.append(
                    f"line {one.line}: {told(key)} is in the {other[key]} split; pairs are within one split"
                )
            else:
                absent.setdefault(key, one.line)
        if lost:
            continue
        first, second = (known[key] for key in keys)
        if (first.identity == second.identity) != one.same:
            problems.append(contradiction(one, first, second))
            continue
        pair = frozenset(keys)
        repeated += pair in seen
        seen.setdefault(pair, one.line)
        pairs.append(Pair(first.name, second.name, one.same, one.fold))
    if absent and (missing == "error" or len(pairs) == 0):
        listed = some(f"{told(key)} (line {line})" for key, line in absent.items())
        problems.append(
            f"{count(len(absent), 'image')} of its pairs {plural(len(absent), 'is')} not in {where}: {listed}; "
            "task.pairs.missing=skip would leave such pairs out"
        )
    if problems:
        raise refusal(path, problems)
    notes = []
    if absent:
        left = len(named) - len(pairs)
        notes.append(
            f"{path}: {count(left, 'pair')} of {len(named):,} left out, because {count(len(absent), 'image')} "
            f"{plural(len(absent), 'is')} not in {where}: {some(absent)}; scores are not those of the whole list"
        )
    if repeated:
        notes.append(f"{path}: {count(repeated, 'pair')} stand there more than once, and count as often")
    return pairs, notes


def contradiction(named: Named, first: Item, second: Item) -> str:
    """That the list says otherwise than the data whether two images show one person."""
    claim = "the same person" if named.same else "two people"
    return (
        f"line {named.line}: {told(first.name)} and {told(second.name)} are said to show {claim}, but the data "
        f"has them as {told(first.identity)} and {told(second.identity)}"
    )


def csv_pairs(path: Path) -> list[Named]:
    """Columns file_a, file_b, same (1 or 0) and optionally fold (a whole number)."""
    table = read_table(path, ("file_a", "file_b", "same"), ("fold",))
    problems, found = list(table.problems), []
    for line, record in table.records:
        same, fold = SAME.get(record["same"].lower()), record.get("fold", "")
        first, second = (os.path.normpath(record[key] or ".").replace(os.sep, "/") for key in ("file_a", "file_b"))
        if not record["file_a"] or not record["file_b"]:
            problems.append(f"line {line}: two files were expected")
        elif same is None:
            problems.append(f"line {line}: same is {told(record['same'])!r}; expected 1 or 0")
        elif "fold" in table.columns and not (fold.isascii() and fold.isdigit()):
            problems.append(f"line {line}: fold is {told(fold)!r}; expected a whole number")
        elif first == second:
            problems.append(f"line {line}: {told(first)} is paired with itself")
        else:
            found.append(Named(line, first, second, same, int(fold) if "fold" in table.columns else -1))
    if problems:
        raise refusal(path, problems)
    if not found:
        raise DataError(f"{path}: the table has a header and no pairs")
    return found


def lfw_pairs(path: Path) -> list[Named]:
    """LFW's format (Huang et al. 2007): a line `folds pairs`, then for each fold that many lines `name n1 n2` of one
    person, and as many lines `name1 n1 name2 n2` of two; image n of a person is name/name_000n."""
    lines = read_lines(path)
    head = lines[0][1].split() if lines else []
    if len(head) == 1:  # view 1 (pairsDevTest.txt): one fold
        head = ["1", *head]
    if len(head) != 2 or not all(_whole(text) for text in head):
        shown = told(lines[0][1]) if lines else "nothing"
        raise DataError(f"{path}: the first line is {shown!r}; LFW's lists begin with two numbers, such as '10 300'")
    folds, each = int(head[0]), int(head[1])
    body = [(number, line.split("\t") if "\t" in line else line.split()) for number, line in lines[1:]]
    body = [(number, [cell.strip() for cell in cells]) for number, cells in body]
    if folds < 1 or each < 1 or len(body) != folds * each * 2:
        raise DataError(
            f"{path}: its first line announces {folds} folds of {each} pairs of one person and {each} of two, so "
            f"{2 * folds * each:,} lines; it has {len(body):,}"
        )
    problems, found = [], []
    for index, (number, cells) in enumerate(body):
        fold, place = divmod(index, 2 * each)
        same = place < each
        numbers = cells[1:] if same else cells[1::2]
        if len(cells) != (3 if same else 4) or not all(map(_whole, numbers)):
            expected = "name n1 n2" if same else "name1 n1 name2 n2"
            problems.append(f"line {number}: {told(' '.join(cells))!r}; expected '{expected}' here")
            continue
        people = (cells[0], cells[0]) if same else (cells[0], cells[2])
        first, second = (f"{who}/{who}_{int(n):04d}" for who, n in zip(people, numbers, strict=True))
        if first == second:
            problems.append(f"line {number}: {told(first)} is paired with itself")
            continue
        found.append(Named(number, first, second, same, fold))
    if problems:
        raise refusal(path, problems)
    return found


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 9


def _stem(name: str) -> str:
    """train/Anna/Anna_0001.jpg -> Anna/Anna_0001"""
    path = PurePosixPath(name)
    return f"{path.parent.name}/{path.stem}"
