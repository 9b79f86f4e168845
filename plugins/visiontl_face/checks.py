"""What `visiontl doctor` should say of faces: who is in which split, how often, and whether the images look aligned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.names import alike_findings, compared
from visiontl.kit.words import count, plural
from visiontl_face.config import FaceConfig
from visiontl_face.data import ALIKE
from visiontl_face.scores import pairs_of
from visiontl_face.verification import FARS

WIDE = 1.15  # width / height: a crop of a face is square or upright
UNLIKE = 1.25  # ratio of two images' shapes or sizes within what one way of cropping gives
LARGE = 400  # pixels of the shorter side, beyond which it is a photo rather than a crop


def check(cfg: FaceConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """Tables of identities and pairs, and what follows from them."""
    splits: Any = data.splits()  # of Faces
    people = {split: _identities(faces, seen.sizes[split]) for split, faces in splits.items()}
    items: list[Finding | Table] = [_people_table(people)]
    judged = [name for name in splits if name != "train"]
    if judged:
        items.append(_pairs_table(cfg, {name: splits[name] for name in judged}))
    if "train" in people:
        items += _too_few(people["train"])
    for split, number in people.items():
        items += _single(split, number)
    items += alike_findings("identity", {name for number in people.values() for name in number}, ALIKE)
    items += _shared(people)
    items += _duplicates(splits, seen)
    for split, faces in splits.items():
        items += _shapes(split, faces.names, seen.sizes[split])
    return items


def _identities(faces: Any, sizes: Sequence[Any]) -> Counter[str]:
    """identity -> its readable images; of those whose identity is not known none."""
    known = zip(faces.items, sizes, strict=True)
    return Counter(item.identity for item, size in known if size is not None and item.identity)


def _people_table(people: Mapping[str, Counter[str]]) -> Table:
    rows = []
    for split, number in people.items():
        tally = sorted(number.values()) or [0]
        rows.append([split, len(number), sum(tally), tally[0], f"{np.median(tally):g}", tally[-1]])
    columns = ["split", "identities", "images", "fewest of one", "median", "most"]
    return Table("identities", columns, rows)


def _pairs_table(cfg: FaceConfig, splits: Mapping[str, Any]) -> Table:
    rows = []
    for split, faces in splits.items():
        records = [
            {
                "name": item.name,
                "identity": item.identity,
                "pairs": None
                if faces.pairs is None
                else [(pair.second, pair.same, pair.fold) for pair in faces.pairs.get(item.name, ())],
            }
            for item in faces.items
        ]
        judged = pairs_of(cfg, records)
        same = int(judged.same.sum())
        different = len(judged.same) - same
        least = [f"{far:g}" for far in FARS if different * far >= 1]
        source = "all its images" if faces.pairs is None else "the list"
        rows.append([split, source, same, different, least[-1] if least else "none"])
    columns = ["split", "pairs of", "one person", "two people", "smallest FAR they can measure"]
    return Table("verification pairs", columns, rows)


def _too_few(number: Counter[str]) -> list[Finding]:
    if len(number) >= 2:
        return []
    what = f"train: readable images of {count(len(number), 'identity')}"
    return [Finding("error", what, "at least 2 are needed to tell people apart", sorted(number))]


def _single(split: str, number: Counter[str]) -> list[Finding]:
    lone = sorted(identity for identity, images in number.items() if images == 1)
    if not lone:
        return []
    what = f"{split}: {count(len(lone), 'identity')} with one image"
    if split == "train":
        return [Finding("warning", what, "they teach nothing of how one person varies (task.min_images: 2)", lone)]
    return [Finding("note", what, "they give no pair of one person, and nobody to identify", lone)]


def _shared(people: Mapping[str, Counter[str]]) -> list[Finding]:
    """Identities of one name in two splits, however it is spelled."""
    found = []
    names = list(people)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            known = set(map(compared, people[first]))
            both = sorted(name for name in people[second] if compared(name) in known)
            if both:
                what = f"{count(len(both), 'identity')} {plural(len(both), 'is')} in {first} and in {second}"
                effect = f"scores of {second} say little about new people"
                found.append(Finding("warning", what, effect, both))
    return found


def _duplicates(splits: Mapping[str, Any], seen: Seen) -> list[Finding]:
    """Equal pictures that are said to show two people."""
    wrong = []
    for group in seen.duplicates:
        items = [(split, splits[split].items[id]) for split, id in group]
        if len({item.identity for _, item in items if item.identity}) > 1:
            wrong.append(" = ".join(f"{split}: {item.name}" for split, item in items))
    if not wrong:
        return []
    what = f"{count(len(wrong), 'picture')} {plural(len(wrong), 'is')} there under two identities"
    return [Finding("warning", what, "one of the two is wrong, and training learns both", wrong)]


def _shapes(split: str, names: Sequence[str], sizes: Sequence[Any]) -> list[Finding]:
    """Signs that the images are not crops of faces made in one way. Sizes are all that is looked at."""
    known = [(name, *size) for name, size in zip(names, sizes, strict=True) if size is not None]
    if not known:
        return []
    height, width = (np.array([one[i] for one in known], dtype=np.float64) for i in (1, 2))
    findings = []
    ratio, side = width / height, np.minimum(width, height)
    wide = np.flatnonzero(ratio > WIDE)
    if len(wide):
        what = f"{split}: {count(len(wide), 'image')} wider than a face is"
        effect = "look unaligned: cut the faces out first (visiontl face align)"
        findings.append(Finding("warning", what, effect, [known[i][0] for i in wide.tolist()]))
    odd = np.flatnonzero(_apart(ratio) > UNLIKE)
    if len(odd):
        what = f"{split}: {count(len(odd), 'image')} of another shape than most"
        effect = "aligned crops have one shape: these were cut out in another way, or not at all"
        findings.append(Finding("warning", what, effect, [known[i][0] for i in odd.tolist()]))
    scale = np.flatnonzero(_apart(side) > UNLIKE)
    if len(scale):
        what = f"{split}: {count(len(scale), 'image')} of another size than most ({np.median(side):.0f} pixels)"
        effect = "faces may differ in scale, and small ones in sharpness; embeddings notice both"
        findings.append(Finding("warning", what, effect, [known[i][0] for i in scale.tolist()]))
    large = np.flatnonzero(side > LARGE)
    if len(large):
        what = f"{split}: {count(len(large), 'image')} of more than {LARGE} pixels"
        effect = "look like whole photos: a face should fill its image (visiontl face align)"
        findings.append(Finding("warning", what, effect, [known[i][0] for i in large.tolist()]))
    return findings


def _apart(values: np.ndarray) -> np.ndarray:
    """How many times larger or smaller than the median each value is, 1 or more."""
    ratio = values / np.median(values)
    return np.maximum(ratio, 1 / ratio)
