"""COCO JSON: annotations/instances_train2017.json and its like, one beside the images of each split, or named files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from visiontl import DataError
from visiontl.kit.folders import Folders, join, named, relative
from visiontl.kit.headers import image_sizes
from visiontl.kit.splits import SPLITS, WHOLE, split_of
from visiontl.kit.words import count, did_you_mean, plural, refusal, some, told
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated, Listing

MOST = 4 << 30  # bytes of a file; LVIS has 1.2 GB
PLACES = ("annotations", "annotations_coco", "")
NAMED = re.compile(rf"(?:instances_)?({'|'.join(SPLITS)})(?:\d{{4}})?\.json", re.IGNORECASE)
ROBOFLOW = "_annotations.coco.json"
LOOKED = 100  # images that tell which folder holds them
LARGEST = 2**53  # of an id
ORDER = ("train", "val", "test", WHOLE)


@dataclass
class Part:
    """One file, flat: n images, m annotations. category: the file's ids."""

    where: str
    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int] | None] = field(default_factory=list)
    owner: list[int] = field(default_factory=list)  # (m,) place of the annotation's image
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    category: list[int] = field(default_factory=list)
    ignored: list[bool] = field(default_factory=list)
    area: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)


def sources(folders: Folders, cfg: DataConfig) -> dict[str, str]:
    """Split (or WHOLE) -> JSON file; empty where the layout is not COCO's. Raises DataError where it is ambiguous."""
    if cfg.train is not None:
        return {split: named(folders, f"task.data.{split}", value) for split, value in _given(cfg).items()}
    for place in PLACES:
        found: dict[str, str] = {}
        for name in folders.files(place, ".json"):
            match = NAMED.fullmatch(name)
            if match is None:
                continue
            split = SPLITS[match[1].lower()]
            if split in found:
                raise DataError(
                    f"{folders.path(place)}: {PurePosixPath(found[split]).name} and {name} are both {split}; say which "
                    f"is meant: task.data.train={found.get('train', join(place, name))}, and val and test likewise"
                )
            found[split] = join(place, name)
        if found:
            return found
    beside = {}
    for name in folders.folders(""):
        split = split_of(name)
        files = folders.files(name, ".json") if split else []
        if split and (ROBOFLOW in folders.entries(name) or len(files) == 1):
            if split in beside:
                raise DataError(f"{folders.base}: {PurePosixPath(beside[split]).parent} and {name} are both {split}")
            beside[split] = join(name, ROBOFLOW if ROBOFLOW in folders.entries(name) else files[0])
    return beside or _single(folders, cfg)


def _given(cfg: DataConfig) -> dict[str, str]:
    given = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    return {split: value for split, value in given.items() if value is not None}


def _single(folders: Folders, cfg: DataConfig) -> dict[str, str]:
    """The only JSON there is. One beside other files may be about anything, unless the format is given."""
    for place in PLACES:
        files = folders.files(place, ".json")
        if not place and cfg.format != "coco":
            files = [name for name in files if name in (ROBOFLOW, "annotations.json", "instances.json")]
        if len(files) == 1:
            return {WHOLE: join(place, files[0])}
        if files:
            raise DataError(
                f"{folders.path(place)}: none of {some(files)} is named train.json, instances_train2017.json or such; "
                f"say which is meant: task.data.train={join(place, files[0])}"
            )
    return {}


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming the file, for whatever is not as COCO's format has it."""
    categories: dict[int, str] = {}
    headings: set[str] = set()  # names that are other categories' supercategory
    parts: dict[str, Part] = {}
    notes: list[str] = []
    found = sources(folders, cfg)
    for split, file in sorted(found.items(), key=lambda one: ORDER.index(one[0])):
        where = str(folders.path(file))
        content = _content(folders, file)
        if split == "test" and cfg.test is None and "annotations" not in content:
            notes.append(f"{where}: has no annotations; not used")
            continue
        _add_categories(categories, headings, content, where)
        parts[split] = _part(content, categories, where)
        del content  # gigabytes, for COCO
        _place_images(folders, cfg, split, file, parts[split], notes)
    _leave_out_headings(categories, headings, parts, notes)
    ids = sorted(categories)
    if ids != list(range(1, len(ids) + 1)):
        table = some((f"{number} {categories[number]}" for number in ids), 100)
        notes.append(
            f"category ids are not 1 to {len(ids)}; in this order they become classes 0 to {len(ids) - 1}: {table}"
        )
    listed = {split: _annotated(folders, part, ids, split, notes) for split, part in parts.items()}
    return Listing(folders.base, listed, [categories[number] for number in ids], ids, notes, folders.base)


def _content(folders: Folders, file: str) -> dict[str, Any]:
    path = folders.path(file)
    try:
        content = json.loads(folders.read(file, MOST))
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text") from None
    except RecursionError:
        raise DataError(f"{path}: nested too deeply for COCO annotations") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    except ValueError as error:  # a number of thousands of digits
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {_kind(content)}; expected an object with images, annotations and categories")
    return content


def _records(content: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    if key not in content:
        raise DataError(
            f"{where}: has no key {key!r}{did_you_mean(key, list(content)[:50])} (COCO annotations have images, "
            "annotations and categories)"
        )
    records = content[key]
    if not isinstance(records, list):
        raise DataError(f"{where}: {key} is {_kind(records)}; expected a list")
    bad = next((i for i, record in enumerate(records) if not isinstance(record, dict)), None)
    if bad is not None:
        raise DataError(f"{where}: {key}[{bad}] is {_kind(records[bad])}; expected an object")
    return records


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), f"the number {told(value)}" if isinstance(value, int | float) else "something else")


def _number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _whole(value: Any) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _add_categories(known: dict[int, str], headings: set[str], content: Mapping[str, Any], where: str) -> None:
    problems = []
    own: set[int] = set()
    ids = {name: number for number, name in known.items()}
    for i, record in enumerate(_records(content, "categories", where)):
        number: Any = record.get("id")
        name: Any = record.get("name")
        if not _whole(number) or not _is_name(name):
            problems.append(
                f"categories[{i}]: id {told(number)}, name {told(name)}; expected a whole number and a name"
            )
            continue
        if number in own:
            problems.append(f"category id {number} stands twice, for {told(known[number])} and {told(name)}")
        elif known.get(number, name) != name:
            problems.append(f"category id {number} is {told(name)} here and {told(known[number])} in another split")
        elif ids.get(name, number) != number:
            problems.append(f"category {told(name)} has the ids {ids[name]} and {number}; merge them")
        own.add(number)
        known.setdefault(number, name)
        ids.setdefault(name, number)
        if isinstance(record.get("supercategory"), str) and record["supercategory"] != name:
            headings.add(record["supercategory"])
    if not own and not problems:
        problems.append("categories is empty; a detector needs one at least")
    if problems:
        raise refusal(where, problems)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not any(0xD800 <= ord(sign) <= 0xDFFF for sign in value)


def _part(content: Mapping[str, Any], categories: Mapping[int, str], where: str) -> Part:
    part = Part(where)
    places = _read_images(_records(content, "images", where), part)
    problems: list[str] = []
    seen: set[Any] = set()
    for i, record in enumerate(_records(content, "annotations", where)):
        number = record.get("id", f"#{i}")
        called = f"annotation {told(number)}"
        if type(number) not in (int, str):
            problems.append(f"annotations[{i}]: id is {_kind(number)}; expected a whole number")
            continue
        if number in seen:
            problems.append(f"{called} stands twice")
            continue
        seen.add(number)
        image, category, box = record.get("image_id"), record.get("category_id"), record.get("bbox")
        crowd, area = record.get("iscrowd", 0), record.get("area")
        if type(image) not in (int, str) or image not in places:
            problems.append(f"{called}: no image has the id {told(repr(image))}")
        elif type(category) is not int or category not in categories:
            problems.append(f"{called}: no category has the id {told(repr(category))}; there are {some(categories)}")
        elif not isinstance(box, list) or len(box) != 4 or not all(map(_number, box)):
            problems.append(f"{called}: bbox is {told(json.dumps(box))}; expected 4 numbers: x, y, width, height")
        elif type(crowd) not in (int, bool) or crowd not in (0, 1):
            problems.append(f"{called}: iscrowd is {told(json.dumps(crowd))}; expected 0 or 1")
        elif area is not None and not _number(area):
            problems.append(f"{called}: area is {told(json.dumps(area))}; expected a number")
        else:
            x, y, width, height = map(_float, box)
            part.owner.append(places[image])
            part.boxes.append((x, y, x + width, y + height))
            part.category.append(category)
            part.ignored.append(bool(crowd))
            part.area.append(math.nan if area is None else _float(area))
            part.ids.append(called)
    if problems:
        raise refusal(where, problems)
    return part


def _read_images(records: Sequence[Mapping[str, Any]], part: Part) -> dict[Any, int]:
    """Fills in names and sizes; id -> place."""
    places: dict[Any, int] = {}
    first: dict[str, Any] = {}
    problems: list[str] = []
    for i, record in enumerate(records):
        number = record.get("id")
        if type(number) not in (int, str):
            problems.append(f"images[{i}]: id is {_kind(number)}; expected a whole number")
            continue
        if number in places:
            problems.append(f"image id {told(number)} stands twice")
            continue
        places[number] = len(part.names)
        try:
            name = relative(record.get("file_name"))
        except ValueError as error:
            problems.append(f"image {told(number)}: file_name: {error}")
            continue
        if name in first:
            problems.append(f"{told(name)} is listed twice, as image {told(first[name])} and {told(number)}")
            continue
        first[name] = number
        height, width = record.get("height"), record.get("width")
        if any(side is not None and not (_number(side) and 0 <= side < LARGEST) for side in (height, width)):
            problems.append(
                f"image {told(number)} ({told(name)}): width {told(json.dumps(width))}, height "
                f"{told(json.dumps(height))}; expected whole numbers"
            )
            continue
        part.names.append(name)
        part.sizes.append((int(height), int(width)) if height and width else None)
    if not records:
        problems.append("images is empty")
    if problems:
        raise refusal(part.where, problems)
    return places


def _place_images(folders: Folders, cfg: DataConfig, split: str, file: str, part: Part, notes: list[str]) -> None:
    """Makes the names relative to the data set's folder, and asks for each file."""
    tried = _candidates(folders, cfg, split, file)
    there = [folder for folder in tried if folders.is_folder(folder)]
    for name in part.names[:LOOKED]:
        place = next((folder for folder in there if folders.has(join(folder, name))), None)
        if place is not None:
            break
    else:
        looked = some([str(folders.path(join(folder, ""))) for folder in tried], 12)
        raise DataError(
            f"{part.where}: no folder holds {told(part.names[0])}; looked in {looked}; name the right one in "
            "task.data.images"
        )
    part.names = [join(place, name) for name in part.names]
    missing = [name for name in part.names if not folders.has(name)]
    if missing:
        raise DataError(
            f"{part.where}: {len(missing):,} of {count(len(part.names), 'image')} not found below {folders.base}: "
            f"{some(missing)}"
        )
    unknown = [i for i, size in enumerate(part.sizes) if size is None]
    if unknown:
        for i, size in zip(unknown, image_sizes(folders.base, [part.names[i] for i in unknown]), strict=True):
            part.sizes[i] = size
        notes.append(f"{split}: {count(len(unknown), 'image')} without width and height; read from the files")


def _candidates(folders: Folders, cfg: DataConfig, split: str, file: str) -> list[str]:
    """Where images may be, the most particular place first."""
    path = PurePosixPath(file)
    beside = str(path.parent).removeprefix(".")
    stem = path.stem.removeprefix("instances_")
    aliases = [stem, *(alias for alias, its in SPLITS.items() if its == split)]
    if cfg.images is not None:
        try:
            chosen = relative(cfg.images)
        except ValueError as error:
            raise DataError(f"task.data.images: {error}") from None
        if not folders.is_folder(chosen):
            near = did_you_mean(chosen, folders.folders(""))
            raise DataError(f"task.data.images: {folders.path(chosen)}: no such folder{near}")
        return [chosen, *(join(chosen, alias) for alias in aliases)]
    places = [f"images/{alias}" for alias in aliases] + aliases + ["images", "JPEGImages", "data", beside, ""]
    # a JSON in a split's own folder is about the pictures there
    first = [beside, join(beside, "images")] if split_of(beside) == split else []
    return list(dict.fromkeys([*first, *places]))


def _leave_out_headings(
    categories: dict[int, str], headings: set[str], parts: Mapping[str, Part], notes: list[str]
) -> None:
    """Roboflow writes the supercategory of all classes as one more category that no box has."""
    used = {number for part in parts.values() for number in part.category}
    bare = [number for number in sorted(categories) if number not in used and categories[number] in headings]
    if bare and len(bare) < len(categories):
        names = some(categories.pop(number) for number in bare)
        notes.append(
            f"{count(len(bare), 'category')} without boxes that {plural(len(bare), 'is')} the supercategory of others "
            f"left out: {names}"
        )


def _annotated(folders: Folders, part: Part, ids: Sequence[int], split: str, notes: list[str]) -> list[Annotated]:
    owner = np.array(part.owner, dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    ends = np.cumsum(np.bincount(owner, minlength=len(part.names)))
    boxes = np.array(part.boxes, dtype=np.float64).reshape(-1, 4)[order]
    labels = np.searchsorted(np.array(ids), np.array(part.category, dtype=np.int64))[order]
    ignored = np.array(part.ignored, dtype=bool)[order]
    area = np.array(part.area, dtype=np.float64)[order]
    unmeasured = int((~(area > 0) | ~np.isfinite(area)).sum())
    if unmeasured:
        notes.append(f"{split}: {count(unmeasured, 'box')} without a positive area; the box's own is taken")
    if ignored.any():
        notes.append(f"{split}: {count(int(ignored.sum()), 'box')} of crowds, neither learned nor counted")
    made, start = [], 0
    for name, size, end in zip(part.names, part.sizes, ends.tolist(), strict=True):
        of = slice(start, end)
        called = [part.ids[j] for j in order[of]]
        made.append(Annotated(name, size, boxes[of], labels[of], ignored[of], area[of], called))
        start = end
    return made
