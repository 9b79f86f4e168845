"""Bad folders, tables, pairs, configs, galleries and commands: each is refused in a few words, and leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import save_file
from visiontl_face.alignment import COLUMNS, read_landmarks
from visiontl_face.config import FaceConfig
from visiontl_face.data import data
from visiontl_face.gallery import make_gallery, read_gallery, write_gallery

from tests.bad_input.outcome import tree
from tests.face import made
from tests.face.made import config, write
from visiontl import DataError, ImageSpec, cli

SPEC = ImageSpec(size=(32, 32))


@dataclass(frozen=True)
class Bad:
    """spoil: makes a sound set (tests.face.made.splits) bad. words: all of them stand in the error."""

    name: str
    spoil: Callable[[Path], Any]
    words: tuple[str, ...]
    keys: dict[str, Any] = field(default_factory=dict)


def nothing(root: Path) -> None:
    pass


def pairs(text: str | bytes, name: str = "pairs.csv") -> Callable[[Path], Any]:
    return lambda root: write(root / name, text)


def only(*names: str) -> Callable[[Path], None]:
    """Keeps these folders of train alone."""

    def spoil(root: Path) -> None:
        for folder in (root / "train").iterdir():
            if folder.name not in names:
                shutil.rmtree(folder)

    return spoil


def table(text: str | bytes) -> Callable[[Path], Any]:
    return lambda root: write(root / "faces.csv", text)


CSV = {"data": {"csv": "ROOT/faces.csv"}}
LIST = {"pairs": "ROOT/pairs.csv"}
LFW = {"pairs": "ROOT/pairs.txt"}
HEAD = "file_a,file_b,same\n"
GOOD = "test/p7/0.png,test/p7/1.png,1\ntest/p7/0.png,test/p8/1.png,0\n"

DATA = [
    Bad("no folder", shutil.rmtree, ("faces", "no such folder")),
    Bad("a file", lambda root: (shutil.rmtree(root), write(root, "x")), ("is a file", "folder of identities")),
    Bad("loose pictures", lambda root: (shutil.rmtree(root), made.picture(root / "0.png", 0, 0)),
        ("1 picture but no identity folders",)),
    Bad("empty folder", lambda root: (shutil.rmtree(root), root.mkdir()), ("holds no identity folders",)),
    Bad("one identity", only("p0"), ("train has 1 identity", "at least 2")),
    Bad("one image each", only("p0"), ("train has 0 identities with 9 or more images",), {"min_images": 9}),
    Bad("two splits of a name", lambda root: shutil.copytree(root / "val", root / "valid"), ("both mean val",)),
    Bad("no train", lambda root: shutil.rmtree(root / "train"), ("no train",)),
    Bad("val of one person", lambda root: shutil.rmtree(root / "val/p5"), ("val has 1 identity", "two people")),
    Bad("test without same pairs", lambda root: [path.unlink() for path in root.glob("test/*/[12].png")],
        ("at most 1 image of one", "two images of one")),
    Bad("nobody left for val", lambda root: (shutil.rmtree(root / "val"), only("p0", "p1", "p2")(root)),
        ("3 identities are too few to hold 2 of them out", "val_fraction=0")),
    Bad("missing list", nothing, ("pairs.csv", "no such file"), LIST),
    Bad("no columns", pairs("a,b,c\n1,2,3\n"), ("no column 'file_a'", "found a, b, c"), LIST),
    Bad("no rows", pairs(HEAD), ("a header and no pairs",), LIST),
    Bad("empty list", pairs(""), ("no column", "found nothing"), LIST),
    Bad("bytes", pairs(b"\xff\xfe\x00\x81"), ("not UTF-8",), LIST),
    Bad("missing files", pairs(HEAD + GOOD + "test/p7/9.png,test/p8/0.png,0\n"),
        ("1 image of its pairs is not in", "test/p7/9.png (line 4)", "missing=skip"), LIST),
    Bad("an image of train", pairs(HEAD + GOOD + "test/p7/0.png,train/p0/0.png,0\n"),
        ("train/p0/0.png is in the train split",), LIST),
    Bad("paired with itself", pairs(HEAD + GOOD + "test/p7/0.png,test/p7/0.png,1\n"), ("paired with itself",), LIST),
    Bad("same is a word", pairs(HEAD + GOOD + "test/p7/0.png,test/p7/1.png,maybe\n"), ("line 4", "'maybe'"), LIST),
    Bad("says same of two", pairs(HEAD + GOOD + "test/p7/0.png,test/p8/2.png,1\n"),
        ("line 4", "said to show the same person", "p7 and p8"), LIST),
    Bad("says two of one", pairs(HEAD + GOOD + "test/p7/0.png,test/p7/2.png,0\n"),
        ("said to show two people",), LIST),
    Bad("all the same", pairs(HEAD + "test/p7/0.png,test/p7/1.png,1\n"), ("all its pairs show the same person",), LIST),
    Bad("a cell too few", pairs(HEAD + "test/p7/0.png,1\n"), ("line 2 has 2 cells, the header 3",), LIST),
    Bad("fold is no number", pairs("file_a,file_b,same,fold\ntest/p7/0.png,test/p7/1.png,1,x\n"),
        ("fold is 'x'",), LIST),
    Bad("skipping leaves none", pairs(HEAD + "a.png,b.png,1\n"), ("2 images of its pairs are not in",),
        {"pairs": {"test": "ROOT/pairs.csv", "missing": "skip"}}),
    Bad("LFW without a head", pairs("Anna\t1\t2\n", "pairs.txt"), ("first line", "two numbers"), LFW),
    Bad("LFW is empty", pairs("", "pairs.txt"), ("first line is 'nothing'",), LFW),
    Bad("LFW is cut off", pairs("1\t2\np7\t1\t2\n", "pairs.txt"), ("so 4 lines; it has 1",), LFW),
    Bad("LFW claims billions", pairs("99999999\t99999999\n", "pairs.txt"), ("it has 0",), LFW),
    Bad("LFW in the wrong order", pairs("1\t1\na\t1\tb\t2\na\t1\t2\n", "pairs.txt"), ("line 2", "'name n1 n2'"), LFW),
    Bad("pairs for no val", lambda root: (shutil.rmtree(root / "val"), pairs(HEAD + GOOD)(root)), ("no val split",),
        {"data": {"folder": "ROOT", "val_fraction": 0}, "pairs": {"val": "ROOT/pairs.csv"}}),
    Bad("no table", nothing, ("faces.csv", "no such file"), CSV),
    Bad("no identity column", table("path,label\na.png,b\n"), ("no column 'identity'",), CSV),
    Bad("no identity", table("path,identity\ntest/p7/0.png,\n"), ("line 2", "no identity"), CSV),
    Bad("no path", table("path,identity\n,anna\n"), ("line 2", "no path"), CSV),
    Bad("leaves the folder", table("path,identity\n../x.png,anna\n"), ("leaves the data set's folder",), CSV),
    Bad("absolute path", table("path,identity\n/etc/passwd,anna\n"), ("lies outside of the data set\'s folder",), CSV),
    Bad("a null byte", table("path,identity\na\0.png,anna\n"), (), CSV),
    Bad("a file twice", table("path,identity\ntest/p7/0.png,a\ntest/p7/0.png,b\n"), ("line 3", "line 2 already"), CSV),
    Bad("a split of another name", table("path,identity,split\ntest/p7/0.png,a,hold\n"), ("'hold' is none of",), CSV),
    Bad("files that are not there", table("path,identity\nx.png,a\ny.png,b\n"), ("2 files not found", "x.png"), CSV),
    Bad("a header alone", table("path,identity\n"), ("a header and no rows",), CSV),
    Bad("an open quote", table('path,identity\n"a.png,b\n'), ("not a readable table",), CSV),
]  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return made.splits(tmp_path_factory.mktemp("sound") / "faces")


def rooted(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: rooted(one, root) for key, one in value.items()}
    return value.replace("ROOT", str(root)) if isinstance(value, str) else value


@pytest.mark.parametrize("bad", DATA, ids=lambda bad: bad.name)
def test_bad_data_is_refused_in_words_that_name_it(bad, sound, tmp_path):
    root = tmp_path / "faces"
    shutil.copytree(sound, root)
    bad.spoil(root)
    cfg = config(**{"data": str(root), **rooted(bad.keys, root)})
    before = tree(tmp_path)
    with pytest.raises(DataError) as caught:
        data(cfg, SPEC)
    told = str(caught.value)
    for word in bad.words:
        assert word in told, told
    assert len(told.splitlines()) <= 12
    assert max(map(len, told.splitlines())) < 1000
    assert tree(tmp_path) == before


CONFIGS = [
    ({"loss": "arcfase"}, "arcface"),
    ({"loss": {"name": "arcface", "m2": 28.6}}, "less than 3.14"),  # degrees
    ({"loss": {"name": "arcface", "m3": 0.1}}, "arcface has m2 alone"),
    ({"loss": {"name": "cosface", "m2": 0.1}}, "cosface has m3 alone"),
    ({"loss": {"name": "triplet", "m2": 0.1}}, "triplet has `margin` alone"),
    ({"loss": {"name": "triplet", "sub_centers": 3}}, "triplet has `margin` alone"),
    ({"loss": "triplet", "sampler": "shuffled"}, "sampler: identities"),
    ({"loss": "triplet", "images_per_identity": 1}, "at least 2"),
    ({"loss": {"scale": 0}}, "greater than 0"),
    ({"data": {"folder": "a", "csv": "b"}}, "exactly one of folder and csv"),
    ({"data": {"folder": "a", "root": "b"}}, "root belongs to csv"),
    ({"data": {"folder": "a", "val_fraction": 0.6, "test_fraction": 0.5}}, "leave nobody"),
    ({"dimension": 1}, "greater than or equal to 2"),
    ({"neck": {"start": "whitened", "shrinkage": 0}}, "greater than 0"),
    ({"pairs": {"train": "x.csv"}}, "Extra inputs"),
    ({"far": 0}, "greater than 0"),
]


@pytest.mark.parametrize(("keys", "words"), CONFIGS, ids=lambda value: str(value)[:40])
def test_bad_configs_are_refused(keys, words):
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        FaceConfig.model_validate({"data": "faces", **keys})


LANDMARKS = [
    ("no table", None, "no such file"),
    ("a column is missing", "file,x1,y1\na.png,1,2\n", "no column 'x2'"),
    ("no rows", "file," + ",".join(COLUMNS) + "\n", "no landmarks"),
    ("text", "file," + ",".join(COLUMNS) + "\na.png" + ",x" * 10 + "\n", "no number"),
    ("NaN", "file," + ",".join(COLUMNS) + "\na.png" + ",nan" * 10 + "\n", "not finite"),
    ("outside", "file," + ",".join(COLUMNS) + "\n../a.png" + ",1" * 10 + "\n", "inside the images' folder"),
    ("twice", "file," + ",".join(COLUMNS) + ("\na.png" + ",1" * 10) * 2 + "\n", "line 2 already"),
]


@pytest.mark.parametrize(("name", "text", "words"), LANDMARKS, ids=[case[0] for case in LANDMARKS])
def test_bad_landmarks_are_refused(name, text, words, tmp_path):
    path = tmp_path / "landmarks.csv"
    if text is not None:
        write(path, text)
    with pytest.raises(DataError, match=words):
        read_landmarks(path)


def gallery(folder: Path) -> Path:
    vectors = np.eye(3, dtype=np.float32)
    write_gallery(make_gallery({who: [vectors[i]] for i, who in enumerate("abc")}, "0" * 64), folder)
    return folder


def vectors(values: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: save_file({"embedding": values.astype(np.float32)}, folder / "embeddings.safetensors")


def about(**keys: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = json.loads((folder / "gallery.json").read_text())
        (folder / "gallery.json").write_text(json.dumps({**content, **keys}))

    return spoil


GALLERIES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("no folder", shutil.rmtree, "is no gallery"),
    ("no embeddings", lambda folder: (folder / "embeddings.safetensors").unlink(), "has no embeddings.safetensors"),
    ("NaN embeddings", vectors(np.full((3, 3), np.nan)), "embedding of a is not finite"),
    ("embeddings of zero", vectors(np.zeros((3, 3))), "not of length 1"),
    ("too few embeddings", vectors(np.eye(2)), r"3 identities, embeddings of shape \[2, 2\]"),
    ("flat embeddings", vectors(np.ones(3)), r"shape \[3\]"),
    ("another key", lambda folder: save_file({"x": np.eye(3)}, folder / "embeddings.safetensors"), "cannot be read"),
    ("half a file", lambda folder: os.truncate(folder / "embeddings.safetensors", 40), "cannot be read"),
    ("no JSON", lambda folder: (folder / "gallery.json").write_text("{"), "not what enroll writes"),
    ("a list", lambda folder: (folder / "gallery.json").write_text("[]"), "not what enroll writes"),
    ("another format", about(format=9), "written in format 9"),
    ("no people", about(identities=[], images=[]), "0 identities"),
]


@pytest.mark.parametrize(("name", "spoil", "words"), GALLERIES, ids=[case[0] for case in GALLERIES])
def test_bad_galleries_are_refused(name, spoil, words, tmp_path):
    folder = gallery(tmp_path / "gallery")
    assert read_gallery(folder).identities == ["a", "b", "c"]
    spoil(folder)
    with pytest.raises(DataError, match=words):
        read_gallery(folder)


def test_a_gallery_is_never_overwritten_and_never_holds_what_is_not_finite(tmp_path):
    folder = gallery(tmp_path / "gallery")
    with pytest.raises(DataError, match="never overwritten"):
        gallery(folder)
    with pytest.raises(DataError, match="b: the embeddings of its images cancel out or are not finite"):
        make_gallery({"a": [np.ones(2)], "b": [np.array([1.0, 0]), np.array([-1.0, 0])]}, "")
    with pytest.raises(DataError, match=r"b: .* not finite"):
        make_gallery({"a": [np.ones(2)], "b": [np.array([np.nan, 0])]}, "")


COMMANDS = [
    (("compare", "NO", "a.png", "b.png"), "no such run folder"),
    (("enroll", "NO", "NO", "ROOT"), "never overwritten"),
    (("enroll", "NO", "NO", "ROOT/new"), "no such folder"),
    (("identify", "NO", "NO", "x.png"), "is no gallery"),
    (("identify", "NO", "NO", "x.png", "top=0"), "top: got 0; expected a number of at least 1"),
    (("identify", "NO", "NO", "x.png", "--top", "1"), "'--top'; it is an option: top=VALUE"),
    (("enroll", "NO", "NO", "--out", "ROOT/new"), "GALLERY stands without a name: usage: visiontl face enroll"),
    (("add", "NO", "ROOT/train", "ROOT/new"), "no such run folder"),
    (("align", "NO", "x.csv", "ROOT/new"), "no such folder"),
    (("align", "ROOT", "x.csv", "ROOT/new", "size=4"), "size: got 4; expected a number of at least 16"),
    (("align", "ROOT", "x.csv", "ROOT/new"), "no such file"),
    (("align", "ROOT"), "required"),
    (("recognize",), "has no command"),
]


@pytest.mark.parametrize(("arguments", "words"), COMMANDS, ids=lambda value: " ".join(value)[:40])
def test_bad_commands_end_with_a_sentence(arguments, words, sound, tmp_path, capsys):
    root = tmp_path / "faces"
    shutil.copytree(sound, root)
    before = tree(tmp_path)
    code = cli.main(
        ["face", *(one.replace("ROOT", str(root)).replace("NO", str(tmp_path / "no")) for one in arguments)]
    )
    said = capsys.readouterr()
    assert code == 2
    assert words in said.err
    assert "Traceback" not in said.err + said.out
    assert tree(tmp_path) == before
