"""From the folder of a data set, in whichever layout, to pairs of photos and masks in splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from visiontl import DataError
from visiontl.kit.images import is_image
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_segmentation import coco
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.folders import (
    SPLITS,
    files,
    holds_pictures,
    opened,
    pictures,
    read_lines,
    relative,
    subfolders,
)
from visiontl_segmentation.listing import WHOLE, Listing, MaskFile, Pair

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "photos", "jpegimages", "leftimg8bit")
MASK_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "segmentationclass", "gtfine",
)  # fmt: skip
EXPECTED = {
    "folders": "images/ and masks/ with the same stems, perhaps with train, val and test inside or around them",
    "voc": "JPEGImages, SegmentationClass and ImageSets/Segmentation/train.txt",
    "coco": "annotations/train.json or instances_train2017.json with images",
}


def read(cfg: DataConfig, evaluation: bool = False) -> Listing:
    """The splits of a data set, in the order train, val, test; no split is empty.

    evaluation: a trained model is there already, so a source without splits is all test, and no val is split off.
    Raises DataError for what cannot be read as it is meant; what is left out or assumed is in the notes.
    """
    base = opened(cfg.folder)
    listing = {"folders": read_folders, "voc": read_voc, "coco": coco.read}[layout(base, cfg)](base, cfg)
    for split, pairs in listing.parts.items():
        if not pairs:
            raise DataError(f"{listing.where}: {'' if split == WHOLE else split + ' '}holds no images")
    check_once(listing)
    notes = list(listing.notes)
    return Listing(base, splits_of(cfg, listing, evaluation, notes), listing.names, notes, listing.where)


def layout(base: str, cfg: DataConfig) -> str:
    """The layout of a folder: the one that is named, or the only one that it looks like."""
    if cfg.format != "auto":
        return cfg.format
    if cfg.images is not None:
        return "folders"
    looks = {
        "voc": voc_root(base) is not None,
        "coco": bool(coco.annotation_files(base)),
    }
    looks["folders"] = not looks["voc"] and bool(places(base, cfg))
    found = [name for name, there in looks.items() if there]
    if len(found) > 1:
        raise DataError(
            f"{base}: looks like {' and '.join(sorted(found))}; say which is meant: "
            f"{' or '.join(f'task.data.format={name}' for name in sorted(found))}"
        )
    if not found:
        wanted = "; ".join(f"{name}: {words}" for name, words in EXPECTED.items())
        inside = subfolders(base) + files(base, "")
        raise DataError(
            f"{base}: no images with masks found; expected {wanted}; found {some(inside) if inside else 'nothing'}"
        )
    return found[0]


def places(base: str, cfg: DataConfig) -> dict[str, tuple[str, str]]:
    """{split or WHOLE: (folder of images, folder of masks)}, relative to the base."""
    if cfg.images is not None and cfg.masks is not None:
        return named_places(base, cfg.images, cfg.masks)
    found: dict[str, tuple[str, str]] = {}
    top = subfolders(base)
    image_roots = matching(top, IMAGE_FOLDERS)
    mask_roots = [name for name in matching(top, MASK_FOLDERS) if holds_pictures(base, name)]
    if len(image_roots) == 1 and len(mask_roots) == 1:  # images/train, masks/train, or images and masks alone
        images, masks = image_roots[0], mask_roots[0]
        by_split = {name.lower(): name for name in subfolders(base, masks)}
        for name in subfolders(base, images):
            if name.lower() in SPLITS and name.lower() in by_split:
                found[SPLITS[name.lower()]] = (f"{images}/{name}", f"{masks}/{by_split[name.lower()]}")
        return found or {WHOLE: (images, masks)}
    for name in top:  # train/images, train/masks; or SegNet's train and trainannot
        if name.lower() not in SPLITS:
            continue
        inner = subfolders(base, name)
        images, masks = matching(inner, IMAGE_FOLDERS), matching(inner, MASK_FOLDERS)
        beside = [other for other in top if other.lower() in (f"{name.lower()}annot", f"{name.lower()}_labels")]
        if len(images) == 1 and len(masks) == 1:
            found[SPLITS[name.lower()]] = (f"{name}/{images[0]}", f"{name}/{masks[0]}")
        elif len(beside) == 1:
            found[SPLITS[name.lower()]] = (name, beside[0])
    return found


def matching(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower() in wanted]


def named_places(base: str, images: str, masks: str) -> dict[str, tuple[str, str]]:
    """What task.data.images and task.data.masks name; {split} in them stands for the splits that are there."""
    try:
        images, masks = relative(images), relative(masks)
    except ValueError as error:
        raise DataError(f"task.data.images, task.data.masks: {error}") from None
    if ("{split}" in images) != ("{split}" in masks):
        raise DataError("task.data.images and task.data.masks: {split} stands in one of them only; in both, or in none")
    wanted = dict.fromkeys(("train", "val", "test"), (images, masks)) if "{split}" in images else {}
    found = {}
    for split, (image, mask) in wanted.items():
        place = image.replace("{split}", split), mask.replace("{split}", split)
        there = [Path(base, one).is_dir() for one in place]
        if all(there):
            found[split] = place
        elif any(there):
            missing = place[there.index(False)]
            raise DataError(f"{Path(base, missing)}: no such folder, but {place[there.index(True)]} is there")
    if wanted and not found:
        raise DataError(f"{base}: no split has both {images} and {masks}; looked for train, val and test")
    if not wanted:
        for one in (images, masks):
            if not Path(base, one).is_dir():
                near = subfolders(base, str(Path(one).parent))
                raise DataError(f"{Path(base, one)}: no such folder{did_you_mean(Path(one).name, near)}")
        found = {WHOLE: (images, masks)}
    return found


def read_folders(base: str, cfg: DataConfig) -> Listing:
    """Photos and masks in folders of their own, paired by path and stem."""
    found = places(base, cfg)
    if not found:
        raise DataError(f"{base}: no folders of images and masks found; expected {EXPECTED['folders']}")
    notes: list[str] = []
    problems: list[str] = []
    parts = {
        split: paired(base, split, *found[split], cfg, notes, problems)
        for split in sorted(found, key=lambda name: [*dict.fromkeys(SPLITS.values()), WHOLE].index(name))
    }
    if problems:
        raise refusal(base, problems)
    return Listing(base, parts, None, notes, base)


def paired(
    base: str, split: str, image_folder: str, mask_folder: str, cfg: DataConfig, notes: list[str], problems: list[str]
) -> list[Pair]:
    """The pairs of one split; what has no counterpart is a problem, or a note where the config skips it."""
    images = pictures(base, image_folder, cfg.image_suffix)
    masks = pictures(base, mask_folder, cfg.mask_suffix)
    for kind, found in (("image", images), ("mask", masks)):
        for names in found.values():
            if len(names) > 1:
                problems.append(f"one stem, {len(names)} {kind}s: {some(names)}; keep one of them")
    said = "" if split == WHOLE else f"{split}: "
    for kind, mine, theirs in (("image", images, masks), ("mask", masks, images)):
        alone = [names[0] for stem, names in mine.items() if stem not in theirs]
        if not alone:
            continue
        other, folder = ("mask", mask_folder) if kind == "image" else ("image", image_folder)
        words = f"{said}{count(len(alone), kind)} without {other} in {folder}: {some(alone)}"
        if cfg.unpaired == "skip":
            notes.append(f"{words}; left out")
        else:
            near = did_you_mean(next(s for s in mine if s not in theirs), theirs) if theirs else ""
            problems.append(f"{words}{near}; task.data.unpaired=skip leaves them out")
    return [Pair(images[stem][0], MaskFile(masks[stem][0])) for stem in sorted(images.keys() & masks.keys())]


def voc_root(base: str) -> str | None:
    """The folder, relative to the base, that has JPEGImages and SegmentationClass: itself, or one below it."""
    roots = ["", *(name for name in subfolders(base))]
    roots += [f"VOCdevkit/{name}" for name in subfolders(base, "VOCdevkit")]
    for root in roots:
        inside = subfolders(base, root)
        if "SegmentationClass" in inside and "JPEGImages" in inside:
            return root
    return None


def read_voc(base: str, cfg: DataConfig) -> Listing:
    """Pascal VOC: lists of names in ImageSets/Segmentation, or everything that has a mask."""
    root = voc_root(base)
    if root is None:
        raise DataError(f"{base}: no Pascal VOC layout; expected {EXPECTED['voc']}")
    where = str(Path(base, root))
    images = pictures(base, f"{root}/JPEGImages" if root else "JPEGImages")
    masks = pictures(base, f"{root}/SegmentationClass" if root else "SegmentationClass", cfg.mask_suffix)
    lists = voc_lists(Path(where, "ImageSets/Segmentation"))
    if not lists:
        found = [Pair(images[stem][0], MaskFile(masks[stem][0])) for stem in sorted(images.keys() & masks.keys())]
        left = len(masks) - len(found)
        notes = [f"{where}: no ImageSets/Segmentation; all {count(len(found), 'image')} with a mask are taken"]
        if left:
            notes.append(f"{where}: {count(left, 'mask')} without image left out")
        return Listing(base, {WHOLE: found}, None, notes, where)
    problems: list[str] = []
    parts = {}
    for split, (file, names) in lists.items():
        parts[split] = list(listed(file, names, images, masks, problems))
    if problems:
        raise refusal(where, problems)
    return Listing(base, parts, None, [], where)


def voc_lists(folder: Path) -> dict[str, tuple[Path, list[str]]]:
    """{split: (its file, the names in it)}. trainval is used only where neither train nor val is there."""
    found = {}
    for split in ("train", "val", "test"):
        path = folder / f"{split}.txt"
        if path.exists():
            found[split] = (path, read_lines(path))
    whole = folder / "trainval.txt"
    if whole.exists() and not found.keys() & {"train", "val"}:
        found["train"] = (whole, read_lines(whole))
    return found


def listed(
    file: Path,
    names: Sequence[str],
    images: Mapping[str, Sequence[str]],
    masks: Mapping[str, Sequence[str]],
    problems: list[str],
) -> Iterator[Pair]:
    for line in names:
        try:
            name = relative(line.split()[0])
        except ValueError as error:
            problems.append(f"{file}: {error}")
            continue
        stem = str(Path(name).with_suffix("")) if is_image(Path(name)) else name
        missing = [kind for kind, found in (("image", images), ("mask", masks)) if stem not in found]
        if missing:
            near = did_you_mean(stem, images)
            problems.append(f"{file.name}: {told(name)} has no {' and no '.join(missing)}{near}")
        else:
            yield Pair(images[stem][0], MaskFile(masks[stem][0]))


def check_once(listing: Listing) -> None:
    """Raises DataError for an image that is listed twice, and for a mask that is."""
    for what, of in (("image", lambda pair: pair.name), ("mask", lambda pair: getattr(pair.mask, "name", None))):
        place: dict[str, str] = {}
        for split, pairs in listing.parts.items():
            for pair in pairs:
                name = of(pair)
                if name is None:
                    continue
                if name in place:
                    where = f"twice in {split}" if place[name] == split else f"in {place[name]} and in {split}"
                    raise DataError(f"{listing.where}: the {what} {told(name)} is listed {where}; once is right")
                place[name] = split


def splits_of(cfg: DataConfig, listing: Listing, evaluation: bool, notes: list[str]) -> dict[str, Sequence[Pair]]:
    parts = dict(listing.parts)
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
    return {split: parts[split] for split in ("train", "val", "test") if split in parts}


def split_off(pairs: Sequence[Pair], fraction: float, seed: int) -> Mapping[str, list[Pair]]:
    """Train and val, a function of the seed and the names alone: ordered by the SHA-256 of "seed:name", the first
    share, at least one, is val. A single image stays in train."""
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.name}".encode()).digest())
    take = min(max(1, int(fraction * len(ordered) + 0.5)), len(ordered) - 1)
    split = {"train": ordered[take:], "val": ordered[:take]}
    return {name: sorted(part, key=lambda pair: pair.name) for name, part in split.items() if part}
