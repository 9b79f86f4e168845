from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from tests.classification.helpers import folders, picture, read
from visiontl import DataError


@pytest.fixture
def photos(tmp_path):
    for i in range(12):
        picture(tmp_path / f"images/{i}.png", i)
    return tmp_path


def write(folder, text, name="list.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def test_paths_and_labels_with_a_given_split(photos):
    parts = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    lines = "".join(f"{part},images/{i}.png,{'xy'[i % 2]},z\n" for i, part in enumerate(parts))
    data = read(write(photos, "\ufeffSplit,Path,Label,other\n" + lines))
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 6, "val": 3, "test": 3}
    assert data.val.targets.tolist() == [0, 1, 0]
    assert data.meta["classes"] == ["x", "y"]
    assert data.train.image(0).size == (40, 30)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_stratified_split_with_a_root_elsewhere(photos, delimiter, tmp_path_factory):
    lines = "".join(f"{i}.png{delimiter}{'xyz'[i % 3]}\n" for i in range(12))
    table = write(tmp_path_factory.mktemp("tables"), f"path{delimiter}label\n{lines}\n")
    data = read({"csv": str(table), "root": str(photos / "images"), "val_fraction": 0.25, "test_fraction": 0.25})
    for split, each in (("train", 2), ("val", 1), ("test", 1)):
        assert Counter(data.splits()[split].targets.tolist()) == {0: each, 1: each, 2: each}


def test_several_labels(photos):
    text = "path,label,split\nimages/0.png,cat|dog,train\nimages/1.png, dog | bird ,train\nimages/2.png,,val\n"
    text += "images/3.png,cat|cat,val\n"
    data = read(write(photos, text), labels="multi")
    assert data.meta["classes"] == ["bird", "cat", "dog"]
    assert data.train.targets.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert data.val.targets.tolist() == [[0, 0, 0], [0, 1, 0]]
    assert data.meta["counts"] == [1, 1, 2]
    assert any("1 image without any label" in note for note in data.notes)
    other = read({"csv": str(write(photos, text.replace("|", "/"))), "separator": "/"}, labels="multi")
    assert np.array_equal(other.train.targets, data.train.targets)


@pytest.mark.parametrize("path", ["../outside.png", "images/../../outside.png", "/etc/passwd"])
def test_no_path_leaves_the_root(photos, path):
    root = photos / "root"
    root.mkdir()
    picture(photos / "outside.png")
    picture(root / "images/inside.png")
    table = write(photos, f"path,label\nimages/inside.png,a\n{path},b\n")
    with pytest.raises(DataError, match=r"line 3: .*(leaves|lies outside of) the data set's folder"):
        read({"csv": str(table), "root": str(root)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\n", "no column 'path'; expected path,label"),
        ("path,lable\n", "did you mean 'lable'"),
        ("path,label\n", "a header and no rows"),
        ("path,label\nimages/0.png\n", "line 2 has 1 cell, the header 2"),
        ("path,label\nimages/0.png,\n", "line 2: no label for images/0.png"),
        ("path,label\n,a\n", "line 2: no path"),
        ("path,label\nimages/0.png,a\nimages/99.png,b\n", "1 file not found below"),
        ("path,label\nimages/0.png,a\nimages/0.png,b\n", "stands on line 2 already, with other cells"),
        ("path,label,split\nimages/0.png,a,trian\n", "split 'trian' is none of train, val, test"),
        ('path,label\n"images/0.png,a\n', "not a readable table"),
    ],
)
def test_tables_that_cannot_be_used(photos, text, words):
    table = write(photos, text)
    with pytest.raises(DataError) as error:
        read(table)
    assert words in str(error.value)
    assert str(table) in str(error.value)


def test_all_mistakes_are_told_at_once(photos):
    text = "path,label,split\nimages/0.png,a,trian\n../x.png,a,train\nimages/77.png,a,train\n"
    with pytest.raises(DataError, match="3 errors") as error:
        read(write(photos, text))
    for words in ("trian", "../x.png", "images/77.png (line 4)"):
        assert words in str(error.value)


def test_other_encodings_and_missing_tables(photos):
    with pytest.raises(DataError, match="not UTF-8 text"):
        read(write(photos, "path,label\nimages/0.png,Käfer\n", encoding="latin-1"))
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        read(photos / "none.csv")


def test_repeated_lines_are_left_out_and_named(photos):
    text = "path,label,split\n" + "".join(f"images/{i}.png,{'ab'[i % 2]},train\n" for i in (0, 1, 2, 3, 0))
    data = read({"csv": str(write(photos, text)), "val_fraction": 0})
    assert len(data.train) == 4
    assert any("1 repeated line" in note for note in data.notes)


def test_a_table_is_evaluated_with_the_classes_of_the_model(photos):
    meta = read(folders(photos / "home", {"a": 3, "b": 3, "c": 3})).meta
    data = read(write(photos, "path,label\nimages/0.png,c\nimages/1.png,a\n"), meta)
    assert data.test.targets.tolist() == [2, 0]
