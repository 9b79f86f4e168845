"""From the folder of a data set, in whichever layout, to pairs of photos and masks in splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visiontl import DataError
from visiontl.kit.folders import Folders, by_stem, join, near, opened, passed_over, read_lines, relative
from visiontl.kit.images import is_image
from visiontl.kit.splits import ORDER, WHOLE, check_once, settled, spellings, split_files, split_names
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_segmentation import coco
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.listing import Listing, MaskFile, Pair

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
    folders = opened(cfg.folder)
    listing = {"folders": read_folders, "voc": read_voc, "coco": coco.read}[layout(folders, cfg)](folders, cfg)
    parts, notes = settled(
        listing.parts, lambda pair: pair.name, cfg.val_fraction, cfg.split_seed, evaluation, listing.where
    )
    check_once(listing.where, {split: [pair.name for pair in pairs] for split, pairs in listing.parts.items()})
    masks = {split: [pair.mask for pair in pairs] for split, pairs in listing.parts.items()}
    files = {split: [mask.name for mask in part if isinstance(mask, MaskFile)] for split, part in masks.items()}
    check_once(listing.where, files, "a mask")
    return Listing(folders.base, parts, listing.names, [*listing.notes, *notes], listing.where, listing.ids)


def layout(folders: Folders, cfg: DataConfig) -> str:
    """The layout of a folder: the one that is named, or the only one that it looks like."""
    if cfg.format != "auto":
        return cfg.format
    if cfg.images is not None:
        return "folders"
    looks = {
        "voc": voc_root(folders) is not None,
        "coco": bool(coco.annotation_files(folders)),
    }
    looks["folders"] = not looks["voc"] and bool(places(folders, cfg))
    found = [name for name, there in looks.items() if there]
    if len(found) > 1:
        raise DataError(
            f"{folders.base}: looks like {' and '.join(sorted(found))}; say which is meant: "
            f"{' or '.join(f'task.data.format={name}' for name in sorted(found))}"
        )
    if not found:
        wanted = "; ".join(f"{name}: {words}" for name, words in EXPECTED.items())
        inside = folders.folders() + folders.files("")
        raise DataError(
            f"{folders.base}: no images with masks found; expected {wanted}; found "
            f"{some(inside) if inside else 'nothing'}"
        )
    return found[0]


def places(folders: Folders, cfg: DataConfig) -> dict[str, tuple[str, str]]:
    """{split or WHOLE: (folder of images, folder of masks)}, relative to the base."""
    if cfg.images is not None and cfg.masks is not None:
        return named_places(folders, cfg.images, cfg.masks)
    found: dict[str, tuple[str, str]] = {}
    top = folders.folders()
    image_roots = matching(top, IMAGE_FOLDERS)
    mask_roots = [name for name in matching(top, MASK_FOLDERS) if folders.pictures(name).pictures]
    if len(image_roots) == 1 and len(mask_roots) == 1:  # images/train, masks/train, or images and masks alone
        images, masks = image_roots[0], mask_roots[0]
        of_images = split_names(folders.path(images), folders.folders(images))
        of_masks = split_names(folders.path(masks), folders.folders(masks))
        for split in of_images.keys() & of_masks.keys():
            found[split] = (f"{images}/{of_images[split]}", f"{masks}/{of_masks[split]}")
        return found or {WHOLE: (images, masks)}
    for split, name in split_names(folders.base, top).items():  # train/images, train/masks; or SegNet's trainannot
        inner = folders.folders(name)
        images, masks = matching(inner, IMAGE_FOLDERS), matching(inner, MASK_FOLDERS)
        beside = [other for other in top if other.lower() in (f"{name.lower()}annot", f"{name.lower()}_labels")]
        if len(images) == 1 and len(masks) == 1:
            found[split] = (f"{name}/{images[0]}", f"{name}/{masks[0]}")
        elif len(beside) == 1:
            found[split] = (name, beside[0])
    return found


def matching(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [name for name in names if name.lower() in wanted]


def named_places(folders: Folders, images: str, masks: str) -> dict[str, tuple[str, str]]:
    """What task.data.images and task.data.masks name; {split} in them stands for the splits that are there."""
    try:
        images, masks = folders.within(images), folders.within(masks)
    except ValueError as error:
        raise DataError(f"task.data.images, task.data.masks: {error}") from None
    if ("{split}" in images) != ("{split}" in masks):
        raise DataError("task.data.images and task.data.masks: {split} stands in one of them only; in both, or in none")
    wanted = dict.fromkeys(ORDER, (images, masks)) if "{split}" in images else {}
    found = {}
    for split, (image, mask) in wanted.items():
        place = spelled(folders, image, split), spelled(folders, mask, split)
        there = [folders.is_folder(one) for one in place]
        if all(there):
            found[split] = place
        elif any(there):
            missing = place[there.index(False)]
            raise DataError(f"{folders.path(missing)}: no such folder, but {place[there.index(True)]} is there")
    if wanted and not found:
        raise DataError(f"{folders.base}: no split has both {images} and {masks}; looked for train, val and test")
    if not wanted:
        for one in (images, masks):
            if not folders.is_folder(one):
                raise DataError(f"{folders.path(one)}: no such folder{near(folders.path(one))}")
        found = {WHOLE: (images, masks)}
    return found


def spelled(folders: Folders, place: str, split: str) -> str:
    """A folder with {split} in its name, in the first spelling of the split that is there."""
    there = (place.replace("{split}", one) for one in spellings(split))
    return next(filter(folders.is_folder, there), place.replace("{split}", split))


def read_folders(folders: Folders, cfg: DataConfig) -> Listing:
    """Photos and masks in folders of their own, paired by path and stem."""
    found = places(folders, cfg)
    if not found:
        raise DataError(f"{folders.base}: no folders of images and masks found; expected {EXPECTED['folders']}")
    notes: list[str] = []
    problems: list[str] = []
    parts = {
        split: paired(folders, split, found[split], cfg, notes, problems) for split in (*ORDER, WHOLE) if split in found
    }
    if problems:
        raise refusal(folders.base, problems)
    return Listing(folders.base, parts, None, notes, folders.base)


def paired(
    folders: Folders, split: str, place: tuple[str, str], cfg: DataConfig, notes: list[str], problems: list[str]
) -> list[Pair]:
    """The pairs of one split; what has no counterpart is a problem, or a note where the config skips it."""
    (images, over), (masks, more) = (
        stems(folders, folder, suffix)
        for folder, suffix in zip(place, (cfg.image_suffix, cfg.mask_suffix), strict=True)
    )
    over += more
    for kind, found in (("image", images), ("mask", masks)):
        for names in found.values():
            if len(names) > 1:
                problems.append(f"one stem, {len(names)} {kind}s: {some(names)}; keep one of them")
    said = "" if split == WHOLE else f"{split}: "
    complete = True
    endings = ending_hint(images, masks)
    for kind, mine, theirs in (("image", images, masks), ("mask", masks, images)):
        alone = [names[0] for stem, names in mine.items() if stem not in theirs]
        if not alone:
            continue
        other, folder = ("mask", place[1]) if kind == "image" else ("image", place[0])
        words = f"{said}{count(len(alone), kind)} without {other} in {folder}: {some(alone)}"
        if cfg.unpaired == "skip":
            notes.append(f"{words}; left out{endings}")
        else:
            complete = False
            hint = "" if endings or not theirs else did_you_mean(next(s for s in mine if s not in theirs), theirs)
            hint = endings if kind == "mask" else hint
            problems.append(f"{words}{hint}; task.data.unpaired=skip leaves them out")
    (notes if complete else problems).extend(over)
    return [Pair(images[stem][0], MaskFile(masks[stem][0])) for stem in sorted(images.keys() & masks.keys())]


def ending_hint(images: Mapping[str, Any], masks: Mapping[str, Any]) -> str:
    """Which endings would pair stems that do not fit, or that there are several masks for each photo; else ''."""
    lonely = [[stem for stem in mine if stem not in theirs] for mine, theirs in ((images, masks), (masks, images))]
    if not all(lonely):
        return ""
    # what follows a photo's stem in masks, by ending; the longest photo's stem that fits
    endings: dict[str, set[str]] = {}
    for stem in lonely[1]:
        cut = next((stem[:end] for end in range(len(stem) - 1, 0, -1) if stem[:end] in images), None)
        if cut is not None:
            endings.setdefault(stem[len(cut) :], set()).add(cut)
    most = {ending: len(stems) for ending, stems in endings.items() if len(stems) * 2 > len(lonely[0])}
    if len(most) > 1:
        names = some(most)
        best = next(iter(most))
        return (
            f"; each photo has several masks, with the endings {names}: if each is of one class, draw them into one "
            f"mask of class indices for each photo; if one of them is the mask, task.data.mask_suffix={best}"
        )
    if most:
        return f"; masks end in what photos do not: task.data.mask_suffix={next(iter(most))}"
    return both_endings(*lonely)


def both_endings(photos: Sequence[str], masks: Sequence[str]) -> str:
    """The same where photos end in something too: b_sat and b_mask."""
    ends = [common_ending(stems) for stems in (photos, masks)]
    for a in range(len(ends[0]) + 1):
        for b in range(len(ends[1]) + 1):
            left = {one[: len(one) - len(ends[0]) + a] for one in photos}
            if a < len(ends[0]) and left and left == {one[: len(one) - len(ends[1]) + b] for one in masks}:
                suffix = f" and task.data.mask_suffix={ends[1][b:]}" if ends[1][b:] else ""
                return f"; photos end in what masks do not: task.data.image_suffix={ends[0][a:]}{suffix}"
    return ""


def common_ending(stems: Sequence[str]) -> str:
    low, high = min(stem[::-1] for stem in stems), max(stem[::-1] for stem in stems)
    length = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return low[:length][::-1]


def stems(folders: Folders, folder: str, suffix: str = "") -> tuple[dict[str, list[str]], list[str]]:
    """({path below the folder without suffix and extension: names of pictures}, what was passed over in a note)."""
    found = folders.pictures(folder)
    return by_stem(found.pictures, folder, suffix), passed_over(folders.path(folder), found.passed)


def voc_root(folders: Folders) -> str | None:
    """The folder, relative to the base, that has JPEGImages and SegmentationClass: itself, or one below it."""
    roots = ["", *folders.folders(), *(f"VOCdevkit/{name}" for name in folders.folders("VOCdevkit"))]
    for root in roots:
        if {"SegmentationClass", "JPEGImages"} <= set(folders.folders(root)):
            return root
    return None


def read_voc(folders: Folders, cfg: DataConfig) -> Listing:
    """Pascal VOC: lists of names in ImageSets/Segmentation, or everything that has a mask."""
    root = voc_root(folders)
    if root is None:
        raise DataError(f"{folders.base}: no Pascal VOC layout; expected {EXPECTED['voc']}")
    where = str(folders.path(root))
    images, notes = stems(folders, join(root, "JPEGImages"))
    masks, more = stems(folders, join(root, "SegmentationClass"), cfg.mask_suffix)
    notes += more
    lists = voc_lists(folders, join(root, "ImageSets/Segmentation"))
    if not lists:
        found = [Pair(images[stem][0], MaskFile(masks[stem][0])) for stem in sorted(images.keys() & masks.keys())]
        left = len(masks) - len(found)
        notes.append(f"{where}: no ImageSets/Segmentation; all {count(len(found), 'image')} with a mask are taken")
        if left:
            notes.append(f"{where}: {count(left, 'mask')} without image left out")
        return Listing(folders.base, {WHOLE: found}, None, notes, where)
    problems: list[str] = []
    parts = {split: list(listed(file, names, images, masks, problems)) for split, (file, names) in lists.items()}
    if problems:
        raise refusal(where, problems + notes)
    return Listing(folders.base, parts, None, notes, where)


def voc_lists(folders: Folders, place: str) -> dict[str, tuple[Path, list[str]]]:
    """{split: (its file, the names in it)}. trainval is used only where neither train nor val is there."""
    there = split_files(folders.path(place), folders.files(place, ".txt"), ".txt")
    chosen = {split: f"{place}/{name}" for split, name in there.items()}
    if "train" not in chosen and "val" not in chosen and folders.has(f"{place}/trainval.txt"):
        chosen["train"] = f"{place}/trainval.txt"
    return {
        split: (folders.path(name), [line.strip() for _, line in read_lines(folders.path(name))])
        for split, name in chosen.items()
    }


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
        stem = unicodedata.normalize("NFC", str(Path(name).with_suffix("")) if is_image(Path(name)) else name)
        missing = [kind for kind, found in (("image", images), ("mask", masks)) if stem not in found]
        if missing:
            hint = did_you_mean(stem, images)
            problems.append(f"{file.name}: {told(name)} has no {' and no '.join(missing)}{hint}")
        else:
            yield Pair(images[stem][0], MaskFile(masks[stem][0]))
