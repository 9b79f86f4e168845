"""What `visiontl doctor` should say of masks: which classes have how many pixels, and what is absent or ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visiontl import Data, Finding, Seen, Table
from visiontl.kit.names import ALIKE, alike_findings
from visiontl.kit.words import count
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.data import Photos
from visiontl_segmentation.listing import MaskFile
from visiontl_segmentation.masks import colors_in_words

RARE = 0.001  # share of the training pixels from which on a class is told to be rare
WORDS = {
    "index": "index values", "color": "color values", "binary": "binary values", "levels": "a value for each class",
}  # fmt: skip
MOSTLY_IGNORED = 0.5  # share of an image's pixels from which on it is told


def check(cfg: SegmentationConfig, data: Data, meta: Mapping[str, Any], seen: Seen) -> list[Finding | Table]:
    """Tables of classes and values, and what follows from them. Images that cannot be read are left out."""
    names: Sequence[str] = meta["classes"]
    splits: Any = data.splits()  # of Photos
    tallies = {split: counted(photos, seen.sizes[split]) for split, photos in splits.items()}
    items: list[Finding | Table] = [shares_table(tallies, names), values_table(cfg, splits, meta)]
    items += alike_findings("class", names, ALIKE, loose=True)
    for split, (ids, tally) in tallies.items():
        items += absent(split, tally, names)
        items += ignored(split, splits[split], ids, tally)
    if "train" in tallies:
        items += rare(tallies["train"][1], names, cfg)
    items += small_photos(splits, seen)
    return items + contradictions(splits, seen)


def counted(photos: Photos, sizes: Sequence[tuple[int, int] | None]) -> tuple[np.ndarray, np.ndarray]:
    """(ids, (N, K + 1) pixels) of the images that can be read and whose masks were counted."""
    ids = [i for i, size in enumerate(sizes) if size is not None and photos.tally[i, 0] >= 0]
    return np.array(ids, dtype=np.int64), photos.tally[ids]


def shares_table(tallies: Mapping[str, tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> Table:
    columns, cells = ["class"], []
    for split, (_, tally) in tallies.items():
        columns += [f"{split}: pixels", f"{split}: images"]
        total = max(1, int(tally.sum()))
        cells.append(
            [[f"{tally[:, k].sum() / total:.3%}", int((tally[:, k] > 0).sum())] for k in range(len(names) + 1)]
        )
    first = next(iter(tallies.values()))[1] if tallies else np.zeros((0, len(names) + 1))
    order = [*np.argsort(-first[:, : len(names)].sum(0), kind="stable").tolist(), len(names)]
    rows = [
        [names[k] if k < len(names) else "(ignored)", *(part for split in cells for part in split[k])] for k in order
    ]
    return Table("pixels per class", columns, rows, "share of all pixels of the split, and images that hold the class")


def values_table(cfg: SegmentationConfig, splits: Mapping[str, Photos], meta: Mapping[str, Any]) -> Table:
    """What is in the masks, and what it is taken for."""
    reader = next(iter(splits.values())).reader
    names = [*meta["classes"]]
    meaning = reader.meaning
    if meaning is None:
        kind = "regions of COCO annotations"
        return Table("mask values", ["masks", "taken for"], [[kind, ", ".join(names)]])
    if meaning.channel == "color":
        rows = [
            [colors_in_words([code]), named(index, names)]
            for code, index in zip(meaning.colors.tolist(), meaning.indices.tolist(), strict=True)
        ]
    else:
        rows = [[str(value), named(int(meaning.table[value]), names)] for value in meaning.exact.tolist()]
    nearest = "; others count as the nearest" if meaning.near else ""
    return Table("mask values", ["value", "taken for"], rows, f"masks hold {WORDS[meaning.kind]}{nearest}")


def named(index: int, names: Sequence[str]) -> str:
    return names[index] if index < len(names) else "(ignored)"


def absent(split: str, tally: np.ndarray, names: Sequence[str]) -> list[Finding]:
    missing = [name for name, pixels in zip(names, tally[:, :-1].sum(0).tolist(), strict=True) if not pixels]
    if not missing or not len(tally):
        return []
    what = f"{split}: no pixel of {count(len(missing), 'class')}"
    if split == "train":
        return [Finding("warning", what, "they cannot be learned, and each counts as 0 where it is in val", missing)]
    return [Finding("warning", what, f"{split} says nothing about how well they are found", missing)]


def ignored(split: str, photos: Photos, ids: np.ndarray, tally: np.ndarray) -> list[Finding]:
    total = np.maximum(tally.sum(1), 1)
    share = tally[:, -1] / total  # (N,)
    empty = [str(photos.names[i]) for i in ids[share == 1].tolist()]
    mostly = [str(photos.names[i]) for i in ids[(share > MOSTLY_IGNORED) & (share < 1)].tolist()]
    found = []
    if empty:
        what = f"{split}: {count(len(empty), 'mask')} with nothing but ignored pixels"
        found.append(Finding("warning", what, "nothing is learned from them or scored on them", empty))
    if mostly:
        what = f"{split}: {count(len(mostly), 'mask')} with more ignored pixels than others"
        found.append(Finding("note", what, "", mostly))
    return found


def rare(tally: np.ndarray, names: Sequence[str], cfg: SegmentationConfig) -> list[Finding]:
    pixels = tally[:, :-1].sum(0)
    total = max(1, int(pixels.sum()))
    few = [f"{name} ({p / total:.3%})" for name, p in zip(names, pixels.tolist(), strict=True) if 0 < p / total < RARE]
    if not few:
        return []
    what = f"train: {count(len(few), 'class')} with less than {RARE:.1%} of the pixels"
    advice = "" if cfg.loss.class_weights or len(cfg.loss.parts()) > 1 else (
        "mIoU weighs classes alike: task.loss={cross_entropy: 1, dice: 1} or class_weights help the rare ones"
    )  # fmt: skip
    return [Finding("note", what, advice, few)]


def small_photos(splits: Mapping[str, Photos], seen: Seen) -> list[Finding]:
    """Photos that are much smaller than what the network is shown: they are enlarged, or mostly padding."""
    found = []
    for split, photos in splits.items():
        frame = photos.view.frame
        height, width = frame.spec.size
        names = [
            photos.names[i]
            for i, size in enumerate(seen.sizes[split])
            if size is not None and size[0] * 2 < height and size[1] * 2 < width
        ]
        if names:
            what = f"{split}: {count(len(names), 'photo')} less than half as high and wide as backbone.image_size"
            found.append(Finding("note", what, "they are enlarged, which shows nothing new, or padded", names))
    return found


def contradictions(splits: Mapping[str, Photos], seen: Seen) -> list[Finding]:
    """The same picture with masks of other shares: pixels are not compared again, their counts are."""
    found = []
    for group in seen.duplicates:
        tallies = [splits[split].tally[id] for split, id in group if splits[split].tally[id, 0] >= 0]
        if any(not np.array_equal(tally, tallies[0]) for tally in tallies):
            found.append(", ".join(mask_name(splits[split], id) for split, id in group))
    if not found:
        return []
    what = f"{count(len(found), 'picture')} with different masks on equal pixels"
    return [Finding("warning", what, "the model cannot be right about both", found)]


def mask_name(photos: Photos, id: int) -> str:
    mask = photos.pairs[id].mask
    return mask.name if isinstance(mask, MaskFile) else photos.names[id]
