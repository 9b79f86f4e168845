"""From the folder of a data set, in whichever format, to its images with clean boxes in splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from visiontl import DataError
from visiontl.kit.words import count, some, told
from visiontl_detection import coco, voc, yolo
from visiontl_detection.boxes import Cleaned, change_notes, cleaned
from visiontl_detection.config import DataConfig
from visiontl_detection.folders import SPLITS, WHOLE, Folders, opened
from visiontl_detection.listing import Annotated, Listing

EXPECTED = {
    "coco": "annotations/instances_train2017.json, annotations/train.json or train/_annotations.coco.json",
    "voc": "Annotations/*.xml with JPEGImages",
    "yolo": "data.yaml with train, val and names",
}


def read(cfg: DataConfig, evaluation: bool = False) -> Cleaned:
    """The splits of a data set, in the order train, val, test; no split is empty.

    evaluation: a trained model is there already, so a source without splits is all test, and no val is split off.
    Raises DataError for what cannot be read as it is meant; what is left out or assumed is in the notes.
    """
    folders = opened(cfg.folder)
    listing = {"coco": coco.read, "voc": voc.read, "yolo": yolo.read}[layout(folders, cfg)](folders, cfg)
    _check_once(listing)
    notes = list(listing.notes)
    parts = _splits(cfg, listing, evaluation, notes)
    made: dict[str, list[Annotated]] = {}
    changes = {}
    for split, images in parts.items():
        made[split], changes[split] = cleaned(images)
        notes += change_notes(split, changes[split])
        bare = sum(not len(image.boxes) for image in made[split])
        if bare:
            notes.append(f"{split}: {count(bare, 'image')} without boxes, used as such")
    return Cleaned(listing.base, made, listing.classes, listing.categories, notes, listing.where, changes)


def layout(folders: Folders, cfg: DataConfig) -> str:
    """The format of a folder: the one that is named, or the only one that it looks like."""
    if cfg.format == "auto" and cfg.train is not None and cfg.train.lower().endswith(".json"):
        return "coco"
    looks = {}
    if cfg.format in ("auto", "voc"):
        looks["voc"] = voc.source(folders) is not None
    if cfg.format in ("auto", "yolo"):
        looks["yolo"] = yolo.source(folders) is not None
    if cfg.format == "coco" or (cfg.format == "auto" and (cfg.train is None or not any(looks.values()))):
        looks["coco"] = bool(coco.sources(folders, cfg))
    found = [name for name, there in looks.items() if there]
    if len(found) > 1:
        raise DataError(
            f"{folders.base}: looks like {' and '.join(sorted(found))}; say which is meant: "
            f"{' or '.join(f'task.data.format={name}' for name in sorted(found))}"
        )
    if not found:
        wanted = "; ".join(f"{name}: {EXPECTED[name]}" for name in EXPECTED if cfg.format in ("auto", name))
        inside = list(folders.entries(""))
        raise DataError(
            f"{folders.base}: no annotations found; expected {wanted}; found {some(inside) if inside else 'nothing'}"
        )
    return found[0]


def _check_once(listing: Listing) -> None:
    """Raises DataError for an image that is listed twice."""
    place: dict[str, str] = {}
    for split, images in listing.parts.items():
        for name, number in Counter(image.name for image in images).items():
            if number > 1:
                raise DataError(f"{listing.where}: {told(name)} is listed {number} times in {split}; once is right")
            if name in place:
                raise DataError(
                    f"{listing.where}: {told(name)} is in {place[name]} and in {split}; an image belongs to one split"
                )
            place[name] = split


def _splits(cfg: DataConfig, listing: Listing, evaluation: bool, notes: list[str]) -> dict[str, Sequence[Annotated]]:
    parts = dict(listing.parts)
    for split, images in parts.items():
        if not images:
            raise DataError(f"{listing.where}: {'' if split == WHOLE else split + ' '}holds no images")
    if WHOLE in parts and evaluation:
        notes.append(f"{listing.where}: no splits given; {count(len(parts[WHOLE]), 'image')}, all test")
        return {"test": parts[WHOLE]}
    if WHOLE in parts:
        parts = {"train": parts[WHOLE]}
    if "train" in parts and "val" not in parts and not evaluation and cfg.val_fraction > 0:
        parts = {**parts, **split_off(parts["train"], cfg.val_fraction, cfg.split_seed)}
        if "val" in parts:
            notes.append(
                f"{listing.where}: no val given; {count(len(parts['val']), 'image')} of train became val with seed "
                f"{cfg.split_seed}, {len(parts['train']):,} are left to train on"
            )
    return {split: parts[split] for split in dict.fromkeys(SPLITS.values()) if split in parts}


def split_off(images: Sequence[Annotated], fraction: float, seed: int) -> Mapping[str, list[Annotated]]:
    """Train and val, a function of the seed and the names alone: ordered by the SHA-256 of "seed:name", the first
    share, at least one, is val. A single image stays in train."""
    ordered = sorted(images, key=lambda image: hashlib.sha256(f"{seed}:{image.name}".encode()).digest())
    take = min(max(1, int(fraction * len(ordered) + 0.5)), len(ordered) - 1)
    split = {"train": ordered[take:], "val": ordered[:take]}
    return {name: sorted(part, key=lambda image: image.name) for name, part in split.items() if part}
