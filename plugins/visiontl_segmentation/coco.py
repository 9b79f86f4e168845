"""COCO JSON with polygons or run-length codes: annotations/instances_train2017.json and its like."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from visiontl import DataError
from visiontl.kit.folders import Folders, join, relative
from visiontl.kit.images import MAX_PIXELS
from visiontl.kit.splits import ORDER, SPLITS, WHOLE, split_names
from visiontl.kit.words import count, refusal, some, told
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.listing import Listing, Pair, Regions

MOST = 4 << 30  # bytes of a file
NAMED = re.compile(rf"(?:instances_)?({'|'.join(SPLITS)})(?:\d{{4}})?\.json", re.IGNORECASE)
ROBOFLOW = "_annotations.coco.json"
SINGLE = (ROBOFLOW, "annotations.json", "instances.json")
CROWD = -1  # the label of a region whose class is to be ignored


def annotation_files(folders: Folders) -> dict[str, str]:
    """{split or WHOLE: JSON file, relative to the base}; empty where the layout is not COCO's."""
    for place in ("annotations", ""):
        found: dict[str, str] = {}
        for name in folders.files(place, ".json"):
            match = NAMED.fullmatch(name)
            if match:
                split = SPLITS[match[1].lower()]
                if split in found:
                    raise DataError(
                        f"{folders.path(place)}: {Path(found[split]).name} and {name} are both {split}; move one away"
                    )
                found[split] = f"{place}/{name}" if place else name
        if found:
            return found
    splits = split_names(folders.base, folders.folders())
    beside = {split: f"{name}/{ROBOFLOW}" for split, name in splits.items() if folders.has(f"{name}/{ROBOFLOW}")}
    single = [f"{place}/{name}" if place else name for place in ("annotations", "") for name in SINGLE]
    there = [name for name in single if folders.has(name)]
    return beside or ({WHOLE: there[0]} if len(there) == 1 else {})


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming the file, for whatever is not as COCO's format has it."""
    found = annotation_files(folders)
    if not found:
        raise DataError(f"{folders.base}: no COCO annotations found; expected annotations/train.json or the like")
    names: list[str] = []
    parts: dict[str, list[Pair]] = {}
    notes: list[str] = []
    for split in [name for name in (*ORDER, WHOLE) if name in found]:
        path = folders.path(found[split])
        content = content_of(folders, found[split])
        if split == "test" and "annotations" not in content:
            notes.append(f"{path}: has no annotations; not used")
            continue
        labels = categories_of(path, content, names)
        parts[split] = pairs_of(folders, path, split, content, labels, notes)
    return Listing(folders.base, parts, names, notes, folders.base)


def content_of(folders: Folders, file: str) -> dict[str, Any]:
    path = folders.path(file)
    try:
        content = json.loads(folders.read(file, MOST))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: holds {type(content).__name__}; expected COCO's images, annotations and categories")
    for key in ("images", "categories", *(("annotations",) if "annotations" in content else ())):
        listed = content.get(key)
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise DataError(f"{path}: {key} is no list of mappings, as COCO has it")
    return content


def categories_of(path: Path, content: Mapping[str, Any], names: list[str]) -> dict[int, int]:
    """{the file's id: place in names}; new names are added in the order of their ids."""
    by_id: dict[int, str] = {}
    for one in content["categories"]:
        id, name = one.get("id"), one.get("name")
        if not isinstance(id, int) or isinstance(id, bool) or not isinstance(name, str) or not name.strip():
            raise DataError(f"{path}: a category needs a whole number as id and a name; got {told(one)}")
        if id in by_id:
            raise DataError(f"{path}: category id {id} is given twice, to {told(by_id[id])} and {told(name)}")
        by_id[id] = name
    if len(set(by_id.values())) < len(by_id):
        raise DataError(f"{path}: two categories have one name; names must differ")
    names += [by_id[id] for id in sorted(by_id) if by_id[id] not in names]
    return {id: names.index(name) for id, name in by_id.items()}


def pairs_of(
    folders: Folders, path: Path, split: str, content: Mapping[str, Any], labels: Mapping[int, int], notes: list[str]
) -> list[Pair]:
    problems: list[str] = []
    sizes: dict[Any, tuple[int, int]] = {}
    stated: dict[Any, str] = {}
    for one in content["images"]:
        id, height, width = one.get("id"), one.get("height"), one.get("width")
        if id is None or isinstance(id, list | dict) or id in sizes:
            problems.append(f"{path}: image id {told(id)} is missing or given twice")
        elif not whole(height, 1) or not whole(width, 1) or height * width > MAX_PIXELS:
            problems.append(f"{path}: image {told(id)} has height {told(height)} and width {told(width)}")
        else:
            try:
                stated[id], sizes[id] = relative(one.get("file_name")), (height, width)
            except ValueError as error:
                problems.append(f"{path}: image {told(id)}: {error}")
    if problems:
        raise refusal(path, problems)
    regions: dict[Any, list[tuple[float, int, Mapping[str, Any]]]] = {id: [] for id in sizes}
    for one in content.get("annotations", []):
        name = f"annotation {told(one.get('id'))}"
        if one.get("image_id") not in sizes:
            problems.append(f"{name}: no image {told(one.get('image_id'))}")
        elif one.get("category_id") not in labels:
            problems.append(f"{name}: no category {told(one.get('category_id'))}")
        else:
            try:
                encoded, area = encode(one.get("segmentation"), *sizes[one["image_id"]])
            except ValueError as error:
                problems.append(f"{name} (image {stated[one['image_id']]}): {error}")
                continue
            regions[one["image_id"]].append((area, labels[one["category_id"]], encoded))
    if problems:
        raise refusal(path, problems)
    folder = image_folder(folders, path, split, list(stated.values()))
    bare = sum(not found for found in regions.values())
    if bare:
        notes.append(f"{path.name}: {count(bare, 'image')} without annotation: all background")
    pairs = []
    for id, name in stated.items():
        largest_first = sorted(regions[id], key=lambda one: -one[0])
        file = f"{folder}/{name}" if folder else name
        mask = Regions(sizes[id], [label for _, label, _ in largest_first], [code for _, _, code in largest_first])
        pairs.append(Pair(file, mask))
    return sorted(pairs, key=lambda pair: pair.name)


def image_folder(folders: Folders, path: Path, split: str, names: Sequence[str]) -> str:
    """Where a file's images are, relative to the base: the first of the usual places that has the first images."""
    tag = path.stem.removeprefix("instances_")
    beside = path.parent.relative_to(folders.base).as_posix().removeprefix(".")
    usual = [f"images/{tag}", f"images/{split}", "images", tag, split, beside, ""]
    shown = names[:20]
    best = max(usual, key=lambda place: sum(folders.path(join(place, name)).is_file() for name in shown))
    if names and not any(folders.path(join(best, name)).is_file() for name in shown):
        looked = ", ".join(str(folders.path(place)) for place in dict.fromkeys(usual))
        raise DataError(f"{path}: its images, such as {told(names[0])}, are in none of {looked}")
    missing = [name for name in names if not folders.has(join(best, name))]
    if missing:
        raise DataError(
            f"{folders.path(best)}: {count(len(missing), 'image')} of {path.name} not there: {some(missing)}"
        )
    return best


def encode(segmentation: Any, height: int, width: int) -> tuple[dict[str, Any], float]:
    """Polygons, or a run-length code as text or as numbers -> (compressed code, its area in pixels).

    Raises ValueError, saying why, for one that cannot lie in an image of that size.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        polygons = [checked_polygon(one, height, width) for one in segmentation]
        if not polygons:
            raise ValueError("its segmentation is empty")
        encoded = coco.merge(coco.frPyObjects(polygons, height, width))  # type: ignore[arg-type]
    elif isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != [height, width]:
            raise ValueError(f"its code is for an image of size {told(size)}; the image has {[height, width]}")
        if isinstance(counts, list):
            if not all(whole(one, 0) for one in counts) or sum(counts) != height * width:
                raise ValueError(f"its runs do not add up to {height} x {width} pixels")
            encoded = coco.frPyObjects(segmentation, height, width)  # type: ignore[arg-type]
        elif isinstance(counts, str) and counts.isascii():
            if runs_total(counts) != height * width:
                raise ValueError(f"its runs do not add up to {height} x {width} pixels")
            encoded = {"size": [height, width], "counts": counts.encode()}
        else:
            raise ValueError("its code has neither text nor a list of numbers as counts")
    else:
        raise ValueError(f"its segmentation is {told(segmentation)}; expected polygons or a run-length code")
    return dict(encoded), float(coco.area(encoded))  # type: ignore[arg-type]


def checked_polygon(polygon: Any, height: int, width: int) -> list[float]:
    numbers = isinstance(polygon, list) and all(
        isinstance(one, int | float) and not isinstance(one, bool) for one in polygon
    )
    if not numbers or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon is x1, y1, x2, y2, x3, y3 ...; got {told(polygon)}")
    if not all(math.isfinite(one) for one in polygon):
        raise ValueError("a polygon with a corner that is no finite number")
    far = 2 * max(height, width)
    if any(not -far <= one <= 2 * far for one in polygon):
        raise ValueError(f"a polygon with a corner far outside of the image of {height} x {width}")
    return polygon


def runs_total(counts: str) -> int:
    """Pixels that a compressed code fills, -1 for one that cannot be: pycocotools writes past its end for such.

    Each number is 5 bits a sign, low ones first, 32 for "goes on", 16 in the last one for a negative; from the third on
    it is a difference to the number two before (rleToString in COCO's maskApi.c).
    """
    runs: list[int] = []
    place = 0
    while place < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(counts) or not 48 <= ord(counts[place]) < 112 or shift > 30:
                return -1
            code = ord(counts[place]) - 48
            value |= (code & 31) << shift
            more = bool(code & 32)
            place, shift = place + 1, shift + 5
            if not more and code & 16:
                value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return -1
        runs.append(value)
    return sum(runs)


def whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
