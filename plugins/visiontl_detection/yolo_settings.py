"""What names the classes and images of YOLO text: data.yaml, Darknet's obj.data, or a list of names (classes.txt)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from visiontl import DataError
from visiontl.kit.folders import Folders, join
from visiontl.kit.images import is_image
from visiontl.kit.listed import find_listed
from visiontl.kit.splits import WHOLE, split_files, split_names
from visiontl.kit.words import count, did_you_mean, some, told

MOST = 1_000_000  # bytes of such a file; the reading of a YAML takes seconds by then
NAMES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels", "predefined_classes.txt", "names.txt")
LOOKED = 1000  # pictures that tell whether label files lie with them


@dataclass(frozen=True)
class Settings:
    """file: relative to the base. classes: in the order of their numbers. entries: split or WHOLE -> what holds its
    images, as the file states it. base: the folder in front of entries, as the file states it. keypoints: (points,
    values of each) of poses, None where there are none. keys: all of the file, for errors."""

    file: str
    classes: list[str]
    entries: Mapping[str, Any]
    base: str = ""
    keypoints: tuple[int, int] | None = None
    keys: tuple[str, ...] = ()


def source(folders: Folders) -> str | None:
    """data.yaml, the only YAML file, Darknet's only *.data, or a list of names with label files beside pictures."""
    files = folders.files("", ".yaml", ".yml")
    for name in ("data.yaml", "data.yml"):
        if name in files:
            return name
    if len(files) == 1:
        return files[0]
    described = folders.files("", ".data")
    if len(described) == 1:
        return described[0]
    lists = _names_files(folders)
    return lists[0] if lists and _has_labels(folders) else None


def read_settings(folders: Folders, file: str) -> Settings:
    """Raises DataError, naming the file, for whatever is not as its format has it."""
    where = folders.path(file)
    if file.endswith(".data"):
        return _darknet(folders, file)
    if not file.endswith((".yaml", ".yml")):
        classes = _names(folders, file)
        other = next((one for one in _names_files(folders)[1:] if _names(folders, one) != classes), None)
        if other is not None:
            raise DataError(f"{where}: names other classes than {folders.path(other)}; make them agree")
        return Settings(file, classes, _entries(folders))
    settings = _settings(folders, file)
    entries = {split: settings[key] for split, key in split_files(where, settings).items()}
    base = settings.get("path")
    shape = _keypoints(settings, where)
    classes = _classes(settings, where)
    return Settings(file, classes, entries, base if isinstance(base, str) else "", shape, tuple(settings))


def _keypoints(settings: Mapping[str, Any], where: Any) -> tuple[int, int] | None:
    shape = settings.get("kpt_shape")
    if shape is None:
        return None
    numbers = [_integer(one) if isinstance(one, str) else None for one in shape] if isinstance(shape, list) else []
    if len(numbers) != 2 or not numbers[0] or numbers[1] not in (2, 3):
        raise DataError(f"{where}: kpt_shape is {told(shape)}; expected [points, 2] or [points, 3]")
    return numbers[0], numbers[1]


def _names_files(folders: Folders) -> list[str]:
    """Lists of names, in the base or else where labels lie."""
    splits = list(split_names(folders.base, folders.folders()).values())
    labels = [join("labels", name) for name in folders.folders("labels")]
    for place in ([""], ["labels", *labels, *splits]):
        found = [join(one, name) for one in place for name in NAMES if name in folders.entries(one)]
        if found:
            return list(dict.fromkeys(found))
    return []


def _names(folders: Folders, file: str) -> list[str]:
    lines = [line.strip() for line in folders.read_text(file, MOST).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return _classes({"names": lines}, folders.path(file))


def _entries(folders: Folders) -> dict[str, str]:
    """Where pictures lie that no file names: lists and folders that are called after splits, or all there are."""
    lists = split_files(folders.base, folders.files("", ".txt"), ".txt")
    listed = {split: name for split, name in lists.items() if _lists_images(folders, name)}
    if listed:
        return listed
    for place in ("images", ""):
        splits = split_names(folders.path(place), folders.folders(place))
        found = {split: join(place, name) for split, name in splits.items()}
        found = {split: name for split, name in found.items() if folders.pictures(name).pictures}
        if "train" in found:
            return found
    return {WHOLE: "images" if folders.pictures("images").pictures else "."}


def _lists_images(folders: Folders, file: str) -> bool:
    lines = (line.strip() for line in folders.read_text(file).split("\n"))
    return is_image(PurePosixPath(next(filter(None, lines), "").replace("\\", "/")))


def _has_labels(folders: Folders) -> bool:
    """Whether a picture has a label file."""
    places = [place for place in _entries(folders).values() if not place.endswith(".txt")]
    pictures = [name for place in places for name in folders.pictures(place.removeprefix(".")).pictures[:LOOKED]]
    return not places or any(folders.has(label) for name in pictures for label in label_names(name))


def label_names(image: str) -> list[str]:
    """images/train/1.jpg -> labels/train/1.txt: the last folder `images` changed; then images/train/1.txt, beside the
    image. A folder without `images` in its path has the second alone."""
    *above, last = image.split("/")
    name = f"{PurePosixPath(last).stem}.txt"
    beside = "/".join([*above, name])
    if "images" not in above:
        return [beside]
    place = len(above) - 1 - above[::-1].index("images")
    return ["/".join([*above[:place], "labels", *above[place + 1 :], name]), beside]


def _darknet(folders: Folders, file: str) -> Settings:
    """`key = value` lines; paths in it are often of the machine that trained."""
    where = folders.path(file)
    keys: dict[str, str] = {}
    for number, line in enumerate(folders.read_text(file, MOST).split("\n"), start=1):
        text = line.partition("#")[0].strip()
        key, equals, value = (part.strip() for part in text.partition("="))
        if text and not (equals and key):
            raise DataError(f"{where}: line {number}: {told(text)}; expected KEY = VALUE")
        if text:
            keys[key.lower()] = value
    if not keys.get("names"):
        raise DataError(f"{where}: has no names; expected names = FILE{did_you_mean('names', keys)}")
    found = find_listed(folders, [keys["names"]])
    if not found.names[0]:
        raise DataError(f"{where}: names: no file {told(keys['names'])} below {folders.base}")
    classes = _names(folders, found.names[0])
    number = keys.get("classes")
    if number is not None and _integer(number) != len(classes):
        names = folders.path(found.names[0])
        raise DataError(f"{where}: classes is {told(number)}, and {names} has {count(len(classes), 'name')}")
    entries = {split: keys[key] for split, key in split_files(where, keys).items()}
    lists = find_listed(folders, list(entries.values()))  # "data/train.txt", and here is train.txt
    entries = {split: name or entries[split] for split, name in zip(entries, lists.names, strict=True)}
    return Settings(file, classes, entries, keys=tuple(keys))


def _settings(folders: Folders, file: str) -> dict[str, Any]:
    """The mapping of data.yaml with plain text as values, lists and mappings one level deep.

    Reads the nodes instead of building objects: no tag means anything, an alias costs nothing, and a class may be
    called `yes` or `no`.
    """
    path = folders.path(file)
    text = folders.read_text(file, MOST)
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
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
