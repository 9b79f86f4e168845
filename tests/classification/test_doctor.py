"""What visiontl doctor says of labels, against counts made by hand."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.classification.helpers import folders, picture
from tests.shared import shared
from visiontl import Finding, cli, plugins
from visiontl.config.resolve import resolve
from visiontl.doctor.diagnose import Diagnosis, diagnose
from visiontl.report.console import Console
from visiontl.report.items import Table


@pytest.fixture(autouse=True)
def classification(monkeypatch):
    monkeypatch.setenv("VISIONTL_PLUGINS", "classification")
    plugins.reset()
    yield
    plugins.reset()


def config(data: Path, **keys) -> dict:
    return {
        "task": {"name": "classification", "data": str(data), **keys},
        "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 16},
        "train": {"batch_size": 2},
    }


def examined(data: Path, **keys) -> Diagnosis:
    return diagnose(resolve(config(data, **keys)), Console(main=False))


def found(diagnosis: Diagnosis, *words: str) -> Finding:
    matching = [one for one in diagnosis.findings if all(word in one.what for word in words)]
    assert len(matching) == 1, f"{words}: {[one.what for one in diagnosis.findings]}"
    return matching[0]


def per_class(diagnosis: Diagnosis) -> Table:
    return next(one for one in diagnosis.tables if one.title == "images per class")


def test_rare_and_absent_classes_are_named_once(tmp_path):
    folders(tmp_path, {"train/ant": 12, "train/bee": 2, "train/cat": 1, "val/ant": 3, "val/bee": 1, "test/cat": 1,
                       "test/ant": 1})  # fmt: skip
    diagnosis = examined(tmp_path)
    assert per_class(diagnosis).columns == ["class", "train", "val", "test"]
    assert per_class(diagnosis).rows == [["ant", 12, 3, 1], ["bee", 2, 1, 0], ["cat", 1, 0, 1]]
    assert found(diagnosis, "train: one image only of 1 class").names == ["cat"]
    assert found(diagnosis, "val: no image of 1 class").names == ["cat"]
    assert found(diagnosis, "test: no image of 1 class").names == ["bee"]
    unequal = found(diagnosis, "'ant' has 12 images, 'cat' has 1: 12 times")
    assert unequal.level == "warning"
    assert "sampler=balanced" in unequal.consequence
    assert "'ant' is right for 75.0% of val" in found(diagnosis, "always answering").what
    assert " and one of the largest classes is right for 50.0% of test" in found(diagnosis, "always answering").what
    assert diagnosis.exit_code == 0
    assert found(examined(tmp_path, class_weights="balanced"), "12 times").level == "note"


def test_an_unreadable_image_does_not_count_and_may_leave_a_class_empty(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders(tmp_path / "photos", {"train/ant": 4, "train/bee": 1, "val/ant": 2, "val/bee": 2})
    (tmp_path / "photos/train/bee/0.png").write_text("<html>")
    diagnosis = examined(tmp_path / "photos")
    assert per_class(diagnosis).rows == [["ant", 4, 2], ["bee", 0, 2]]
    assert found(diagnosis, "train: no image of 1 class").level == "error"
    skipping = {**config(tmp_path / "photos"), "data": {"on_bad": "skip", "max_bad": 0.5}}
    (tmp_path / "run.yaml").write_text(json.dumps(skipping))
    assert cli.main(["train", "run.yaml"]) == 2  # training says the same: a class without images is not learned
    assert "without the unreadable images: train: no image of 1 class" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_same_pixels_in_two_classes_contradict_each_other(tmp_path):
    folders(tmp_path, {"train/ant": 3, "train/bee": 3, "val/ant": 2, "val/bee": 2})
    shutil.copy(tmp_path / "train/ant/1.png", tmp_path / "val/bee/1.png")
    shutil.copy(tmp_path / "train/ant/2.png", tmp_path / "val/ant/1.png")  # a leak, but no contradiction
    diagnosis = examined(tmp_path)
    assert found(diagnosis, "1 picture with different labels").names == ["train/ant/1.png (ant), val/bee/1.png (bee)"]
    assert sorted(found(diagnosis, "val: 2 images are also in train").names) == [
        "val/ant/1.png = train/ant/2.png",
        "val/bee/1.png = train/ant/1.png",
    ]


def test_several_labels_an_image_are_counted_each(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png", i)
    shutil.copy(tmp_path / "0.png", tmp_path / "4.png")
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = [["0.png", "a|b", "train"], ["1.png", "a", "train"], ["2.png", "b", "val"], ["3.png", "a", "val"]]
        csv.writer(file).writerows([["path", "label", "split"], *rows, ["4.png", "b", "val"]])
    diagnosis = examined(tmp_path / "labels.csv", labels="multi")
    assert per_class(diagnosis).rows == [["a", 2, 1], ["b", 1, 2]]
    assert found(diagnosis, "different labels").names == ["0.png (a and b), 4.png (b)"]


def test_names_of_classes_that_look_like_one_and_names_of_any_kind(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = ["Ant", "ant ", "b<i>\"'&", "c\nd", "..x..", "e: {f}"]
    folders(tmp_path / "photos", {f"{split}/{name}": 2 for split in ("train", "val") for name in odd})
    (tmp_path / "run.yaml").write_text(json.dumps(config(tmp_path / "photos")))
    assert cli.main(["doctor", "run.yaml", "--json", "all.json"]) == 0
    out = capsys.readouterr().out
    assert "'Ant' and 'ant '" in out
    assert "c\\nd" in out
    rows = next(one for one in json.loads(Path("all.json").read_text())["tables"] if one["title"] == "images per class")
    assert {row[0] for row in rows["rows"]} == set(odd) - {"..x.."}  # hidden, and said
    assert "..x.." in out


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"train/ant": 2, "train/bee": 2, "val/cat": 1, "val/ant": 1}, "cat (only in val)"),
        (
            {"train/ant": 2, "train/bee": 2, "train/empty": 0, "val/ant": 1, "val/bee": 1},
            "no training image of 1 class: empty",
        ),
        ({"train/ant": 2, "val/ant": 1}, "classification needs two"),
        ({"train": 0}, "no class folders"),
    ],
)
def test_data_that_cannot_be_trained_on_is_an_error_for_both(tmp_path, capsys, monkeypatch, counts, words):
    monkeypatch.chdir(tmp_path)
    folders(tmp_path / "photos", counts)
    (tmp_path / "run.yaml").write_text(json.dumps(config(tmp_path / "photos")))
    assert cli.main(["doctor", "run.yaml"]) == 2
    told = capsys.readouterr()
    assert words in told.out
    assert told.err == ""
    assert cli.main(["train", "run.yaml"]) == 2
    assert words in capsys.readouterr().err


def test_real_photos_hold_what_is_known_of_them():
    """Counts from the set's own description; its pictures were looked at: none is there twice."""
    diagnosis = examined(shared("data/classification/hymenoptera"))
    assert per_class(diagnosis).rows == [["ants", 123, 70], ["bees", 121, 83]]
    assert not [one for one in diagnosis.findings if one.level != "note"]
    assert diagnosis.images == 397
