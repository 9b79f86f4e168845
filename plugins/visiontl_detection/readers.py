"""From the folder of a data set, in whichever format, to its images with clean boxes in splits."""

from __future__ import annotations

from visiontl import DataError
from visiontl.kit.folders import Folders, join, opened
from visiontl.kit.splits import check_once, settled
from visiontl.kit.words import count, some, told
from visiontl_detection import coco, voc, yolo, yolo_settings
from visiontl_detection.boxes import Cleaned, change_notes, cleaned
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated
from visiontl_detection.turned import suspects

EXPECTED = {
    "coco": "annotations/instances_train2017.json, annotations/train.json, train/_annotations.coco.json or result.json",
    "voc": "Annotations/*.xml with JPEGImages, or XML files beside the photos",
    "yolo": "data.yaml with train, val and names, obj.data, or classes.txt with label files",
}


def read(cfg: DataConfig, evaluation: bool = False) -> Cleaned:
    """The splits of a data set, in the order train, val, test; no split is empty.

    evaluation: a trained model is there already, so a source without splits is all test, and no val is split off.
    Raises DataError for what cannot be read as it is meant; what is left out or assumed is in the notes.
    """
    folders = opened(cfg.folder, instead="give the data set's folder, and name annotations in task.data.train")
    listing = {"coco": coco.read, "voc": voc.read, "yolo": yolo.read}[layout(folders, cfg)](folders, cfg)
    names = {split: [image.name for image in images] for split, images in listing.parts.items()}
    for part in [{split: names[split]} for split in names] if listing.overlaps else [names]:
        check_once(listing.where, part)
    parts, more = settled(
        listing.parts, lambda image: image.name, cfg.val_fraction, cfg.split_seed, evaluation, listing.where
    )
    notes = [*listing.notes, *more]
    made: dict[str, list[Annotated]] = {}
    changes = {}
    for split, images in parts.items():
        notes += suspects(listing.base, split, images)
        made[split], changes[split] = cleaned(images)
        notes += change_notes(split, changes[split])
        bare = sum(not len(image.boxes) for image in made[split])
        if bare:
            notes.append(f"{split}: {count(bare, 'image')} without boxes, used as such")
    return Cleaned(listing.base, made, listing.classes, listing.categories, notes, listing.where, changes=changes)


def layout(folders: Folders, cfg: DataConfig) -> str:
    """The format of a folder: the one that is named, or the only one that it looks like."""
    if cfg.format == "auto" and cfg.train is not None and cfg.train.lower().endswith(".json"):
        return "coco"
    looks = {}
    if cfg.format in ("auto", "voc"):
        looks["voc"] = bool(voc.source(folders))
    if cfg.format in ("auto", "yolo"):
        looks["yolo"] = yolo_settings.source(folders) is not None
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
            f"{_way_out(folders)}"
        )
    return found[0]


def _way_out(folders: Folders) -> str:
    """What a folder lacks that is nearly a data set, as the end of an error."""
    files = folders.files("", ".json")
    if len(files) == 1:
        return f"; if {told(files[0])} holds COCO annotations: task.data.format=coco"
    if any(
        folders.files(place, ".txt")
        for place in ("labels", *(join("labels", one) for one in folders.folders("labels")))
    ):
        return (
            "; labels/ holds text, but nothing says what the classes are called: write a data.yaml (train: "
            "images/train, val: images/val, names: [...]) or their names, one a line, into classes.txt"
        )
    marks = {"data.yaml", "data.yml", "annotations", "Annotations"}
    below = [name for name in folders.folders() if marks & {*folders.entries(name)}]
    return f"; {below[0]}/ looks like one: task.data.folder={folders.path(below[0])}" if below else ""
