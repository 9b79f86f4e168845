"""Bad annotations of every format: each is refused in a few words that name the file, or counted and told."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from visiontl_detection.data import data
from visiontl_detection.readers import read

from tests.bad_input.outcome import check_words, tree
from tests.detection import made
from tests.detection.made import picture, source, write
from visiontl import ConfigError, DataError, ImageSpec


@dataclass(frozen=True)
class Bad:
    """spoil: makes a sound set bad. words: all of them stand in the error, or (told) in one note."""

    name: str
    format: str
    spoil: Callable[[Path], Any]
    words: tuple[str, ...]
    told: bool = False
    keys: tuple[tuple[str, Any], ...] = ()


def changed(change: Callable[[dict], Any], file: str = "annotations/train.json") -> Callable[[Path], None]:
    """Spoils by a change of the JSON."""

    def spoil(root: Path) -> None:
        content = json.loads((root / file).read_text())
        change(content)
        write(root / file, json.dumps(content))

    return spoil


def image(**keys: Any) -> Callable[[Path], None]:
    return changed(lambda content: content["images"][0].update(keys))


def annotation(**keys: Any) -> Callable[[Path], None]:
    return changed(lambda content: content["annotations"][0].update(keys))


def category(**keys: Any) -> Callable[[Path], None]:
    return changed(lambda content: content["categories"][0].update(keys))


def written(file: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda root: write(root / file, content)


def replaced(file: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        content = (root / file).read_text()
        assert old in content
        write(root / file, content.replace(old, new, 1))

    return spoil


def removed(*files: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for file in files:
            (root / file).unlink()

    return spoil


def huge(file: str, size: int) -> Callable[[Path], None]:
    """Sparse: costs no disk."""
    return lambda root: os.truncate(root / file, size)


def pipe(file: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / file).unlink()
        os.mkfifo(root / file)

    return spoil


TRAIN = "annotations/train.json"
A_XML = "Annotations/a.xml"
A_TXT = "labels/train/a.txt"
MAIN = "ImageSets/Main/train.txt"
CORNER = "<xmin>4</xmin>"
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><annotation><object><name>&i;</name></object></annotation>"
)

COCO = [
    Bad("no JSON", "coco", written(TRAIN, "{"), (TRAIN, "not valid JSON", "line 1")),
    Bad("empty file", "coco", written(TRAIN, ""), (TRAIN, "not valid JSON")),
    Bad("a list", "coco", written(TRAIN, "[1, 2]"), (TRAIN, "holds a list")),
    Bad("null", "coco", written(TRAIN, "null"), (TRAIN, "holds null")),
    Bad("bytes", "coco", written(TRAIN, b"\xff\xfe\x00\x01\xff"), (TRAIN,)),
    Bad("deeply nested", "coco", written(TRAIN, "[" * 200_000), (TRAIN, "nested too deeply")),
    Bad("a number of 10,000 digits", "coco", written(TRAIN, '{"images": ' + "1" * 10_000 + "}"), (TRAIN, "not valid")),
    Bad("5 GiB", "coco", huge(TRAIN, 5 << 30), (TRAIN, "bytes")),
    Bad("a pipe", "coco", pipe(TRAIN), (TRAIN, "no regular file")),
    Bad("no images key", "coco", changed(lambda c: c.pop("images")), (TRAIN, "'images'")),
    Bad("no annotations key", "coco", changed(lambda c: c.update(anotations=c.pop("annotations"))),
        (TRAIN, "did you mean 'anotations'")),
    Bad("no categories", "coco", changed(lambda c: c.update(categories=[])), (TRAIN, "categories is empty")),
    Bad("images is an object", "coco", changed(lambda c: c.update(images={})), (TRAIN, "images is an object")),
    Bad("an image is text", "coco", changed(lambda c: c["images"].append("x")), (TRAIN, "images[3] is text")),
    Bad("no images", "coco", changed(lambda c: c.update(images=[], annotations=[])), (TRAIN, "images is empty")),
    Bad("image id twice", "coco", image(id=101), (TRAIN, "image id 101 stands twice")),
    Bad("image id is a list", "coco", image(id=[1]), (TRAIN, "images[0]", "a list")),
    Bad("image listed twice", "coco", image(file_name="b.png"), (TRAIN, "b.png is listed twice")),
    Bad("image in two splits", "coco", image(file_name="d.png"), ("images/d.png", "train", "val", "one split")),
    Bad("no file name", "coco", image(file_name=None), (TRAIN, "None is no file name")),
    Bad("a number as file name", "coco", image(file_name=7), (TRAIN, "7 is no file name")),
    Bad("an empty file name", "coco", image(file_name=""), (TRAIN, "no file can have the name")),
    Bad("an absolute file name", "coco", image(file_name="/etc/passwd"), (TRAIN, "/etc/passwd", "lies outside of")),
    Bad("a file name above", "coco", image(file_name="../../a.png"), (TRAIN, "../../a.png", "leaves")),
    Bad("a detour above", "coco", image(file_name="x/../../a.png"), (TRAIN, "leaves")),
    Bad("a zero in a file name", "coco", image(file_name="a\0.png"), (TRAIN, "no file can have the name")),
    Bad("half a character", "coco", image(file_name="\ud800.png"), (TRAIN, "no file can have the name")),
    Bad("lines in a file name", "coco", image(file_name="a\n" * 40), (TRAIN, "not found")),
    Bad("a long file name", "coco", image(file_name="a" * 5000), (TRAIN, "no file can have the name")),
    Bad("a missing image", "coco", removed("images/b.png"), (TRAIN, "1 of 3 images not found", "images/b.png")),
    Bad("all images missing", "coco", lambda root: shutil.rmtree(root / "images"),
        (TRAIN, "no folder holds a.png", "looked in", "task.data.images")),
    Bad("an image is a pipe", "coco", pipe("images/b.png"), (TRAIN, "images/b.png")),
    Bad("width is text", "coco", image(width="64"), (TRAIN, 'width "64"')),
    Bad("a negative width", "coco", image(width=-64), (TRAIN, "width -64")),
    Bad("an infinite width", "coco", image(width=float("inf")), (TRAIN, "width Infinity")),
    Bad("annotation id twice", "coco", annotation(id=2), (TRAIN, "annotation 2 stands twice")),
    Bad("annotation id is an object", "coco", annotation(id={}), (TRAIN, "annotations[0]")),
    Bad("an unknown image", "coco", annotation(image_id=9), (TRAIN, "annotation 1", "no image has the id 9")),
    Bad("image id of another type", "coco", annotation(image_id=True), (TRAIN, "no image has the id True")),
    Bad("an unknown category", "coco", annotation(category_id=5), (TRAIN, "no category has the id 5", "1, 2")),
    Bad("category as text", "coco", annotation(category_id="1"), (TRAIN, "no category has the id '1'")),
    Bad("numbers as text", "coco", annotation(bbox=["4", "8", "16", "16"]), (TRAIN, "annotation 1", "4 numbers")),
    Bad("three numbers", "coco", annotation(bbox=[1, 2, 3]), (TRAIN, "[1, 2, 3]", "4 numbers")),
    Bad("no box", "coco", annotation(bbox=None), (TRAIN, "bbox is null")),
    Bad("truth as a number", "coco", annotation(bbox=[1, 2, True, 4]), (TRAIN, "4 numbers")),
    Bad("area is text", "coco", annotation(area="big"), (TRAIN, 'area is "big"')),
    Bad("a crowd of two", "coco", annotation(iscrowd=2), (TRAIN, "iscrowd is 2")),
    Bad("crowd as text", "coco", annotation(iscrowd="0"), (TRAIN, "iscrowd")),
    Bad("many mistakes", "coco", changed(lambda c: [one.update(bbox=0) for one in c["annotations"] * 9]),
        (TRAIN, "4 errors")),
    Bad("category id twice", "coco", category(id=2), (TRAIN, "category id 2 stands twice")),
    Bad("category name twice", "coco", category(name="dog"), (TRAIN, "dog")),
    Bad("category without a name", "coco", category(name=" "), (TRAIN, "categories[0]")),
    Bad("a huge category id", "coco", category(id=10**30), (TRAIN, "categories[0]")),
    Bad("categories disagree", "coco", changed(lambda c: c["categories"][0].update(name="cow"), "annotations/val.json"),
        ("annotations/val.json", "category id 1 is cow here and cat")),
    Bad("a class without a box", "coco", changed(lambda c: c["categories"].append({"id": 3, "name": "eel"})),
        ("no training box of 1 class: eel",)),
    Bad("a class only in val", "coco", changed(lambda c: c.update(annotations=c["annotations"][:1])),
        ("no training box of 1 class: dog", "only in val and test")),
    Bad("two files for train", "coco",
        lambda root: shutil.copy(root / TRAIN, root / "annotations/instances_train.json"),
        ("annotations", "are both train", "task.data.train")),
    Bad("files of other names", "coco",
        lambda root: [path.rename(path.with_stem(f"x{path.stem}")) for path in root.glob("annotations/*")],
        ("xtrain.json", "task.data.train")),
    Bad("only val", "coco", removed(TRAIN, "annotations/test.json"), ("has val and no train",)),
    Bad("a named file is absent", "coco", lambda root: None, ("annotations/trian.json", "no such file", TRAIN),
        keys=(("train", "annotations/trian.json"),)),
    Bad("a named file above", "coco", lambda root: None, ("../a.json", "leaves"), keys=(("train", "../a.json"),)),
    Bad("named images above", "coco", lambda root: None, ("task.data.images", "leaves"), keys=(("images", ".."),)),
    Bad("named images absent", "coco", lambda root: None, ("task.data.images", "'images'"),
        keys=(("images", "imges"),)),
    Bad("NaN", "coco", annotation(bbox=[float("nan"), 1, 2, 3]), ("train: 1 box", "finite", "annotation 1"), told=True),
    Bad("a number beyond floats", "coco", annotation(bbox=[10**400, 1, 2, 3]), ("train: 1 box", "finite"), told=True),
    Bad("a negative box", "coco", annotation(bbox=[20, 20, -4, 8]), ("train: 1 box of negative",), told=True),
    Bad("a box far outside", "coco", annotation(bbox=[1e6, 1, 4, 8]), ("train: 1 box wholly outside",), told=True),
    Bad("an infinitely wide box", "coco", annotation(bbox=[1e308, 1, 1e308, 8]), ("train: 1 box", "finite"), told=True),
]  # fmt: skip

VOC = [
    Bad("no XML", "voc", written(A_XML, "photo"), (A_XML, "not valid XML")),
    Bad("an empty file", "voc", written(A_XML, ""), (A_XML, "not valid XML")),
    Bad("cut off", "voc", written(A_XML, "<annotation><object>"), (A_XML, "not valid XML")),
    Bad("an entity bomb", "voc", written(A_XML, BOMB), (A_XML, "<!DOCTYPE>")),
    Bad("an entity bomb in UTF-16", "voc", written(A_XML, BOMB.encode("utf-16")), (A_XML, "<!DOCTYPE>")),
    Bad("an outer entity", "voc",
        written(A_XML, '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>'),
        (A_XML, "<!DOCTYPE>")),
    Bad("an unknown encoding", "voc", written(A_XML, '<?xml version="1.0" encoding="moon"?><annotation/>'), (A_XML,)),
    Bad("deeply nested", "voc", written(A_XML, "<a>" * 200_000 + "</a>" * 200_000), (A_XML, "root is <a>")),
    Bad("11 MB", "voc", huge(A_XML, 11_000_000), (A_XML, "bytes")),
    Bad("an HTML page", "voc", written(A_XML, "<html><body>404</body></html>"), (A_XML, "root is <html>")),
    Bad("no class name", "voc", replaced(A_XML, "<name>cat</name>", "<name> </name>"), (A_XML, "object 1", "<name>")),
    Bad("no box", "voc", replaced(A_XML, "bndbox>", "box>"), (A_XML,)),
    Bad("an empty box", "voc", written(A_XML, "<annotation><object><name>cat</name><bndbox/></object></annotation>"),
        (A_XML, "object 1 (cat)", "<xmin> is absent")),
    Bad("no bndbox", "voc", written(A_XML, "<annotation><object><name>cat</name></object></annotation>"),
        (A_XML, "object 1 (cat) has no <bndbox>")),
    Bad("words as numbers", "voc", replaced(A_XML, CORNER, "<xmin>four</xmin>"), (A_XML, "<xmin> is 'four'")),
    Bad("an underscore", "voc", replaced(A_XML, CORNER, "<xmin>1_0</xmin>"), (A_XML, "<xmin>")),
    Bad("difficult as a word", "voc", replaced(A_XML, "<difficult>0", "<difficult>no"), (A_XML, "<difficult>")),
    Bad("width as a word", "voc", replaced(A_XML, "<width>64", "<width>wide"), (A_XML, "<width> is 'wide'")),
    Bad("an infinite width", "voc", replaced(A_XML, "<width>64", "<width>inf"), (A_XML, "<width>")),
    Bad("a missing XML", "voc", removed(A_XML), (MAIN, "1 of 3 names without an XML file", ": a")),
    Bad("a missing image", "voc", removed("JPEGImages/a.png"), ("JPEGImages", "1 of 3 images not found: a")),
    Bad("no images", "voc", lambda root: shutil.rmtree(root / "JPEGImages"), ("no images", "task.data.images")),
    Bad("two images of a name", "voc", lambda root: [picture(root / f"JPEGImages/a.{end}") for end in ("jpg", "bmp")]
        and replaced(A_XML, "a.png", "x.png")(root), ("a.bmp, a.jpg, a.png", "a.xml")),
    Bad("a name twice", "voc", written(MAIN, "a\nb\nc\na\n"), ("a.png is listed 2 times in train",)),
    Bad("a name in two lists", "voc", written(MAIN, "a\nb\nc\nd\n"), ("d.png is in train and in val",)),
    Bad("an empty list", "voc", written(MAIN, "\n"), (MAIN, "lists no image")),
    Bad("a class's list", "voc", written(MAIN, "a 1\nb -1\n"), (MAIN, "line 1", "one name a line")),
    Bad("a path in a list", "voc", written(MAIN, "a\n../b\n"), (MAIN, "line 2", "leaves")),
    Bad("an absolute path in a list", "voc", written(MAIN, "/etc/passwd\n"), (MAIN, "line 1", "leaves")),
    Bad("a folder in a list", "voc", written(MAIN, "x/b\n"), (MAIN, "line 1", "names a folder")),
    Bad("bytes as list", "voc", written(MAIN, b"a\xff\n"), (MAIN, "not UTF-8")),
    Bad("a named list is absent", "voc", lambda root: None, ("task.data.train", "tran.txt", "no such file"),
        keys=(("train", "tran.txt"),)),
    Bad("no boxes at all", "voc", lambda root: [write(path, "<annotation/>") for path in root.glob("Annotations/*")],
        ("no image has a box",)),
    Bad("an annotation in no list", "voc", written("Annotations/z.xml", "<annotation/>"),
        ("1 annotation in no list", ": z"), told=True),
    Bad("NaN", "voc", replaced(A_XML, CORNER, "<xmin>nan</xmin>"), ("train: 1 box", "object 1"), told=True),
]  # fmt: skip

YOLO = [
    Bad("no YAML", "yolo", written("data.yaml", "names: [cat\ntrain: ]["), ("data.yaml", "not valid YAML")),
    Bad("an empty YAML", "yolo", written("data.yaml", ""), ("data.yaml", "holds no keys")),
    Bad("a list as YAML", "yolo", written("data.yaml", "- train\n"), ("data.yaml", "holds no keys")),
    Bad("bytes as YAML", "yolo", written("data.yaml", b"\xff\xfe\xfd"), ("data.yaml", "not UTF-8")),
    Bad("a zero in YAML", "yolo", written("data.yaml", "names: [a\0b]"), ("data.yaml", "not valid YAML")),
    Bad("deeply nested YAML", "yolo", written("data.yaml", "names: " + "[" * 5000), ("data.yaml", "nested too deeply")),
    Bad("an alias bomb", "yolo", written("data.yaml", "a: &a [x,x,x]\n" + "".join(
        f"{b}: &{b} [*{a},*{a},*{a},*{a}]\n" for a, b in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True)
    ) + "names: *q\ntrain: images/train\n"), ("data.yaml", "names")),
    Bad("a tag that runs code", "yolo",
        written("data.yaml", "names: !!python/object/apply:os.system ['touch hacked']\ntrain: images/train\n"),
        (A_TXT, "names 1 class")),
    Bad("a huge YAML", "yolo", huge("data.yaml", 11_000_000), ("data.yaml", "bytes")),
    Bad("a key twice", "yolo", replaced("data.yaml", "nc: 2", "names: [a]"), ("data.yaml", "names stands twice")),
    Bad("no names", "yolo", replaced("data.yaml", "names:", "name:"), ("data.yaml", "no names", "did you mean 'name'")),
    Bad("names is text", "yolo", replaced("data.yaml", "[cat, dog]", "cat"), ("data.yaml", "names is cat")),
    Bad("names is empty", "yolo", replaced("data.yaml", "[cat, dog]", "[]"), ("data.yaml", "names is empty")),
    Bad("names with a gap", "yolo", replaced("data.yaml", "[cat, dog]", "{0: cat, 2: dog}"), ("data.yaml", "0 to 1")),
    Bad("a name twice", "yolo", replaced("data.yaml", "[cat, dog]", "[cat, cat]"), ("data.yaml", "cat stands twice")),
    Bad("a name that is a list", "yolo", replaced("data.yaml", "[cat, dog]", "[cat, [dog]]"), ("data.yaml", "class 1")),
    Bad("another nc", "yolo", replaced("data.yaml", "nc: 2", "nc: 3"), ("data.yaml", "nc is 3", "2 names")),
    Bad("nc is a word", "yolo", replaced("data.yaml", "nc: 2", "nc: two"), ("data.yaml", "nc is two")),
    Bad("no splits", "yolo", written("data.yaml", "names: [cat, dog]"), ("data.yaml", "names no images")),
    Bad("train is a mapping", "yolo", replaced("data.yaml", "images/train", "{a: b}"), ("data.yaml: train",)),
    Bad("an absent folder", "yolo", replaced("data.yaml", "images/train", "images/tran"), ("images/tran", "no folder")),
    Bad("a folder above", "yolo", replaced("data.yaml", "images/train", "../../x"), ("data.yaml: train", "leaves")),
    Bad("an absolute folder", "yolo", replaced("data.yaml", "images/train", "/etc"),
        ("data.yaml: train", "lies outside of")),
    Bad("a folder without images", "yolo", replaced("data.yaml", "images/train", "labels/train"),
        ("data.yaml: train", "holds no images")),
    # said by the data set's own file, as by that of coco128: told, and not refused
    Bad("one folder for two splits", "yolo", replaced("data.yaml", "images/val", "images/train"),
        ("data.yaml", "3 images in train and in val", "a.png"), told=True),
    Bad("no label files", "yolo", lambda root: shutil.rmtree(root / "labels/train"),
        ("none of 3 images has a label file", A_TXT)),
    Bad("four numbers", "yolo", written(A_TXT, "0 0.5 0.5 0.5\n"), (A_TXT, "line 1", "4 values")),
    Bad("six numbers", "yolo", written(A_TXT, "0 .5 .5 .5 .5 .9\n"), (A_TXT, "line 1", "6 values")),
    Bad("words", "yolo", written(A_TXT, "\n0 .5 .5 x .5\n"), (A_TXT, "line 2", "x is no number")),
    Bad("a class name", "yolo", written(A_TXT, "cat .5 .5 .5 .5\n"), (A_TXT, "cat is no number")),
    Bad("an unknown class", "yolo", written(A_TXT, "2 .5 .5 .5 .5\n"), (A_TXT, "class 2", "0 to 1")),
    Bad("half a class", "yolo", written(A_TXT, "0.5 .5 .5 .5 .5\n"), (A_TXT, "class 0.5")),
    Bad("a negative class", "yolo", written(A_TXT, "-1 .5 .5 .5 .5\n"), (A_TXT, "class -1")),
    Bad("NaN as class", "yolo", written(A_TXT, "nan .5 .5 .5 .5\n"), (A_TXT, "class nan")),
    Bad("pixels", "yolo", written(A_TXT, "0 12 16 16 16\n"), (A_TXT, "12 is no share")),
    Bad("bytes as labels", "yolo", written(A_TXT, b"\x89PNG\xff"), (A_TXT, "not UTF-8")),
    Bad("huge labels", "yolo", huge(A_TXT, 11_000_000), (A_TXT, "bytes")),
    Bad("a list with a missing image", "yolo", lambda root: [
        replaced("data.yaml", "images/train", "train.txt")(root),
        write(root / "train.txt", "images/train/a.png\nimages/train/z.png\n")],
        ("train.txt", "1 of 2 images not found", "z.png")),
    Bad("a list with an absolute path", "yolo", lambda root: [
        replaced("data.yaml", "images/train", "train.txt")(root), write(root / "train.txt", "/etc/passwd\n")],
        ("train.txt", "line 1", "lies outside of")),
    Bad("an empty list", "yolo", lambda root: [
        replaced("data.yaml", "images/train", "train.txt")(root), write(root / "train.txt", "\n")],
        ("train.txt", "lists no image")),
    Bad("an image listed twice", "yolo", lambda root: [
        replaced("data.yaml", "images/train", "train.txt")(root),
        write(root / "train.txt", "images/train/a.png\nimages/train/../train/a.png\n")],
        ("a.png is listed 2 times in train",)),
    Bad("infinity", "yolo", written(A_TXT, "0 inf .5 .5 .5\n1 .5 .5 .5 .5\n"), ("train: 1 box", "line 1"), told=True),
    Bad("a negative width", "yolo", written(A_TXT, "0 .5 .5 -.5 .5\n1 .5 .5 .5 .5\n"), ("1 box of negative", "line 1"),
        told=True),
    Bad("an image that is none", "yolo", written("images/train/a.png", "text"),
        ("1 image that cannot be read", "a.png"), told=True),
    Bad("an image without labels", "yolo", removed(A_TXT), ("1 image without a label file", "a.txt"), told=True),
]  # fmt: skip

ANY = [
    Bad("no annotations", "none", lambda root: picture(root / "a.png"), ("no annotations found", "data.yaml", "a.png")),
    Bad("an empty folder", "none", lambda root: None, ("no annotations found", "found nothing")),
    Bad("another format", "none", lambda root: made.voc(root), ("no annotations found", "data.yaml"),
        keys=(("format", "yolo"),)),
]  # fmt: skip

CASES = [*COCO, *VOC, *YOLO, *ANY]
WRITERS = {"coco": made.coco, "voc": made.voc, "yolo": made.yolo, "none": lambda root: root.mkdir()}


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.format}: {bad.name}")
def test_bad_annotations(tmp_path, monkeypatch, bad):
    root = tmp_path / "set"
    monkeypatch.chdir(tmp_path)
    WRITERS[bad.format](root)
    bad.spoil(root)
    before = tree(tmp_path)
    cfg = made.config(root, data={"folder": str(root), **dict(bad.keys)})
    if bad.told:
        notes = [note for note in read(cfg.data).notes if all(word in note for word in bad.words)]
        assert len(notes) == 1
        check_words(notes[0])
    else:
        with pytest.raises((ConfigError, DataError)) as raised:
            data(cfg, ImageSpec())
        check_words(str(raised.value))
        for word in (*bad.words, "" if "task.data" in str(raised.value) else str(root)):
            assert word in str(raised.value), (word, str(raised.value))
    assert tree(tmp_path) == before


def test_the_sets_that_are_spoilt_are_sound(tmp_path):
    for name in ("coco", "voc", "yolo"):
        listing = read(source(WRITERS[name](tmp_path / name)))
        assert not any(listing.changes.values())
        assert listing.notes == ["train: 1 image without boxes, used as such"]


def test_a_folder_that_is_not_there(tmp_path):
    made.coco(tmp_path / "photos")
    with pytest.raises(DataError, match=r"task\.data\.folder: .*photo: no such folder; did you mean 'photos'"):
        read(source(tmp_path / "photo"))
    with pytest.raises(DataError, match=r"task\.data\.folder: .*train\.json: is a file"):
        read(source(tmp_path / "photos/annotations/train.json"))
    with pytest.raises(DataError, match=r"task\.data\.folder"):
        read(source(Path("a\0b")))
