"""COCO JSON (cocodataset.org, "Data format"): what every task reads of it alike. Imports no torch.

Images, categories and annotations by id, with all mistakes of a file at once; what an annotation says beyond its image
and category (boxes, masks) is read by a function of the task.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar, cast

from visiontl.errors import DataError
from visiontl.kit.absent import instead
from visiontl.kit.bad_annotations import BadAnnotations
from visiontl.kit.folders import LONGEST, Folders, join
from visiontl.kit.headers import image_sizes
from visiontl.kit.images import MAX_PIXELS
from visiontl.kit.listed import find_listed
from visiontl.kit.splits import ORDER, SPLITS, WHOLE, split_of
from visiontl.kit.words import count, did_you_mean, plural, refusal, some, told

ROBOFLOW = "_annotations.coco.json"
# One file beside the images or their folder: of Roboflow, Label Studio (result.json), CVAT and FiftyOne (labels.json)
SINGLE = (
    ROBOFLOW, "annotations.json", "instances.json", "instances_default.json", "result.json", "labels.json", "coco.json",
)  # fmt: skip
MOST = 4 << 30  # bytes of a file; LVIS has 1.2 GB
LOOKED = 100  # images that tell which folder holds them
LARGEST = 2**53  # of an id

Size = tuple[int, int]  # (H, W) in pixels
T = TypeVar("T")


@dataclass
class Part(Generic[T]):
    """One file: n images in its order, and m annotations. Names are relative to the data set's folder."""

    where: str
    names: list[str] = field(default_factory=list[str])
    sizes: list[Size | None] = field(default_factory=list["Size | None"])  # None where neither file nor picture says
    owner: list[int] = field(default_factory=list[int])  # (m,) place of the annotation's image
    category: list[int] = field(default_factory=list[int])  # (m,) the file's id
    own: list[T] = field(default_factory=list[T])  # (m,) what the task reads of it
    called: list[str] = field(default_factory=list[str])  # (m,) for messages


@dataclass
class Coco(Generic[T]):
    """parts: split or WHOLE -> its file. categories: {id: name} of all files, ids may have gaps. notes: what was left
    out or assumed, in sentences."""

    parts: dict[str, Part[T]]
    categories: dict[int, str]
    notes: list[str]


@dataclass(frozen=True)
class Options:
    """images: the folder that holds the pictures; None: it is looked for. hint: what to do where none holds them, for
    the error. test_counts: whether a test without annotations, such as COCO's own, is an error and not left out. bad:
    what becomes of annotations that cannot be used."""

    images: str | None = None
    hint: str = "put them into one of these"
    test_counts: bool = False
    bad: BadAnnotations = field(default_factory=BadAnnotations)


def read_files(
    folders: Folders,
    files: Mapping[str, str],
    own: Callable[[Mapping[str, Any], Size | None], T],
    options: Options = Options(),
) -> Coco[T]:
    """Split (or WHOLE) -> JSON file, relative to the base, all read.

    own(record, size of its image): what the task needs of an annotation; raises ValueError, saying what is wrong with
    it. Raises DataError, naming the file.
    """
    found: Coco[T] = Coco({}, {}, [])
    headings: set[str] = set()  # names that are other categories' supercategory
    for split in [name for name in (*ORDER, WHOLE) if name in files]:
        where = str(folders.path(files[split]))
        content = content_of(folders, files[split])
        if split == "test" and not options.test_counts and "annotations" not in content:
            found.notes.append(f"{where}: has no annotations; not used")
            continue
        _add_categories(found.categories, headings, content, where)
        part: Part[T] = Part(where)
        places = _read_images(folders, _records(content, "images", where), part)
        tried = _candidates(folders, options.images, split, files[split])
        _place_images(folders, tried, options.hint, part, split, found.notes)
        records = _records(content, "annotations", where)
        bad = _read_annotations(records, part, places, found.categories, own)
        found.notes += options.bad.settle(where, split, bad, len(records))
        del content  # gigabytes, for COCO
        found.parts[split] = part
    _leave_out_headings(found, headings)
    return found


def content_of(folders: Folders, file: str) -> dict[str, Any]:
    """The JSON object of a file. Raises DataError."""
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
        raise DataError(f"{path}: holds {kind(content)}; expected an object with images, annotations and categories")
    return cast(dict[str, Any], content)


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds: dict[Any, str] = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    for one, words in kinds.items():
        if isinstance(value, one):
            return words
    return f"the number {told(value)}" if isinstance(value, int | float) else "something else"


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return type(value) is int or type(value) is float


def is_whole(value: Any, least: int = -LARGEST) -> bool:
    """Whether it is a whole number from `least` on and below 2**53, such as an id."""
    return type(value) is int and least <= value < LARGEST


def as_float(value: float) -> float:
    """A number of JSON, which knows no bounds, as a float: infinity where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _records(content: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    if key not in content:
        raise DataError(
            f"{where}: has no key {key!r}{did_you_mean(key, list(content)[:50])} (COCO annotations have images, "
            "annotations and categories)"
        )
    if not isinstance(content[key], list):
        raise DataError(f"{where}: {key} is {kind(content[key])}; expected a list")
    records: list[Any] = content[key]
    bad = next((i for i, record in enumerate(records) if not isinstance(record, dict)), None)
    if bad is not None:
        raise DataError(f"{where}: {key}[{bad}] is {kind(records[bad])}; expected an object")
    return records


def _add_categories(known: dict[int, str], headings: set[str], content: Mapping[str, Any], where: str) -> None:
    problems: list[str] = []
    own: set[int] = set()
    ids = {name: number for number, name in known.items()}
    for i, record in enumerate(_records(content, "categories", where)):
        number: Any = record.get("id")
        name: Any = record.get("name")
        if not is_whole(number) or not _is_name(name):
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
        problems.append("categories is empty; one at least is needed")
    if problems:
        raise refusal(where, problems)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and not any(0xD800 <= ord(sign) <= 0xDFFF for sign in value)


def _read_images(folders: Folders, records: Sequence[Mapping[str, Any]], part: Part[Any]) -> dict[Any, int]:
    """Fills in names and sizes; id -> place."""
    places: dict[Any, int] = {}
    first: dict[str, Any] = {}
    problems: list[str] = []
    for i, record in enumerate(records):
        number = record.get("id")
        if type(number) not in (int, str):
            problems.append(f"images[{i}]: id is {kind(number)}; expected a whole number")
            continue
        if number in places:
            problems.append(f"image id {told(number)} stands twice")
            continue
        places[number] = len(part.names)
        try:
            name = _stated(folders, record.get("file_name"))
        except ValueError as error:
            problems.append(f"image {told(number)}: file_name: {error}")
            continue
        if name in first:
            problems.append(f"{told(name)} is listed twice, as image {told(first[name])} and {told(number)}")
            continue
        first[name] = number
        height, width = record.get("height"), record.get("width")
        if any(side is not None and not (is_number(side) and 0 <= side < LARGEST) for side in (height, width)):
            problems.append(
                f"image {told(number)} ({told(name)}): width {told(json.dumps(width))}, height "
                f"{told(json.dumps(height))}; expected whole numbers"
            )
            continue
        if height and width and height * width > MAX_PIXELS:
            problems.append(
                f"image {told(number)} ({told(name)}): width {told(width)}, height {told(height)}; more than "
                f"{MAX_PIXELS:,} pixels: shrink it first"
            )
            continue
        part.names.append(name)
        part.sizes.append((int(height), int(width)) if height and width else None)
    if not records:
        problems.append("images is empty")
    if problems:
        raise refusal(part.where, problems)
    return places


def _stated(folders: Folders, name: Any) -> str:
    """A file_name without detours; one of another machine as it stands, for `find_listed` to find by its end."""
    try:
        return folders.within(name)
    except ValueError:
        if (
            isinstance(name, str)
            and "\0" not in name
            and len(name) <= LONGEST
            and (os.path.isabs(name) or "\\" in name)
        ):
            return name
        raise


def _read_annotations(
    records: Sequence[Mapping[str, Any]],
    part: Part[T],
    places: Mapping[Any, int],
    categories: Mapping[int, str],
    own: Callable[[Mapping[str, Any], Size | None], T],
) -> list[str]:
    """Fills in the annotations; what is wrong with those that cannot be used. Raises DataError where an id does not
    tell one from another."""
    problems: list[str] = []
    bad: list[str] = []
    seen: set[Any] = set()
    for i, record in enumerate(records):
        number = record.get("id", f"#{i}")
        called = f"annotation {told(number)}"
        if type(number) not in (int, str):
            problems.append(f"annotations[{i}]: id is {kind(number)}; expected a whole number")
            continue
        if number in seen:
            problems.append(f"{called} stands twice")
            continue
        seen.add(number)
        image, category = record.get("image_id"), record.get("category_id")
        if type(image) not in (int, str) or image not in places:
            bad.append(f"{called}: no image has the id {told(repr(image))}")
        elif type(category) is not int or category not in categories:
            bad.append(f"{called}: no category has the id {told(repr(category))}; there are {some(categories)}")
        else:
            try:
                value = own(record, part.sizes[places[image]])
            except ValueError as error:
                bad.append(f"{called} (image {told(part.names[places[image]])}): {error}")
                continue
            part.owner.append(places[image])
            part.category.append(category)
            part.own.append(value)
            part.called.append(called)
    if problems:
        raise refusal(part.where, [*problems, *bad])
    return bad


def is_crowd(record: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a crowd. Raises ValueError where `iscrowd` is neither 0 nor 1."""
    crowd = record.get("iscrowd", 0)
    if type(crowd) not in (int, bool) or crowd not in (0, 1):
        raise ValueError(f"iscrowd is {told(json.dumps(crowd))}; expected 0 or 1")
    return bool(crowd)


def _place_images(
    folders: Folders, tried: Sequence[str], hint: str, part: Part[Any], split: str, notes: list[str]
) -> None:
    """Makes the names relative to the data set's folder, asks for each file, and for sizes that are not stated."""
    there = [folder for folder in tried if folders.is_folder(folder)]
    place = _place_of(folders, there, part.names[:LOOKED])
    if place is None:
        looked = some([str(folders.path(join(folder, ""))) for folder in tried], 12)
        near = instead(folders, part.names[0])
        raise DataError(f"{part.where}: no folder holds {told(part.names[0])}{near}; looked in {looked}; {hint}")
    found = find_listed(folders, part.names, [place])
    if found.refused:
        raise refusal(part.where, [f"image {told(name)}: file_name: {why}" for name, why in found.refused.items()])
    missing = [join(place, name) for name in found.missing()]
    if missing:
        raise DataError(
            f"{part.where}: {len(missing):,} of {count(len(part.names), 'image')} not found below {folders.base}: "
            f"{some(missing)}{instead(folders, missing[0])}"
        )
    part.names = found.names
    notes += found.notes(part.where)
    unknown = [i for i, size in enumerate(part.sizes) if size is None]
    if unknown:
        for i, size in zip(unknown, image_sizes(folders.base, [part.names[i] for i in unknown]), strict=True):
            part.sizes[i] = size
        notes.append(f"{split}: {count(len(unknown), 'image')} without width and height; read from the files")


def _place_of(folders: Folders, there: Sequence[str], names: Sequence[str]) -> str | None:
    """The folder that holds the first of the names that is anywhere: as it is written, else as `find_listed` has it."""
    for name in names:
        for folder in there:
            if folders.found(join(folder, name.replace("\\", "/"))) is not None:
                return folder
    for name in names:
        for folder in there:
            if find_listed(folders, [name], [folder]).names[0]:
                return folder
    return None


def _candidates(folders: Folders, images: str | None, split: str, file: str) -> list[str]:
    """Where images may be, the most particular place first."""
    path = PurePosixPath(file)
    beside = str(path.parent).removeprefix(".")
    stem = path.stem.removeprefix("instances_")
    aliases = [stem, *(alias for alias, its in SPLITS.items() if its == split)]
    if images is not None:
        try:
            chosen = folders.within(images)
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


def _leave_out_headings(found: Coco[Any], headings: set[str]) -> None:
    """Roboflow writes the supercategory of all classes as one more category that no annotation has."""
    used = {number for part in found.parts.values() for number in part.category}
    categories = found.categories
    bare = [number for number in sorted(categories) if number not in used and categories[number] in headings]
    if bare and len(bare) < len(categories):
        names = some([categories.pop(number) for number in bare])
        found.notes.append(
            f"{count(len(bare), 'category')} without annotations that {plural(len(bare), 'is')} the supercategory of "
            f"others left out: {names}"
        )
