"""What a report shows of nested scores and of mistakes, and what stays of an image in rows.jsonl."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from visiontl.engine.best import split_rows
from visiontl.engine.reporting import (
    MOST_SAMPLES,
    Photos,
    as_picture,
    class_counts,
    report_items,
    shown_in_training,
    side_by_side,
    write_rows,
)
from visiontl.engine.train import fit, training_batches
from visiontl.errors import DataError
from visiontl.kit.charts import chosen_pictures, file_of
from visiontl.report.formats import cell
from visiontl.report.items import Figure
from visiontl.report.tables import LINES, nested_tables
from visiontl.testing import Case


def test_nested_scores_are_tables():
    """Per class; kinds of errors, each with two numbers; a confusion with gaps; and what is deeper, or mixed."""
    val: dict[str, Any] = {
        "mAP": 0.5,
        "per_class": {"cat": 0.25, "dog": 0.75},
        "errors": {"missed": {"count": 3, "cost": 0.5}, "twice": {"count": 1, "cost": None}},
        "confusion": {"cat": {"cat": 7, "dog": 2}, "dog": {"dog": 5}},
        "at_far": {"0.001": {"all": {"tar": 0.9}}, "note": "few"},
        "pairs": {"kept": [1, 2, 3], "n": 3},
        "none": {},
    }
    found = {grid.title: grid for grid in nested_tables({"val": val, "test": {"per_class": {"cat": 1.0}}})}
    assert set(found) == {"per class", "errors (val)", "confusion (val)", "at far", "pairs"}
    assert found["per class"].columns == ["", "val", "test"]
    assert found["per class"].rows == [["cat", "0.2500", "1.000"], ["dog", "0.7500", "-"]]
    assert found["errors (val)"].columns == ["", "count", "cost"]
    assert found["errors (val)"].rows == [["missed", "3", "0.5000"], ["twice", "1", "-"]]
    assert found["confusion (val)"].rows == [["cat", "7", "2"], ["dog", "-", "5"]]
    assert found["at far"].rows == [["0.001 / all / tar", "0.9000"], ["note", "few"]]
    assert found["pairs"].rows == [["kept", "3 values"], ["n", "3"]]


def test_a_table_that_would_be_too_wide_or_long_is_cut_with_a_word():
    wide = {f"a{i}": {f"b{j}": i + j for j in range(40)} for i in range(40)}
    [grid] = nested_tables({"val": {"confusion": wide}})
    assert len(grid.rows) == LINES
    assert grid.rows[41] == ["a1 / b1", "2"]
    assert grid.summary == "The first 1000 of 1600; report.json has all."


SCORES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.text("abc", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=4), SCORES, max_size=4))
def test_every_number_of_nested_scores_is_in_a_table(values):
    grids = nested_tables({"val": values})
    for grid in grids:
        assert all(len(row) == len(grid.columns) == len(grid.right) for row in grid.rows)

    def written(value: Any) -> int:
        if isinstance(value, dict):
            return sum(map(written, value.values()))
        return isinstance(value, list) or cell(value) != "-"

    wanted = sum(written(value) for value in values.values() if isinstance(value, dict))
    assert sum(text != "-" for grid in grids for row in grid.rows for text in row[1:]) == wanted


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "face", "style"])
def test_pictured_mistakes_name_their_files(tmp_path, task):
    run = Case(task, tmp_path).run("train.epochs=1", limit=1)
    split, rows = run.data.val, split_rows(run, "val")
    assert split is not None
    shown = [item for item in report_items(run.built, run.accelerator, rows, split, "val") if hasattr(item, "items")]
    assert shown, "the untrained model makes mistakes"
    for item in shown:
        for words, _ in item.items:
            assert any(str(name) in words for name in split.names), (item.title, words)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "face", "style"])
def test_the_pictures_of_training_are_those_of_its_first_batch(tmp_path, task):
    """What the loop's own loader hands to the model first, made anew after training, where chance stands as it did."""
    run = Case(task, tmp_path).run("train.epochs=1", limit=1)
    first = next(iter(training_batches(run, 0)))
    fit(run)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    [shown] = shown_in_training(run)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()  # type: ignore[index]
    assert len(shown.items) == len(first["id"]) <= MOST_SAMPLES
    assert run.data.train is not None
    for (words, picture), image, id in zip(shown.items, first["image"], first["id"].tolist(), strict=True):
        assert words == str(run.data.train.names[id])
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        assert pixels.shape[1:] == image.shape[1:]
        scale = 255 if image.is_floating_point() else 1
        assert (pixels.float() - image.float() * scale).abs().max() <= 0.5


def test_pictures_of_training_that_cannot_be_made_end_no_run(tmp_path, monkeypatch):
    run = Case("brightness", tmp_path).run("train.epochs=1", limit=1)
    monkeypatch.setattr("visiontl.engine.reporting.as_picture", lambda image: 1 / 0)
    assert shown_in_training(run) == []
    assert any("the training pictures could not be shown: ZeroDivisionError" in note for note in run.console.notes)


def test_a_tensor_becomes_a_picture_whatever_its_channels():
    one = torch.tensor([[[0.0, 0.5], [1.0, 2.0]]])  # (1, 2, 2), and beyond 1
    assert np.array(as_picture(one))[:, :, 1].tolist() == [[0, 128], [255, 255]]
    five = torch.arange(5, dtype=torch.uint8)[:, None, None].expand(5, 2, 3)
    assert as_picture(five).size == (3, 2)
    assert set(as_picture(five).tobytes()) == {0}
    three = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 1, 1)
    assert as_picture(three).getpixel((0, 0)) == (0, 1, 2)


def test_items_of_several_splits_stand_side_by_side():
    names = {"val": ["A (val)", "B (val)", "only (val)"], "test": ["A (test)", "B (test)", "C (test)"]}
    items = {split: [Figure(name, lambda ax: None) for name in titles] for split, titles in names.items()}
    assert [item.title for item in side_by_side(items)] == [
        "A (val)", "A (test)", "B (val)", "B (test)", "only (val)", "C (test)",
    ]  # fmt: skip


def test_class_counts_are_read_where_a_task_tells_them():
    assert class_counts({"classes": ["a", "b"], "counts": [3, 0]}) == {"a": 3, "b": 0}
    for meta in ({}, {"classes": ["a"]}, {"classes": ["a"], "counts": [1, 2]}, {"classes": {"a": 1}, "counts": [1]}):
        assert class_counts(meta) == {}


def test_a_photo_that_is_gone_is_counted_and_a_name_stays_one_line():
    class Split:
        names = ("a.jpg", "two\nlines.jpg", "c" * 500)

        def image(self, id: int) -> Image.Image:
            if id == 1:
                raise DataError("gone")
            return Image.new("RGB", (4, 4))

    image: Any = Photos(Split())  # pyright: ignore[reportArgumentType]
    [shown] = chosen_pictures("Worst", [0, 1, 2], lambda id: (file_of(image, id), image(id)), "By size.")
    assert shown.caption == "By size. 1 more image cannot be read any more."
    assert shown.items[0][0] == "a.jpg"
    assert "\n" not in file_of(image, 1)
    assert len(file_of(image, 2)) < 130
    assert file_of(lambda id: Image.new("L", (1, 1)), 0) == ""


def test_a_row_is_a_line_whatever_is_in_it(tmp_path):
    rows = [
        {"p": np.float32(0.5), "v": np.arange(3), "b": b"xyz", "big": np.zeros((3, 64, 64), np.uint8), 7: (1, None)},
        (float("nan"), torch.ones(2)),
    ]
    write_rows(tmp_path, "val", ["a\udcff.jpg", "b\u2028.jpg"], rows)
    write_rows(tmp_path, "test", ["c.jpg"], [{}])
    text = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert [(line["split"], line["id"], line["file"]) for line in lines] == [
        ("val", 0, "a\udcff.jpg"),
        ("val", 1, "b\u2028.jpg"),
        ("test", 0, "c.jpg"),
    ]
    assert lines[0]["row"] == {
        "p": 0.5,
        "v": [0, 1, 2],
        "b": "3 bytes, left out",
        "big": "uint8 array (3, 64, 64), left out",
        "7": [1, None],
    }
    assert lines[1]["row"] == [None, [1.0, 1.0]]
