"""From a config to the splits of a data set and the meta that a model is rebuilt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from visiontl import ConfigError, Data, DataError, ImageSpec
from visiontl.kit.classes import match
from visiontl.kit.names import ALIKE, alike_notes
from visiontl.kit.splits import ORDER, WHOLE, in_order
from visiontl.kit.words import count, plural, some
from visiontl_classification.batches import balanced_batches
from visiontl_classification.config import ClassificationConfig
from visiontl_classification.folders import folder_listing
from visiontl_classification.library import library_listing
from visiontl_classification.listing import Images, Item, Listing
from visiontl_classification.names import are_wnids, of_the_head, read_names, readable, wordnet
from visiontl_classification.splits import from_lists, stratified
from visiontl_classification.tables import table_listing
from visiontl_classification.views import sample, training_view


@dataclass(frozen=True)
class Photos:
    """One split. images opens by name; targets: (N,) class indices, or (N, K) 0/1 for multi-label.

    view: (image, seed) -> {"image": (3, H, W) uint8, "size": (H, W) of the photo}.
    """

    images: Images
    names: Sequence[str]
    targets: np.ndarray = field(repr=False)
    view: Callable[[Image.Image, int], dict[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        number, seed = key
        return {**self.view(self.image(number), seed), "label": self.targets[number]}

    def image(self, number: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return self.images.open(self.names[number])


@dataclass(frozen=True)
class Still:
    """The evaluation view of an image; takes a seed and does not use it."""

    sample: Callable[[Image.Image], dict[str, Any]]

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        return self.sample(image)


def data(cfg: ClassificationConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The splits that cfg.data describes.

    meta: {"labels": single | multi, "classes": names in logit order, "ids": their folder names or labels,
    "counts": training images per class}. Given (evaluating elsewhere), its class order holds: the data may
    lack classes, which is noted, and may not have others. A source without splits is then all `test`.
    Raises DataError for sources that cannot be read, and for a class that has no training image.
    """
    listing = _listing(cfg, meta)
    notes = list(listing.notes)
    parts = _splits(cfg, listing, meta, notes)
    listing = listing if cfg.data.lists is None else replace(listing, bare="in no list")
    must_learn = meta is None and cfg.head.kind == "linear"
    if meta is None:
        meta = _new_meta(cfg, listing, parts, notes)
        index = {text: i for i, text in enumerate(meta["ids"])}
        notes += alike_notes("class", meta["ids"], ALIKE, loose=True)
    else:
        index = _known_index(meta, listing)
    _count_classes(parts, index, meta["classes"], must_learn, listing, notes)
    still = Still(sample(cfg, spec, meta))
    splits = {}
    for name, items in parts.items():
        targets = _targets(items, index, len(meta["classes"]), cfg.labels)
        view = training_view(cfg, spec) if name == "train" and cfg.augment != "none" else still
        splits[name] = Photos(listing.images, [item.name for item in items], targets, view)
    if "train" in splits and cfg.augment != "none":
        splits["still"] = replace(splits["train"], view=still)
    if "train" in splits and cfg.sampler == "balanced":
        targets = {name: split.targets for name, split in splits.items() if name != "still"}
        return Data(**splits, meta=meta, notes=notes, batches=partial(balanced_batches, targets))
    return Data(**splits, meta=meta, notes=notes)


def _listing(cfg: ClassificationConfig, meta: Mapping[str, Any] | None) -> Listing:
    source = cfg.data
    if meta is not None and meta["labels"] != cfg.labels:
        raise ConfigError(f"task.labels: the model was trained with labels: {meta['labels']}; got {cfg.labels}")
    if source.folder is not None:
        return folder_listing(source.folder, source.format)
    if source.csv is not None:
        return table_listing(cfg)
    assert source.torchvision is not None
    return library_listing(source.torchvision, source.root, source.download)


def _splits(
    cfg: ClassificationConfig, listing: Listing, meta: Mapping[str, Any] | None, notes: list[str]
) -> dict[str, list[Item]]:
    """Split name -> items, in the order train, val, test; no split is empty."""
    source = cfg.data
    evaluation = meta is not None or cfg.head.kind == "original"  # a model with its classes is already there
    parts = {name: list(items) for name, items in listing.parts.items()}
    if not any(parts.values()):
        raise DataError(f"{listing.where}: no pictures found")
    if source.lists is not None:
        parts, more = from_lists(source.lists, [item for items in parts.values() for item in items], listing.where)
        notes += more
        if "train" not in parts and not evaluation:
            raise DataError(f"task.data.lists: {source.lists} has no train.txt; a model needs images to learn from")
        return parts
    for name, items in parts.items():
        if name != WHOLE and not items:
            raise DataError(f"{listing.where}: {name} holds no pictures; remove it, or put some in")
    if WHOLE in parts:
        if source.split == "none" or (source.split == "auto" and evaluation):
            notes.append(f"{listing.where}: no splits given; {count(len(parts[WHOLE]), 'image')}, all test")
            parts = {"test": parts[WHOLE]}
        else:
            fractions = {"val": source.val_fraction, "test": source.test_fraction}
            parts = stratified(parts[WHOLE], fractions, source.split_seed)
            notes.append(
                f"{listing.where}: no splits given; split by class with seed {source.split_seed} into "
                + ", ".join(f"{len(items)} {name}" for name, items in parts.items())
            )
    elif "val" not in parts and not evaluation and "train" in parts:
        if source.val_from == "test" and "test" in parts:
            parts["val"] = parts.pop("test")
            notes.append(f"{listing.where}: no val given; test serves as val, so the best score is chosen on it")
        elif source.val_fraction > 0:
            fractions = {"val": source.val_fraction}
            if "test" not in parts:
                fractions["test"] = source.test_fraction
            carved = stratified(parts["train"], fractions, source.split_seed)
            parts = {**parts, **carved}
            names = " and ".join(f"{len(items)} {name}" for name, items in carved.items() if name != "train")
            notes.append(
                f"{listing.where}: {names} split off train by class with seed {source.split_seed}; "
                f"{len(parts['train'])} left to train on"
            )
    if "train" not in parts and not evaluation:
        have = some(name for name in ORDER if name in parts)
        raise DataError(
            f"{listing.where}: has {have} and no train; a model needs images to learn from (a network "
            "with its own "
            "classes is measured with head: original)"
        )
    return {name: list(items) for name, items in in_order(parts).items()}


def _new_meta(
    cfg: ClassificationConfig, listing: Listing, parts: Mapping[str, Sequence[Item]], notes: list[str]
) -> dict[str, Any]:
    ids = list(listing.classes)
    words: dict[str, str] = {}
    if cfg.data.class_names is not None:
        words = read_names(cfg.data.class_names)
        found = match(list(words), ids)
        if found.surplus:
            raise DataError(
                f"task.data.class_names: {cfg.data.class_names}: no line for {count(len(found.surplus), 'class')}: "
                f"{some(found.surplus)}{found.hint()}"
            )
        if cfg.head.kind == "original":
            ids = list(words)
    elif cfg.head.kind == "original" and cfg.data.torchvision is not None and not are_wnids(ids):
        notes.append(f"{listing.where}: its {count(len(ids), 'class')} are taken for those of the original head")
    elif cfg.head.kind == "original":
        ids, words, said = of_the_head(ids, listing.where)
        notes += said
    elif are_wnids(ids):
        words = wordnet(ids)
        unnamed = [text for text in ids if text not in words]
        if unnamed:
            notes.append(f"{listing.where}: no readable name known for {some(unnamed)}")
    if len(ids) < 2 and cfg.labels == "single":
        raise DataError(f"{listing.where}: has {count(len(ids), 'class')} ({some(ids)}); classification needs two")
    if not ids:
        raise DataError(f"{listing.where}: no image has a label")
    frequency = Counter(label for item in parts.get("train", ()) for label in item.classes)
    meta = {
        "labels": cfg.labels,
        "classes": readable(ids, words) if words else ids,
        "ids": ids,
        "counts": [frequency[text] for text in ids],
        "images": len(parts.get("train", ())),
    }
    weights = cfg.class_weights
    if isinstance(weights, list) and len(weights) != len(ids):
        raise ConfigError(
            f"task.class_weights: {count(len(weights), 'number')} for {count(len(ids), 'class')}; expected one each, "
            f"in the order {some(meta['classes'], 10)}"
        )
    return meta


def _known_index(meta: Mapping[str, Any], listing: Listing) -> dict[str, int]:
    """id in the data -> class index of the model; ids match its ids first, then its names."""
    used = {label for items in listing.parts.values() for item in items for label in item.classes}
    found = match(meta["ids"], [text for text in listing.classes if text in used], also=meta["classes"])
    index = found.index
    if found.surplus:
        raise DataError(f"{listing.where}: {found.unknown()}")
    twice = [text for text, i in Counter(index.values()).items() if i > 1]
    if twice:
        both = [text for text, i in index.items() if i == twice[0]]
        raise DataError(f"{listing.where}: {' and '.join(both)} are the same class of the model; merge them")
    return index


def _count_classes(
    parts: Mapping[str, Sequence[Item]],
    index: Mapping[str, int],
    names: Sequence[str],
    must_learn: bool,
    listing: Listing,
    notes: list[str],
) -> None:
    """Refuses a class that cannot be learned; notes classes absent from a split, or with one image."""
    counts = {part: Counter(index[label] for item in items for label in item.classes) for part, items in parts.items()}
    for part, tally in counts.items():
        absent = [i for i in range(len(names)) if not tally[i]]
        if not absent:
            continue
        missing = f"of {count(len(absent), 'class')}: {some(names[i] for i in absent)}"
        if part == "train" and must_learn:
            told_of = [f"{names[i]} ({_where_else(counts, i, listing)})" for i in absent]
            what = f"{listing.where}: no training image of {count(len(absent), 'class')}: {some(told_of)}"
            raise DataError(f"{what}; put some in train, or take the {plural(len(absent), 'class')} out")
        notes.append(f"{part}: no image {missing}")
    single = [names[i] for i, number in sorted(counts.get("train", {}).items()) if number == 1]
    if single:
        notes.append(f"train: one image only of {count(len(single), 'class')}: {some(single)}")


def _where_else(counts: Mapping[str, Counter[int]], label: int, listing: Listing) -> str:
    holders = [split for split, tally in counts.items() if tally[label]]
    return f"only in {' and '.join(holders)}" if holders else listing.bare


def _targets(items: Sequence[Item], index: Mapping[str, int], classes: int, labels: str) -> np.ndarray:
    """(N,) int64 for single-label, (N, K) uint8 for multi-label."""
    if labels == "single":
        return np.array([index[item.classes[0]] for item in items], dtype=np.int64)
    targets = np.zeros((len(items), classes), dtype=np.uint8)
    for row, item in enumerate(items):
        targets[row, [index[label] for label in item.classes]] = 1
    return targets


def probe(cfg: ClassificationConfig, sample: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """A class, or 0/1 for each, of the whole image."""
    return {"labels": sample["label"]}
