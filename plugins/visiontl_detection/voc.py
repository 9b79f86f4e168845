"""Pascal VOC: Annotations/*.xml, JPEGImages, ImageSets/Main/{train,val,test,trainval}.txt.

Coordinates are taken as they are written. The challenge's own files count pixels from 1 and include the last one;
annotation tools write the same format with edges from 0, and no file says which it is.
"""

from __future__ import annotations

import math
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from xml.parsers import expat

import numpy as np

from visiontl import DataError
from visiontl.kit.bad_annotations import BadAnnotations
from visiontl.kit.folders import Folders, by_stem, join, named, relative
from visiontl.kit.headers import image_sizes
from visiontl.kit.images import is_image
from visiontl.kit.splits import WHOLE, split_files, split_names
from visiontl.kit.words import count, did_you_mean, refusal, some, told
from visiontl_detection.config import DataConfig
from visiontl_detection.listing import Annotated, Listing

MOST = 10_000_000  # bytes of a file
LISTS = "ImageSets/Main"
XML_FOLDERS = ("annotations", "annotation", "xml", "xmls")
PICTURE_FOLDERS = ("JPEGImages", "images", "Images", "imgs", "img", "")
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Record:
    """One XML file. filename: the image that it names. names: the class of each object."""

    filename: str
    size: tuple[int, int] | None
    boxes: Sequence[tuple[float, ...]]
    names: Sequence[str]
    difficult: Sequence[bool]


@dataclass(frozen=True)
class Home:
    """folder: what it is called in messages, and where lists are. xml: the folder of the XML files. pictures: folders
    in which the images may be."""

    folder: str
    xml: str
    pictures: tuple[str, ...]


@dataclass
class BadRecords:
    """Objects that cannot be used: what is wrong with each, and how many objects there are at all."""

    policy: BadAnnotations
    problems: list[str] = field(default_factory=list[str])
    total: int = 0


@dataclass(frozen=True)
class Pictures:
    """The folder of images, by name without and with the extension."""

    folder: str
    stems: Mapping[str, Sequence[str]]
    files: frozenset[str]


def source(folders: Folders) -> dict[str, Home]:
    """Split (or WHOLE) -> where its XML files and images are; empty where the layout is not VOC's.

    A folder with Annotations in it: the base, or the only one a level or two (VOCdevkit/VOC2007) below. Else XML files
    beside photos, in the base or in folders of splits, as labelImg and Roboflow write them.
    """
    levels = [[""], folders.folders("")]
    levels.append([join(above, name) for above in levels[1] if above == "VOCdevkit" for name in folders.folders(above)])
    splits = split_names(folders.base, levels[1])
    for level in levels:
        found = [home for folder in level if (home := _home(folders, folder)) is not None]
        if len(found) > 1 and {home.folder for home in found} <= set(splits.values()):
            return {split: home for split, name in splits.items() for home in found if home.folder == name}
        if len(found) > 1:
            raise DataError(
                f"{folders.base}: {some(home.folder for home in found)} each hold Annotations; name one as the folder, "
                "or bring them together"
            )
        if found:
            return {splits_back(splits).get(found[0].folder, WHOLE): found[0]}
    return {}


def splits_back(splits: Mapping[str, str]) -> dict[str, str]:
    """{a folder's name: its split}"""
    return {name: split for split, name in splits.items()}


def _home(folders: Folders, folder: str) -> Home | None:
    for name in folders.folders(folder):
        if name.lower() in XML_FOLDERS and folders.files(join(folder, name), ".xml"):
            return Home(folder, join(folder, name), tuple(join(folder, one) for one in PICTURE_FOLDERS))
    stems = {PurePosixPath(name).stem for name in folders.files(folder, ".xml")}
    beside = [name for name in folders.files(folder) if is_image(PurePosixPath(name))]
    if stems and any(PurePosixPath(name).stem in stems for name in beside):
        return Home(folder, folder, (folder,))
    return None


def read(folders: Folders, cfg: DataConfig) -> Listing:
    """Raises DataError, naming the file, for whatever is not as VOC's format has it."""
    homes = source(folders)
    notes: list[str] = []
    given = [f"task.data.{one}" for one in ("train", "val", "test") if getattr(cfg, one) is not None]
    if given and WHOLE not in homes:
        raise DataError(
            f"{folders.base}: its folders {some(homes)} are the splits, and {' and '.join(given)} would name lists of "
            "images; leave out either"
        )
    stems: dict[str, list[str]] = {}
    home_of: dict[str, Home] = {}
    for split, home in homes.items():
        for part, names in _stems(folders, cfg, split, home, notes).items():
            stems[part], home_of[part] = names, home
    records: dict[str, list[Record]] = {}
    for split, part in stems.items():
        bad = BadRecords(cfg.bad_annotations())
        records[split] = [_record(folders, home_of[split].xml, stem, bad) for stem in part]
        notes += bad.policy.settle(folders.path(home_of[split].xml), split, bad.problems, bad.total)
    classes = sorted({name for part in records.values() for record in part for name in record.names})
    index = {name: i for i, name in enumerate(classes)}
    parts = {}
    for split, part in records.items():
        names = _image_names(_pictures(folders, cfg, home_of[split]), folders, stems[split], part)
        sizes = _sizes(folders, split, names, part, notes)
        parts[split] = [
            _annotated(name, size, record, index, cfg.difficult == "ignore")
            for name, size, record in zip(names, sizes, part, strict=True)
        ]
        difficult = sum(sum(record.difficult) for record in part)
        if difficult:
            treated = "neither learned nor counted" if cfg.difficult == "ignore" else "used as any other"
            notes.append(f"{split}: {count(difficult, 'box')} marked difficult, {treated} (task.data.difficult)")
    where = folders.base if len(homes) > 1 else str(folders.path(next(iter(homes.values())).folder))
    return Listing(folders.base, parts, classes, None, notes, where)


def _stems(folders: Folders, cfg: DataConfig, split: str, home: Home, notes: list[str]) -> dict[str, list[str]]:
    """Split -> names without extension: of the lists, or all XML files."""
    available = [PurePosixPath(name).stem for name in folders.files(home.xml, ".xml")]
    known = set(available)
    lists = _lists(folders, cfg, home.folder, notes) if split == WHOLE else {}
    forms = {unicodedata.normalize("NFC", stem): stem for stem in available}
    stems = {one: _read_list(folders, name, forms, known) for one, name in lists.items()}
    where = folders.path(home.folder)
    if not stems:
        bare = sorted(set(_pictures(folders, cfg, home).stems) - set(forms))
        if bare:
            notes.append(f"{where}: {count(len(bare), 'image')} without annotations, not used: {some(bare)}")
        return {split: available}
    listed = {stem for part in stems.values() for stem in part}
    left = [stem for stem in available if stem not in listed]
    if left:
        notes.append(f"{where}: {count(len(left), 'annotation')} in no list, not used: {some(left)}")
    for one, part in stems.items():
        absent = [stem for stem in part if stem not in known]
        if absent:
            raise DataError(
                f"{folders.path(lists[one])}: {len(absent):,} of {count(len(part), 'name')} without an XML file in "
                f"{folders.path(home.xml)}: {some(absent)}"
                f"{did_you_mean(absent[0], available) if len(available) < 20_000 else ''}"
            )
    return stems


def _pictures(folders: Folders, cfg: DataConfig, home: Home) -> Pictures:
    tried = list(home.pictures)
    if cfg.images is not None:
        try:
            tried = [folders.within(cfg.images)]
        except ValueError as error:
            raise DataError(f"task.data.images: {error}") from None
    for place in tried:
        files = [name for name in folders.entries(place) if is_image(PurePosixPath(name))]
        if files:
            return Pictures(place, by_stem(files), frozenset(files))
    looked = ", ".join(str(folders.path(place)) for place in tried)
    raise DataError(
        f"{folders.path(home.folder)}: no images; looked in {looked}; name their folder in task.data.images"
    )


def _lists(folders: Folders, cfg: DataConfig, folder: str, notes: list[str]) -> dict[str, str]:
    """Split -> list file."""
    if cfg.train is not None:
        given = {"train": cfg.train, "val": cfg.val, "test": cfg.test}
        return {split: _named(folders, folder, split, value) for split, value in given.items() if value is not None}
    place = join(folder, LISTS)
    found = folders.files(place, ".txt")
    lists = {split: join(place, name) for split, name in split_files(folders.path(place), found, ".txt").items()}
    if "trainval.txt" in found and "train" in lists:
        notes.append(f"{folders.path(place)}: trainval.txt is not used beside train.txt")
    elif "trainval.txt" in found:
        lists = {"train": join(place, "trainval.txt"), **lists}
    return lists


def _named(folders: Folders, folder: str, split: str, value: str) -> str:
    """VOC's own place for lists need not be spelt out: train=trainval.txt."""
    short = join(folder, f"{LISTS}/{value}")
    return short if "/" not in value and folders.has(short) else named(folders, f"task.data.{split}", value)


def _read_list(folders: Folders, name: str, forms: Mapping[str, str], known: Container[str]) -> list[str]:
    """Names without extension, one a line. forms: {in NFC: as the XML file is called}. known: what XML files are there
    of, for a name may end in a blank and a number."""
    path = folders.path(name)
    stems, problems = [], []
    for number, line in enumerate(folders.read_text(name, MOST).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            stem = relative(line.strip())
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        words = stem.split()
        if not words:
            problems.append(f"line {number}: {told(line)} names nothing; expected the name of one image")
        elif "/" in stem:
            problems.append(f"line {number}: {told(stem)} names a folder; expected the name of one image")
        elif words[-1] in ("-1", "0", "1") and len(words) == 2 and _bare(stem, forms) not in known:
            problems.append(f"line {number}: {told(stem)} is of a class's own list; expected one name a line")
        stems.append(_bare(stem, forms))
    if problems:
        raise refusal(path, problems)
    if not stems:
        raise DataError(f"{path}: lists no image; remove it, or name some")
    return stems


def _bare(name: str, forms: Mapping[str, str]) -> str:
    stem = name.rpartition(".")[0] if is_image(PurePosixPath(name)) else name
    return forms.get(unicodedata.normalize("NFC", stem), stem)


def _record(folders: Folders, xml: str, stem: str, bad: BadRecords) -> Record:
    name = join(xml, f"{stem}.xml")
    path = folders.path(name)
    root = _tree(path, folders.read(name, MOST))
    if root.tag != "annotation":
        raise DataError(f"{path}: its root is <{told(root.tag)}>; expected <annotation>")
    problems: list[str] = []
    boxes, names, difficult = [], [], []
    for number, one in enumerate(root.findall("object"), start=1):
        bad.total += 1
        called = f"object {number}"
        text = (one.findtext("name") or "").strip()
        if not text:
            problems.append(f"{called} has no <name>")
            continue
        frame = one.find("bndbox")
        if frame is None:
            problems.append(f"{called} ({told(text)}) has no <bndbox>")
            continue
        corners = [frame.findtext(corner) for corner in CORNERS]
        values = [_number(corner) for corner in corners]
        wrong = [f"<{CORNERS[i]}> is {_said(corners[i])}" for i, value in enumerate(values) if value is None]
        flag = (one.findtext("difficult") or "0").strip()
        if flag not in ("0", "1"):
            wrong.append(f"<difficult> is {_said(flag)}, expected 0 or 1")
        if wrong:
            problems.append(f"{called} ({told(text)}): {', '.join(wrong)}")
            continue
        boxes.append(tuple(value for value in values if value is not None))
        names.append(text)
        difficult.append(flag == "1")
    if bad.policy.on_bad == "error":
        bad.policy.settle(path, "", problems, bad.total)
    bad.problems += [f"{stem}.xml: {problem}" for problem in problems]
    wrong_size: list[str] = []
    size = _size(root, wrong_size)
    if wrong_size:
        raise refusal(path, wrong_size)
    return Record((root.findtext("filename") or "").strip(), size, boxes, names, difficult)


def _tree(path: Any, content: bytes) -> ElementTree.Element:
    """The root of an XML file. A document type is refused where it begins, so no entity is ever unfolded."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*declared: Any) -> None:
        raise DataError(
            f"{path}: declares a document type (<!DOCTYPE>); annotations need none, and entities are refused"
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
        return builder.close()
    except expat.ExpatError as error:
        what = expat.errors.messages[error.code]
        said = _not_utf8(content)
        if said:
            raise DataError(f"{path}: {said}") from None
        raise DataError(f"{path}: not valid XML: {what} (line {error.lineno}, column {error.offset + 1})") from None
    except (ValueError, LookupError) as error:  # an encoding that is not known
        raise DataError(f"{path}: not valid XML: {error}") from None


def _not_utf8(content: bytes) -> str:
    """What to say of a file that declares no encoding, and so has to be UTF-8, but is not; "" for others."""
    head = content[:200].split(b"?>")[0]
    if b"encoding" in head and b"utf-8" not in head.lower():
        return ""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        word = re.split(rb"[\s<>]", content[: error.start])[-1] + re.split(rb"[\s<>]", content[error.start :])[0]
        likely = f", {told(word.decode('cp1252', 'replace'))} in Windows-1252," if word else ""
        return (
            f"not UTF-8 text (byte {content[error.start]:#04x} at {error.start:,}){likely} and it declares no other "
            'encoding: save it as UTF-8, or begin it with <?xml version="1.0" encoding="windows-1252"?>'
        )
    return ""


def _size(root: ElementTree.Element, problems: list[str]) -> tuple[int, int] | None:
    """(H, W); None where it is not stated, or as 0, which some tools write."""
    texts = [root.findtext(f"size/{side}") for side in ("height", "width")]
    values = [0.0 if text is None else _number(text) for text in texts]
    for side, text, value in zip(("height", "width"), texts, values, strict=True):
        if value is None or not math.isfinite(value) or value < 0:
            problems.append(f"<size>: <{side}> is {_said(text)}, expected a whole number")
            return None
    height, width = (int(value or 0) for value in values)
    return (height, width) if height and width else None


def _number(text: str | None) -> float | None:
    """NaN and infinity are numbers here: boxes.cleaned leaves such a box out."""
    try:
        return float(text) if text is not None and "_" not in text else None
    except ValueError:
        return None


def _said(text: str | None) -> str:
    return "absent" if text is None else f"{told(repr(text))}, no number" if _number(text) is None else told(text)


def _image_names(pictures: Pictures, folders: Folders, stems: Sequence[str], records: Sequence[Record]) -> list[str]:
    """The image of each XML file: of the same name, else the one that the XML names. Raises DataError for missing."""
    names, missing = [], []
    for stem, record in zip(stems, records, strict=True):
        candidates = pictures.stems.get(unicodedata.normalize("NFC", stem), ())
        if len(candidates) > 1 and record.filename not in candidates:
            raise DataError(
                f"{folders.path(pictures.folder)}: {some(candidates)}: which one is {stem}.xml about? Name it in its "
                "<filename>, or remove the others"
            )
        chosen = candidates[0] if len(candidates) == 1 else record.filename if record.filename in pictures.files else ""
        name = join(pictures.folder, chosen)
        if chosen and folders.has(name):
            names.append(name)
        else:
            missing.append(stem)
    if missing:
        raise DataError(
            f"{folders.path(pictures.folder)}: {len(missing):,} of {count(len(stems), 'image')} not found: "
            f"{some(missing)}"
        )
    return names


def _sizes(
    folders: Folders, split: str, names: Sequence[str], records: Sequence[Record], notes: list[str]
) -> list[tuple[int, int] | None]:
    sizes = [record.size for record in records]
    unknown = [i for i, size in enumerate(sizes) if size is None]
    if unknown:
        for i, size in zip(unknown, image_sizes(folders.base, [names[i] for i in unknown]), strict=True):
            sizes[i] = size
        notes.append(f"{split}: {count(len(unknown), 'annotation')} without the image's size; read from the files")
    return sizes


def _annotated(
    name: str, size: tuple[int, int] | None, record: Record, index: Mapping[str, int], ignore: bool
) -> Annotated:
    number = len(record.boxes)
    return Annotated(
        name,
        size,
        np.array(record.boxes, dtype=np.float64).reshape(-1, 4),
        np.array([index[text] for text in record.names], dtype=np.int64),
        np.array(record.difficult, dtype=bool) & ignore,
        np.full(number, np.nan),
        [f"object {i + 1}" for i in range(number)],
    )
