"""Stratified splits and saved split lists."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.folders import read_lines
from visiontl.kit.names import by_form, in_form
from visiontl.kit.splits import hold_out, split_files
from visiontl.kit.words import count, did_you_mean, some, told
from visiontl_classification.listing import Item


def stratified(items: Sequence[Item], fractions: Mapping[str, float], seed: int) -> dict[str, list[Item]]:
    """Splits off `fractions` ({"val": 0.15, "test": 0.15}) class by class, as `kit.splits.hold_out` does.

    An image with several labels counts for its rarest one, as in Sechidis et al. 2011 (On the stratification of
    multi-label data) without their second pass.
    """
    frequency = Counter(label for item in items for label in item.classes)

    def rarest(item: Item) -> str:
        return min(item.classes, key=lambda label: (frequency[label], label), default="")

    return hold_out(items, lambda item: item.name, fractions, seed, rarest)


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
    forms = by_form(known)
    split: dict[str, list[Item]] = {}
    place: dict[str, str] = {}
    files = sorted(file.name for file in base.glob("*.txt") if file.is_file()) if base.is_dir() else []
    for name, file in split_files(base, files, ".txt").items():
        path = base / file
        lines = [in_form(line, forms) or line for line in (listed(line) for _, line in read_lines(path))]
        unknown = [line for line in lines if line not in known]
        if unknown:
            raise DataError(
                f"{path}: {count(len(unknown), 'name')} not in {where}: {some(unknown, 3)}"
                f"{did_you_mean(unknown[0], known) if len(known) < 20_000 else ''}"
            )
        for line in lines:
            if line in place:
                raise DataError(f"{path}: {told(line)} is already in {place[line]}; an image belongs to one split")
            place[line] = file
        if lines:
            split[name] = [known[line] for line in lines]
    if not split:
        raise DataError(f"task.data.lists: {base}: holds no train.txt, val.txt or test.txt with names")
    left = [name for name in known if name not in place]
    notes = [f"split lists of {base}: {count(len(left), 'image')} not listed, not used: {some(left)}"] if left else []
    return split, notes
