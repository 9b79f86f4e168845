"""Stratified splits and saved split lists."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.words import count, did_you_mean
from visiontl_classification.listing import Item, some


def stratified(items: Sequence[Item], fractions: Mapping[str, float], seed: int) -> dict[str, list[Item]]:
    """Splits off `fractions` ({"val": 0.15, "test": 0.15}) class by class; the rest is train.

    A function of the seed and the names alone: within a class, images are ordered by the SHA-256 of
    "seed:name", and each split takes its rounded share from the front, at least one. A class with too few
    images for one in each split and in train serves train first, then the splits in order. An image with
    several labels counts for its rarest one, as in Sechidis et al. 2011 (On the stratification of multi-label
    data) without their second pass.
    """
    wanted = {name: share for name, share in fractions.items() if share > 0}
    frequency = Counter(label for item in items for label in item.classes)
    strata: dict[str, list[Item]] = {}
    for item in items:
        rarest = min(item.classes, key=lambda label: (frequency[label], label), default="")
        strata.setdefault(rarest, []).append(item)
    split: dict[str, list[Item]] = {"train": [], **{name: [] for name in wanted}}
    for members in strata.values():
        ordered = sorted(members, key=lambda item: hashlib.sha256(f"{seed}:{item.name}".encode()).digest())
        takes = {name: max(1, int(share * len(ordered) + 0.5)) for name, share in wanted.items()}
        while sum(takes.values()) >= len(ordered) and any(takes.values()):
            largest = max(takes.values())
            last = [name for name, take in takes.items() if take == largest][-1]
            takes[last] -= 1
        for name, take in takes.items():
            split[name] += ordered[:take]
            ordered = ordered[take:]
        split["train"] += ordered
    return {name: sorted(part, key=lambda item: item.name) for name, part in split.items()}


def listed(line: str) -> str:
    """A line of a list: a name as it is, or as a JSON string, which is how a run saves it (names may hold newlines)."""
    if line.startswith('"'):
        try:
            return str(json.loads(line))
        except ValueError:
            return line
    return line


def from_lists(folder: str, pool: Sequence[Item], where: str) -> tuple[dict[str, list[Item]], list[str]]:
    """The split that train.txt, val.txt and test.txt state, one name a line, in their order; and notes."""
    base = Path(folder).expanduser()
    known = {item.name: item for item in pool}
    split: dict[str, list[Item]] = {}
    place: dict[str, str] = {}
    for name in ("train", "val", "test"):
        path = base / f"{name}.txt"
        if not path.is_file():
            continue
        try:
            # not splitlines, which also ends a line at U+2028 and other characters that names may hold
            written = (line.removesuffix("\r") for line in path.read_text(encoding="utf-8-sig").split("\n"))
            lines = [listed(line) for line in written if line.strip()]
        except UnicodeDecodeError:
            raise DataError(f"{path}: not UTF-8 text") from None
        unknown = [line for line in lines if line not in known]
        if unknown:
            raise DataError(
                f"{path}: {count(len(unknown), 'name')} not in {where}: {some(unknown, 3)}"
                f"{did_you_mean(unknown[0], known) if len(known) < 20_000 else ''}"
            )
        for line in lines:
            if line in place:
                raise DataError(f"{path}: {line} is already in {place[line]}.txt; an image belongs to one split")
            place[line] = name
        if lines:
            split[name] = [known[line] for line in lines]
    if not split:
        raise DataError(f"task.data.lists: {base}: holds no train.txt, val.txt or test.txt with names")
    left = [name for name in known if name not in place]
    notes = [f"split lists of {base}: {count(len(left), 'image')} not listed, not used: {some(left)}"] if left else []
    return split, notes
