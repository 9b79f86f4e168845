"""YOLO text: data.yaml, folders or lists of images, and beside each `images` folder one `labels`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import yaml

from visiontl import DataError
from visiontl.kit.absent import instead
from visiontl.kit.folders import LONGEST, Folders, join, other_forms, passed_over
from visiontl.kit.headers import image_sizes
from visiontl.kit.splits import split_files
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated, Listing

MOST = 10_000_000  # bytes of a label file
MOST_SETTINGS = 1_000_000  # bytes of data.yaml, whose reading takes seconds by then
MOST_LIST = 1 << 30  # bytes of a list of images
FAR = 2.0  # a share of the image beyond which a number is no share, but pixels


@dataclass
class Found:
    """What reading label files has counted."""

    absent: int = 0
    polygons: int = 0
    first_absent: str = ""
    unreadable: list[str] = field(default_factory=list)


def source(folders: Folders) -> str | None:
    """data.yaml, or the only YAML file of the folder."""
    files = folders.files("", ".yaml", ".yml")
    for name in ("data.yaml", "data.yml"):
        if name in files:
            return name
    return files[0] if len(files) == 1 else None


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming file and line, for whatever is not as the format has it."""
    file = source(folders)
    assert file is not None
    where = folders.path(file)
    settings = _settings(folders, file)
    classes = _classes(settings, where)
    notes: list[str] = []
    given: dict[str, Any] = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
    if cfg.train is None:
        given = {split: settings[key] for split, key in split_files(where, settings).items()}
    parts: dict[str, list[Annotated]] = {}
    for split, entry in given.items():
        if entry in (None, "", []):
            continue
        key = f"{where}: {split}" if cfg.train is None else f"task.data.{split}"
        names = _image_names(folders, settings, entry, key, notes)
        parts[split] = _part(folders, split, names, len(classes), notes)
    if not parts:
        raise DataError(f"{where}: names no images; expected the keys train, val and test{_near(settings)}")
    return Listing(folders.base, parts, classes, None, notes, str(where))


def _near(settings: Mapping[str, Any]) -> str:
    return f" (it has {some(settings)})" if settings else ""


def _settings(folders: Folders, file: str) -> dict[str, Any]:
    """The mapping of data.yaml with plain text as values, lists and mappings one level deep.

    Reads the nodes instead of building objects: no tag means anything, an alias costs nothing, and a class may be
    called `yes` or `no`.
    """
    path = folders.path(file)
    text = folders.read_text(file, MOST_SETTINGS)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise DataError(f"{path}: not valid YAML: {error.problem}{line}") from None
    except RecursionError:
        raise DataError(f"{path}: nested too deeply for a data.yaml") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not valid YAML: {told(' '.join(str(error).split()))}") from None
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f"{path}: holds no keys; expected train, val and names")
    return {key: _plain(value, f"{path}: {key}") for key, value in _pairs(node, str(path))}


def _pairs(node: yaml.MappingNode, where: str) -> list[tuple[str, yaml.Node]]:
    pairs = []
    seen = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise DataError(f"{where}: a list or mapping is no key")
        if key.value in seen:
            raise DataError(f"{where}: the key {told(key.value)} stands twice")
        seen.add(key.value)
        pairs.append((key.value, value))
    return pairs


def _plain(node: yaml.Node, where: str) -> Any:
    """Text, None, a list of text, or a mapping of text; what is nested deeper is None."""

    def scalar(one: yaml.Node) -> str | None:
        return one.value if isinstance(one, yaml.ScalarNode) and one.tag != "tag:yaml.org,2002:null" else None

    if isinstance(node, yaml.SequenceNode):
        return [scalar(one) for one in node.value]
    if isinstance(node, yaml.MappingNode):
        return {key: scalar(one) for key, one in _pairs(node, where)}
    return scalar(node)


def _classes(settings: Mapping[str, Any], where: Any) -> list[str]:
    names = settings.get("names")
    if names is None:
        near = did_you_mean("names", settings)
        raise DataError(f"{where}: has no names; expected the names of the classes, a list or 0: NAME lines{near}")
    if isinstance(names, dict):
        numbers = {key: _integer(key) for key in names}
        if sorted(-1 if i is None else i for i in numbers.values()) != list(range(len(names))):
            raise DataError(f"{where}: names has the keys {some(names)}; expected 0 to {len(names) - 1}")
        names = [text for _, text in sorted(names.items(), key=lambda pair: int(pair[0]))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{where}: names is {told(names) if names else 'empty'}; expected a list or 0: NAME lines")
    bare = [i for i, text in enumerate(names) if text is None or not text.strip()]
    if bare:
        raise DataError(f"{where}: names: class {bare[0]} has no name that is plain text")
    twice = [text for text, number in Counter(names).items() if number > 1]
    if twice:
        raise DataError(f"{where}: names: {some(twice)} {'stands' if len(twice) == 1 else 'stand'} twice")
    number = settings.get("nc")
    if number is not None and (not isinstance(number, str) or _integer(number) != len(names)):
        raise DataError(f"{where}: nc is {told(number)}, and there are {count(len(names), 'name')}; make them agree")
    return names


def _integer(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _image_names(folders: Folders, settings: Mapping[str, Any], entry: Any, key: str, notes: list[str]) -> list[str]:
    """Images of a folder, of a list file, or of several of these; names relative to the base."""
    entries = entry if isinstance(entry, list) else [entry]
    if any(not isinstance(one, str) or not one for one in entries):
        raise DataError(f"{key}: expected a folder, a list file, or a list of them")
    names: list[str] = []
    for one in entries:
        place = _place(folders, settings, one, key, notes)
        names += _below(folders, place, notes) if folders.is_folder(place) else _listed(folders, settings, place, notes)
    if not names:
        raise DataError(f"{key}: {some(entries)} holds no images")
    return names


def _place(folders: Folders, settings: Mapping[str, Any], entry: str, key: str, notes: list[str]) -> str:
    """Where an entry of data.yaml is, in the folder that the config names.

    Its `path`, and a leading ../ as Roboflow writes it, are often of another machine; then what is here is taken.
    """
    base = settings.get("path")
    base = base if isinstance(base, str) else ""
    stripped = entry
    while stripped.startswith(("../", "./")):
        stripped = stripped.partition("/")[2]
    tried = []
    for candidate in (os.path.join(base, entry), entry, stripped):
        try:
            name = folders.within(candidate)
        except ValueError as error:
            tried.append(error)
            continue
        if folders.is_folder(name) or folders.has(name):
            if candidate not in (os.path.join(base, entry), entry):
                notes.append(f"{key}: {told(entry)} is taken for {folders.path(name)}")
            return name
        tried.append(ValueError(f"no folder or file {folders.path(name)}"))
    raise DataError(f"{key}: {tried[0]}")


def _below(folders: Folders, place: str, notes: list[str]) -> list[str]:
    found = folders.pictures(place)  # a label may lie beside its picture
    notes += passed_over(folders.path(place), [one for one in found.passed if not one.name.endswith(".txt")])
    return list(found.pictures)


def _listed(folders: Folders, settings: Mapping[str, Any], file: str, notes: list[str]) -> list[str]:
    """A list file: one image a line, from data.yaml's folder or the list's own."""
    path = folders.path(file)
    lines, problems = [], []
    for number, line in enumerate(folders.read_text(file, MOST_LIST).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            lines.append(folders.within(line.strip()))
        except ValueError as error:
            near = instead(folders, line.strip()) if not problems and len(line) < LONGEST else ""
            problems.append(f"line {number}: {error}{near}")
    if problems:
        raise refusal(path, problems)
    if not lines:
        raise DataError(f"{path}: lists no image")
    base = settings.get("path")
    places = [str(PurePosixPath(file).parent).removeprefix("."), ""]
    if isinstance(base, str) and not os.path.isabs(base) and not base.startswith(".."):
        places.append(os.path.normpath(base).removeprefix("."))
    place = next((place for place in places if folders.found(join(place, lines[0])) is not None), places[0])
    names = [join(place, line) for line in lines]
    found = [folders.found(name) for name in names]
    missing = [name for name, real in zip(names, found, strict=True) if real is None]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of {count(len(names), 'image')} not found below {folders.base}: "
            f"{some(missing)}{instead(folders, missing[0])}"
        )
    notes += other_forms(path, [name for name, real in zip(names, found, strict=True) if name != real])
    return [real for real in found if real is not None]


def label_name(image: str) -> str:
    """images/train/1.jpg -> labels/train/1.txt: the last folder `images` changed; without one, beside the image."""
    *folders, last = image.split("/")
    if "images" in folders:
        place = len(folders) - 1 - folders[::-1].index("images")
        folders[place] = "labels"
    return "/".join([*folders, f"{PurePosixPath(last).stem}.txt"])


def _part(folders: Folders, split: str, names: Sequence[str], classes: int, notes: list[str]) -> list[Annotated]:
    found = Found()
    lines = [_labels(folders, name, classes, found) for name in names]
    if found.absent == len(names):
        raise DataError(
            f"{folders.base}: {split}: none of {count(len(names), 'image')} has a label file; looked for "
            f"{folders.path(found.first_absent)} and so on"
        )
    made = []
    for name, size, (values, numbers) in zip(names, image_sizes(folders.base, names), lines, strict=True):
        if size is None and len(values):
            found.unreadable.append(name)
            values, numbers = values[:0], []
        height, width = size or (1, 1)
        center, half = values[:, 1:3], values[:, 3:5] / 2  # shares of the image
        boxes = np.concatenate([center - half, center + half], axis=1) * np.array([width, height] * 2)  # (N, 4)
        made.append(
            Annotated(
                name,
                size,
                boxes,
                values[:, 0].astype(np.int64),
                np.zeros(len(values), dtype=bool),
                np.full(len(values), np.nan),
                [f"line {number}" for number in numbers],
            )
        )
    if found.absent:
        named = told(found.first_absent)
        notes.append(
            f"{split}: {count(found.absent, 'image')} without a label file, taken for images without boxes: {named}"
            + (" and others" if found.absent > 1 else "")
        )
    if found.polygons:
        notes.append(f"{split}: {count(found.polygons, 'polygon')}, each taken for the box around it")
    if found.unreadable:
        notes.append(
            f"{split}: {count(len(found.unreadable), 'image')} that cannot be read, so without boxes: "
            f"{some(found.unreadable)}"
        )
    return made


def _labels(folders: Folders, image: str, classes: int, found: Found) -> tuple[np.ndarray, list[int]]:
    """((N, 5) class, center x and y, width, height; line of each) of an image's label file."""
    expected = label_name(image)
    name = folders.found(expected)
    if name is None:
        found.absent += 1
        found.first_absent = found.first_absent or expected
        return np.zeros((0, 5)), []
    path = folders.path(name)
    rows, numbers, problems = [], [], []
    for number, line in enumerate(folders.read_text(name, MOST).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = _values(line, classes)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        if len(values) > 5:
            found.polygons += 1
            values = _around(values)
        rows.append(values)
        numbers.append(number)
    if problems:
        raise refusal(path, problems)
    return np.array(rows, dtype=np.float64).reshape(-1, 5), numbers


def _values(line: str, classes: int) -> list[float]:
    """The numbers of a line. Raises ValueError, saying why, where they are none of the format's."""
    texts = line.split()
    if len(texts) != 5 and (len(texts) < 7 or len(texts) % 2 == 0):
        raise ValueError(f"{count(len(texts), 'value')}; expected class x y width height, or class and the points of a "
                         "polygon")  # fmt: skip
    try:
        values = [float(text) for text in texts]
    except ValueError:
        bad = next(text for text in texts if not _is_number(text))
        raise ValueError(f"{told(bad)} is no number; expected class x y width height") from None
    if not math.isfinite(values[0]) or values[0] != int(values[0]) or not 0 <= values[0] < classes:
        raise ValueError(f"class {told(texts[0])}; data.yaml names {count(classes, 'class')}, from 0 to {classes - 1}")
    far = next((text for text, value in zip(texts[1:], values[1:], strict=True) if FAR < abs(value) < math.inf), None)
    if far is not None:
        raise ValueError(f"{told(far)} is no share of the image; expected 0 to 1, not pixels")
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _around(values: Sequence[float]) -> list[float]:
    """class and points -> class, center x and y, width, height of the box around them; NaN stays NaN."""
    points = np.array(values[1:]).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    return [values[0], *((low + high) / 2).tolist(), *(high - low).tolist()]
