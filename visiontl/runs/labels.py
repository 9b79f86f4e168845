"""Files that a split opens with each sample, beside its picture: a mask, the annotation of one image.

A few samples are made, and the place of what they open beside their picture is taken for a rule by which the others'
are found, without opening them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from visiontl.processes.seeds import seeded
from visiontl.runs import opened
from visiontl.task import SampleDataset


@dataclass(frozen=True)
class Rule:
    """How a picture's path becomes that of its label: below the first `head` folders, those of `before` are those of
    `after` there; the file is called as the picture, without its suffix, between two texts.

    photos/train/a/1.jpg and masks/train/a/1_mask.png: head 0, before photos, after masks, "" and "_mask.png".
    """

    head: int
    before: tuple[str, ...]
    after: tuple[str, ...]
    name: tuple[str, str]

    def path(self, picture: str) -> str | None:
        """None for a picture that lies elsewhere."""
        *folders, file = os.path.abspath(picture).split(os.sep)
        end = self.head + len(self.before)
        if tuple(folders[self.head : end]) != self.before:
            return None
        stem = os.path.splitext(file)[0]
        return os.sep.join([*folders[: self.head], *self.after, *folders[end:], stem.join(self.name)])


def rule_of(picture: str, label: str) -> Rule | None:
    """None where the label is not called as the picture is."""
    *own, file = os.path.abspath(picture).split(os.sep)
    *other, called = os.path.abspath(label).split(os.sep)
    before, found, after = called.rpartition(os.path.splitext(file)[0])
    if not found:
        return None
    head = alike(own, other)
    tail = alike(own[head:][::-1], other[head:][::-1])
    return Rule(head, tuple(own[head : len(own) - tail]), tuple(other[head : len(other) - tail]), (before, after))


def alike(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the first are the same."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def beside(split: SampleDataset, places: Sequence[str]) -> list[str]:
    """Paths of the labels of a split whose pictures are at these places: those that are there. Makes up to three
    samples, one at a time, and leaves all random generators as they were."""
    rules, single = dict[Rule, None](), dict[str, None]()
    last = len(places) - 1
    for id in dict.fromkeys((0, last // 2, last)) if last >= 0 else ():
        with seeded(0):
            found = opened.opened_by(lambda id=id: split[id, 0])
        for path in found:
            rule = rule_of(places[id], path)
            if rule is None:
                single[path] = None
            else:
                rules[rule] = None
    return list(dict.fromkeys([*single, *there(rules, places)]))


def there(rules: Iterable[Rule], places: Sequence[str]) -> Iterator[str]:
    """Paths by the rules, as far as there are files."""
    for rule in rules:
        for place in places:
            path = rule.path(place)
            if path is not None and os.path.isfile(path):
                yield path
