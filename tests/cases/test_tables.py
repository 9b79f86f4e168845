"""Labels in tables: several in a cell, or a column for each class."""

from __future__ import annotations

import random
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from visiontl_classification.config import ClassificationConfig
from visiontl_classification.data import data
from visiontl_classification.listing import Item
from visiontl_classification.splits import from_lists

from tests.kit.made import pictures
from visiontl import Data, DataError, ImageSpec, VisionTLError
from visiontl.kit.folders import Folders
from visiontl.kit.labels import read_labeled
from visiontl.kit.tables import read_listing

SPEC = ImageSpec(size=(8, 8))


def table(root: Path, labels: list[str], labels_are: str = "multi", header: str = "path,label", **keys: Any) -> Data:
    pictures(root, [f"{i}.png" for i in range(len(labels))])
    (root / "t.csv").write_text(f"{header}\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)))
    source = {"csv": str(root / "t.csv"), "val_fraction": 0, "test_fraction": 0, **keys}
    return data(ClassificationConfig.model_validate({"data": source, "labels": labels_are}), SPEC)


def targets(found: Data) -> list[Any]:
    split: Any = found.train
    return split.targets.tolist()


@pytest.mark.parametrize("sign", [";", "/", "+", "&", " ", '","'])
def test_another_separator_is_suspected(tmp_path, sign):
    labels = [one.replace("-", sign) for one in ("cat-dog", "dog", "cat-bird", "bird-dog")]
    quoted = [f'"{one}"' for one in labels] if "," in sign else labels
    if "," in sign:
        quoted, sign = [one.replace('","', ",") for one in quoted], ","
    with pytest.raises(DataError, match="no image has two labels") as error:
        table(tmp_path, quoted)
    assert f"task.data.separator={sign!r}" in str(error.value)
    assert f"3 labels look like several with {sign!r} between them: " in str(error.value)
    found = table(tmp_path, quoted, separator=sign)
    assert found.meta["classes"] == ["bird", "cat", "dog"]
    assert targets(found) == [[0, 1, 1], [0, 0, 1], [1, 1, 0], [1, 0, 1]]
    kept = table(tmp_path, quoted, separator="|")  # somebody has thought of it
    assert len(kept.meta["classes"]) == 4
    assert any("look like several" in note for note in kept.notes)


@pytest.mark.parametrize(
    "labels",
    [
        ["New York", "San Jose", "Boston"],
        ["New York", "New Delhi", "Old Town", "Bern"],  # one part in common
        ["cat", "dog", "", "cat"],
        ["cat|dog", "a;b", "b;a", "a"],  # the configured one is in use
    ],
)
def test_names_with_blanks_and_signs_are_left_alone(tmp_path, labels):
    found = table(tmp_path, labels)
    assert set(found.meta["classes"]) == {part for label in labels for part in label.split("|")} - {""}
    assert not any("look like several" in note for note in found.notes)


def test_several_labels_read_as_one_are_told(tmp_path):
    found = table(tmp_path, ["cat|dog", "dog", "cat", "dog|cat"], "single")
    assert found.meta["classes"] == ["cat", "cat|dog", "dog", "dog|cat"]
    assert any("task.labels=multi reads them as several" in note for note in found.notes)
    assert not any("look like several" in note for note in table(tmp_path, ["a|b", "c|d", "e", "f"], "single").notes)


def test_columns_of_0_and_1_are_classes(tmp_path):
    rows = ["1,0,1", "0,1,0", "true,FALSE,0.0", "0,0,0"]
    header = "path, Zebra ,cat,K\u0061\u0308fer"
    found = table(tmp_path, rows, header=header, columns=["Zebra", "cat", "K\u00e4fer"])
    assert found.meta["classes"] == ["Zebra", "cat", "K\u00e4fer"]
    assert targets(found) == [[1, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert any("1 image without any label" in note for note in found.notes)
    one = table(
        tmp_path, ["0,1,0", "1,0,0", "0,0,1", "0,1,0"], "single", header, columns=["Zebra", "cat", "K\u00e4fer"]
    )
    assert targets(one) == [1, 0, 2, 1]
    some = table(tmp_path, rows, header=header, columns=["cat", "Zebra"])  # in the order that is given
    assert targets(some)[:2] == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("rows", "kind", "keys", "words"),
    [
        (["1,0", "0,2"], "multi", {"columns": ["a", "b"]}, "line 3: b is '2'; expected 0 or 1"),
        (["1,0", "0,"], "multi", {"columns": ["a", "b"]}, "line 3: b is empty; expected 0 or 1"),
        (["1,0", "1,1"], "single", {"columns": ["a", "b"]}, "line 3: 2 of 2 columns are 1 (a, b); one is right"),
        (["1,0", "0,0"], "single", {"columns": ["a", "b"]}, "line 3: none of 2 columns is 1"),
        (["1,0", "0,1"], "multi", {"columns": ["a", "c"]}, "no column 'c'"),
        (["1,0", "0,1"], "multi", {}, "can be the classes: task.data.columns=[a, b]"),
        (["1,0", "1,0"], "multi", {"columns": ["a", "b"]}, "no training image of 1 class: b (no image has it)"),
        (["1,0", "0,1"], "multi", {"columns": ["a", "A"]}, "names one twice"),
        (["1,0", "0,1"], "multi", {"columns": []}, "one at least"),
    ],
)
def test_columns_that_cannot_be_classes(tmp_path, rows, kind, keys, words):
    with pytest.raises((VisionTLError, ValueError)) as error:
        table(tmp_path, rows, kind, "path,a,b", **keys)
    assert words in str(error.value)


def test_the_same_rows_in_any_order_are_the_same_classes(tmp_path):
    labels = [f"{one}|{other}" for one in "dcba" for other in "eaz"]
    first = table(tmp_path, labels)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    random.Random(0).shuffle(rows := lines[1:])
    (tmp_path / "t.csv").write_text("\n".join([lines[0], *rows]))
    source = {"csv": str(tmp_path / "t.csv"), "val_fraction": 0, "test_fraction": 0}
    second = data(ClassificationConfig.model_validate({"data": source, "labels": "multi"}), SPEC)
    assert first.meta == second.meta


# -- what readers must never do: a trace, a silent drop, a list of classes that depends on the order of rows

CELLS = st.one_of(
    st.sampled_from(
        ["a/0.png", "./a//1.png", "2.png", "A/0.PNG", "a\\0.png", "/etc/passwd", "../x", "a", "", "train", "x|y"]
    ),
    st.text(string.printable + "\u00e9\u0301\u200b\ufeff", max_size=6),
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5)


@given(st.sampled_from(["path,label", "path,label,split", "label;path", "path\tlabel", "path"]), ROWS)
@settings(max_examples=80, deadline=None)
def test_any_table_is_read_whole_or_refused_in_words(header, rows):
    with tempfile.TemporaryDirectory() as folder:
        root = pictures(Path(folder), ["a/0.png", "a/1.png", "2.png"])
        delimiter = next(sign for sign in "\t;," if sign in header + ",")
        text = "\n".join([header, *(delimiter.join(row) for row in rows)])
        (root / "t.csv").write_bytes(text.encode())
        try:
            found = read_listing(str(root / "t.csv"), None, ("label",), (), lambda cells: cells["label"])
        except DataError:
            return
        named = [name for part in found.parts.values() for name in part]
        assert len(named) + len(found.repeated) == sum(any(map(str.strip, row)) for row in rows)
        assert all((root / name).is_file() and ".." not in name for name in named)


NAMES = st.sampled_from(["a", "b", "B", "train", "Val", "test", "1", "10", ".x", "p q"])


@given(
    st.lists(st.lists(NAMES, min_size=0, max_size=3), min_size=1, max_size=6),
    st.sampled_from(["auto", "labels", "inner"]),
)
@settings(max_examples=60, deadline=None)
def test_any_folders_are_read_whole_or_refused_in_words(places, layout):
    with tempfile.TemporaryDirectory() as folder:
        names = [f"{'/'.join(place)}/{i}.png".lstrip("/") for i, place in enumerate(places)]
        root = pictures(Path(folder), names)
        try:
            found = read_labeled(Folders(str(root)), layout, ask=" Say")
        except DataError:
            return
        read = [name for part in found.parts.values() for files in part.values() for name in files]
        assert len(read) == len(set(read))
        assert set(read) <= set(names)
        assert set(read) == set(names) or found.notes
        assert found.labels() == sorted(found.labels())


LISTED = [*"abc", "a/0.png", '"a/0.png"', '"', "./b", "\u00e9.png", "e\u0301.png", "../x", " ", "\x00"]
LINES = st.lists(st.sampled_from(LISTED))


@given(LINES, LINES)
@settings(max_examples=60, deadline=None)
def test_any_split_lists_are_read_whole_or_refused_in_words(train, val):
    pool = [Item(name, ("x",)) for name in ("a", "b", "c", "a/0.png", "\u00e9.png")]
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in (("Training.txt", train), ("dev.txt", val)):
            Path(folder, name).write_text("\n".join(lines))
        try:
            found, notes = from_lists(folder, pool, "here")
        except DataError:
            return
    given_lines = {"train": train, "val": val}
    assert {split: len(items) for split, items in found.items()} == {
        split: number for split, lines in given_lines.items() if (number := sum(bool(line.strip()) for line in lines))
    }
    used = sum(map(len, found.values()))
    assert used == len(pool) or f"{len(pool) - used} image" in notes[0]
