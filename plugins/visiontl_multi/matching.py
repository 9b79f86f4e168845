"""Which photos of several parts are the same one, told by their names, and which split each belongs to. No torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from visiontl import DataError
from visiontl.kit.splits import ORDER
from visiontl.kit.words import count, some, told

Place = tuple[str, int]  # (split of a part, id in it)
Names = Mapping[str, Mapping[str, Sequence[str]]]  # part -> split -> name of each id
Entry = dict[str, Place]  # part -> where it has the photo


def matched(names: Names, lead: Sequence[str], learns: bool) -> tuple[dict[str, list[Entry]], list[str]]:
    """{split: its photos}, what is to be said of it.

    lead: the parts, of which the first that has a photo says its split; empty: a photo in two splits is refused.
    learns: whether anything will be trained on it. Raises DataError where the parts share no photo, or disagree.
    """
    key = key_of(names)
    photos: dict[str, Entry] = {}
    for part, splits in names.items():
        for split, own in splits.items():
            for id, name in enumerate(own):
                photos.setdefault(key(name), {})[part] = (split, id)
    torn = {one: entry for one, entry in photos.items() if len({split for split, _ in entry.values()}) > 1}
    if torn and not lead and learns:
        raise DataError(disagreement(torn, names))
    order = list(lead) or list(names)
    found: dict[str, list[Entry]] = {split: [] for split in ORDER}
    lost: dict[str, int] = {}
    for entry in photos.values():
        split = next(entry[part][0] for part in order if part in entry)
        kept = {part: place for part, place in entry.items() if usable(place[0], split)}
        for part in entry.keys() - kept.keys():
            lost[part] = lost.get(part, 0) + 1
        found.setdefault(split, []).append(kept)
    notes = []
    if torn:
        notes.append(f"{count(len(torn), 'photo')} in other splits of the parts; {order[0]} leads")
    notes += [
        f"{part}: {count(number, 'label')} left out: the photo is in its train split, shown changed, and is now judged"
        for part, number in sorted(lost.items())
    ]
    return {split: entries for split, entries in found.items() if entries}, notes


def usable(own: str, split: str) -> bool:
    """Whether a photo from one split of a part may stand in another: train's are augmented, so they can judge nothing;
    what judged may be learned from where it judges no more."""
    return own == split or split == "train" or own != "train"


def disagreement(torn: Mapping[str, Entry], names: Names) -> str:
    first, entry = next(iter(torn.items()))
    where = ", ".join(f"{split} of {part}" for part, (split, _) in entry.items())
    lead = next(iter(names))
    return (
        f"the parts' splits disagree about {count(len(torn), 'photo')}, such as {told(first)} ({where}): a photo would "
        f"be learned by one part and judged by another; let one part's splits hold for all (task.splits={lead}), or "
        "give the parts the same splits"
    )


def key_of(names: Names) -> Callable[[str], str]:
    """The function name -> what it is compared by: as many folders above the file as tell a part's photos apart and
    find the most of them again in another part."""
    if len(names) == 1:
        return lambda name: name
    best: tuple[int, int] | None = None
    for depth in (99, 4, 3, 2, 1):
        keys = {part: [stem(name, depth) for own in splits.values() for name in own] for part, splits in names.items()}
        if any(len(set(own)) < len(own) for own in keys.values()):
            continue
        sets = [set(own) for own in keys.values()]
        shared = sum(map(len, sets)) - len(set().union(*sets))
        if best is None or shared > best[0]:
            best = (shared, depth)
    if best is None or best[0] == 0:
        raise DataError(strangers(names))
    depth = best[1]
    return lambda name: stem(name, depth)


def stem(name: str, depth: int) -> str:
    """The last `depth` components of a name without its ending, in one form of Unicode."""
    path = PurePosixPath(unicodedata.normalize("NFC", str(name)).replace("\\", "/"))
    return "/".join([*path.parent.parts, path.stem][-depth:])


def strangers(names: Names) -> str:
    shown = []
    for part, splits in names.items():
        every = [name for own in splits.values() for name in own]
        shown.append(f"{part} has {some(every, 2)}")
    mix = ", ".join(f"{part}: 1" for part in names)
    return (
        f"the parts share no photo by its name: {'; '.join(shown)}; photos of one set are told by folders and file "
        f"name without ending; sets of their own are mixed in stated shares: task.mix={{{mix}}}"
    )
