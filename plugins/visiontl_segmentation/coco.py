"""COCO JSON with polygons or run-length codes: annotations/instances_train2017.json and its like."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from visiontl import DataError
from visiontl.kit.coco import ROBOFLOW, SINGLE, Options, Part, as_float, is_number, is_whole, read_files
from visiontl.kit.folders import Folders
from visiontl.kit.splits import SPLITS, WHOLE, split_names
from visiontl.kit.words import count, some, told
from visiontl_segmentation.config import DataConfig
from visiontl_segmentation.listing import Listing, Pair, Regions

NAMED = re.compile(rf"(?:instances_)?({'|'.join(SPLITS)})(?:\d{{4}})?\.json", re.IGNORECASE)
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
    cut: list[str] = []
    read_own = partial(own, skip=cfg.on_bad_annotation == "skip", cut=cut)
    coco = read_files(folders, found, read_own, Options(bad=cfg.bad_annotations()))
    if cut:
        what = count(len(cut), "annotation")
        coco.notes.append(f"{what} without those of its polygons that cannot be used: {some(cut)}")
    ids = sorted(coco.categories)
    labels = {id: label for label, id in enumerate(ids)}
    parts = {split: pairs_of(part, labels, coco.notes) for split, part in coco.parts.items()}
    return Listing(folders.base, parts, [coco.categories[id] for id in ids], coco.notes, folders.base, ids)


def own(
    record: Mapping[str, Any], size: tuple[int, int] | None, skip: bool, cut: list[str]
) -> tuple[dict[str, Any], float]:
    """Compressed code and area in pixels of an annotation. skip: polygons that are none are left out where others
    remain, and the annotation is added to `cut`. Raises ValueError."""
    if size is None:
        raise ValueError("its image states no width and height, and its file cannot be read")
    segmentation = record.get("segmentation")
    if skip and isinstance(segmentation, list):
        polygons = cast(list[Any], segmentation)
        sound = [one for one in polygons if not why_no_polygon(one, *size)]
        if sound and len(sound) < len(polygons):
            cut.append(f"annotation {told(record.get('id'))} ({count(len(polygons) - len(sound), 'polygon')})")
            return encode(sound, *size)
    return encode(segmentation, *size)


def why_no_polygon(polygon: Any, height: int, width: int) -> str:
    """What is wrong with a polygon, '' where nothing is."""
    try:
        checked_polygon(polygon, height, width)
    except ValueError as error:
        return str(error)
    return ""


def pairs_of(part: Part[tuple[dict[str, Any], float]], labels: Mapping[int, int], notes: list[str]) -> list[Pair]:
    """One per image, by name. labels: {category id: place of its name}. Of the regions the largest lie lowest."""
    regions: list[list[tuple[float, int, Mapping[str, Any]]]] = [[] for _ in part.names]
    for owner, category, (code, area) in zip(part.owner, part.category, part.own, strict=True):
        regions[owner].append((area, labels[category], code))
    bare = sum(not found for found in regions)
    if bare:
        notes.append(f"{Path(part.where).name}: {count(bare, 'image')} without annotation: all background")
    flat = [called for called, (_, area) in zip(part.called, part.own, strict=True) if not area]
    if flat:
        notes.append(f"{Path(part.where).name}: {count(len(flat), 'annotation')} without a pixel: {some(flat)}")
    unknown = [name for name, size in zip(part.names, part.sizes, strict=True) if size is None]
    if unknown:
        raise DataError(f"{part.where}: no width and height for {some(unknown)}, and the files cannot be read")
    pairs: list[Pair] = []
    for name, size, found in zip(part.names, part.sizes, regions, strict=True):
        largest_first = sorted(found, key=lambda one: -one[0])
        codes = [code for _, _, code in largest_first]
        assert size is not None
        pairs.append(Pair(name, Regions(size, [label for _, label, _ in largest_first], codes)))
    return sorted(pairs, key=lambda pair: pair.name)


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
            if not all(is_whole(one, 0) for one in counts) or sum(counts) != height * width:
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
    if not isinstance(polygon, list) or not all(map(is_number, polygon)) or len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"a polygon is x1, y1, x2, y2, x3, y3 ...; got {told(polygon)}")
    corners = [as_float(one) for one in polygon]
    if not all(math.isfinite(one) for one in corners):
        raise ValueError("a polygon with a corner that is no finite number")
    far = 2 * max(height, width)
    if any(not -far <= one <= 2 * far for one in corners):
        raise ValueError(f"a polygon with a corner far outside of the image of {height} x {width}")
    return corners


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
