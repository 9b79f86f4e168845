"""train, val and test: what folders of these names are, and who is held out where nobody says. Imports no torch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from visiontl.errors import DataError
from visiontl.kit.words import count, told

SPLITS: Mapping[str, str] = {
    "train": "train", "training": "train", "trn": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
ORDER = ("train", "val", "test")
WHOLE = "whole"  # the part of a source that comes without splits

T = TypeVar("T")


def split_of(name: str) -> str | None:
    """The split that a folder's name, or a table's cell, stands for, in capitals or not; None for another word."""
    return SPLITS.get(name.strip().lower())


def split_names(where: Any, names: Iterable[str]) -> dict[str, str]:
    """{split: its name among these}, in the order train, val, test. Raises DataError where two mean the same split."""
    found: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split is not None and split in found:
            raise DataError(f"{where}: {told(found[split])} and {told(name)} both mean {split}; keep one of the two")
        if split is not None:
            found[split] = name
    return {split: found[split] for split in ORDER if split in found}


def spellings(split: str) -> list[str]:
    """All names of a split in small letters, in capitals, and with one capital; its own first."""
    names = [split, *(name for name, its in SPLITS.items() if its == split and name != split)]
    return [form(name) for name in names for form in (str.lower, str.title, str.upper)]


def split_tops(names: Iterable[str]) -> list[str]:
    """The first folders of these names that are called after splits, sorted; none unless two splits are among them."""
    tops = sorted({top for top, slash, _ in (name.partition("/") for name in names) if slash and split_of(top)})
    return tops if len({split_of(top) for top in tops}) > 1 else []


def split_files(where: Any, names: Iterable[str], suffix: str = "") -> dict[str, str]:
    """The same for files and keys that are called after splits, behind which `suffix` stands (.txt): one that is called
    train, val or test goes before other names of that split."""
    stems = {name.removesuffix(suffix): name for name in names if name.endswith(suffix)}
    exact = {split: stems[split] for split in ORDER if split in stems}
    found = split_names(where, (stem for stem in stems if split_of(stem) not in exact))
    chosen = {**{split: stems[stem] for split, stem in found.items()}, **exact}
    return {split: chosen[split] for split in ORDER if split in chosen}


def hold_out(
    items: Iterable[T],
    name: Callable[[T], str],
    shares: Mapping[str, float],
    seed: int,
    stratum: Callable[[T], Hashable] | None = None,
    least: int = 1,
) -> dict[str, list[T]]:
    """train and the splits of `shares` ({"val": 0.15, "test": 0.15}), each in the order of the names.

    A function of the seed and the names alone: within a stratum (one for all where none is given), items are ordered
    by the SHA-256 of "seed:name", and each split takes its rounded share from the front, `least` at the least. So one
    item more leaves the others where they were, but for those at the edge of a share that grew by it. A stratum too
    small for all serves train first, then the splits in order. A share of 0 makes no split.
    """
    wanted = {split: share for split, share in shares.items() if share > 0}
    strata: dict[Hashable, list[T]] = {}
    for item in items:
        strata.setdefault(stratum(item) if stratum else None, []).append(item)
    parts: dict[str, list[T]] = {"train": [], **{split: [] for split in wanted}}
    for members in strata.values():
        ordered = sorted(members, key=lambda item: _place(seed, name(item)))
        takes = _takes(len(ordered), wanted, least)
        for split, number in takes.items():
            parts[split] += ordered[:number]
            ordered = ordered[number:]
        parts["train"] += ordered
    return {split: sorted(part, key=name) for split, part in parts.items()}


def folds(names: Sequence[str], parts: int, seed: int = 0) -> list[int]:
    """The part, 0 .. parts - 1, that each of N names falls in for cross-validation; equal names fall in the same one.

    A function of the seed and the names alone: different names are dealt out in the order of the SHA-256 of
    "seed:name", so parts differ by one name at the most. Raises ValueError for fewer different names than parts.
    """
    different = sorted(set(names), key=lambda name: _place(seed, name))
    if len(different) < parts:
        raise ValueError(f"{count(len(different), 'image')} cannot be divided into {parts} parts")
    part = {name: i % parts for i, name in enumerate(different)}
    return [part[name] for name in names]


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode(errors="surrogatepass")).digest()


def _takes(number: int, wanted: Mapping[str, float], least: int) -> dict[str, int]:
    """How many of so many each split takes; one at least is left to train."""
    takes = {split: max(least, int(share * number + 0.5)) for split, share in wanted.items()}
    while sum(takes.values()) >= number and any(takes.values()):
        largest = max(takes.values())
        last = [split for split, take in takes.items() if take == largest][-1]
        takes[last] -= 1
    return takes


def in_order(parts: Mapping[str, Sequence[T]]) -> dict[str, Sequence[T]]:
    """The splits that are there and hold something, in the order train, val, test."""
    return {split: parts[split] for split in ORDER if parts.get(split)}


def settled(
    parts: Mapping[str, Sequence[T]], name: Callable[[T], str], share: float, seed: int, evaluation: bool, where: Any
) -> tuple[dict[str, Sequence[T]], list[str]]:
    """A source as found (split, or WHOLE alone, -> items) -> its splits in order, and notes.

    One without splits is all train, or all test where a trained model is there already (evaluation). Where a train has
    no val, that share of it becomes val. Raises DataError for a split without items.
    """
    for split, items in parts.items():
        if not items:
            raise DataError(f"{where}: {'' if split == WHOLE else split + ' '}holds no images")
    if WHOLE in parts and evaluation:
        return {"test": parts[WHOLE]}, [f"{where}: no splits given; {count(len(parts[WHOLE]), 'image')}, all test"]
    parts = {"train" if split == WHOLE else split: items for split, items in parts.items()}
    if "train" not in parts or "val" in parts or evaluation:
        return in_order(parts), []
    parts = in_order({**parts, **hold_out(parts["train"], name, {"val": share}, seed)})
    if "val" not in parts:
        return parts, []
    return parts, [
        f"{where}: no val given; {count(len(parts['val']), 'image')} of train became val with seed {seed}, "
        f"{len(parts['train']):,} are left to train on"
    ]


def check_once(where: Any, parts: Mapping[str, Iterable[str]], noun: str = "an image") -> None:
    """Raises DataError for a name that is listed twice, in one split or in two."""
    place: dict[str, str] = {}
    for split, names in parts.items():
        for name, number in Counter(names).items():
            if number > 1:
                raise DataError(f"{where}: {told(name)} is listed {number} times in {split}; once is right")
            if name in place:
                raise DataError(
                    f"{where}: {told(name)} is in {place[name]} and in {split}; {noun} belongs to one split"
                )
            place[name] = split
