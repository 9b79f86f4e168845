"""Evaluating a run on its own data, after somebody changed that."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import visiontl
from visiontl.config.resolve import resolve
from visiontl.testing import Case


def test_a_run_says_that_its_data_has_changed(tmp_path):
    resolved = Case("classification", tmp_path).resolved("train.epochs=0")
    data = Path(resolved.cfg.data.folder)
    run = visiontl.train(resolved)["run"]
    unchanged = visiontl.evaluate(run, splits=["val"])
    assert not any("changed since training" in note for note in unchanged["notes"])
    photo = min((data / "val").rglob("*.png"))
    photo.rename(photo.with_name("new.png"))
    notes = visiontl.evaluate(run, splits=["val"])["notes"]
    assert any("val split has changed since training: 1 new, 1 gone" in note for note in notes)
    min((data / "train").rglob("*.png")).unlink()
    with pytest.raises(visiontl.DataError, match=r"has other .*counts.* now than when it was trained"):
        visiontl.evaluate(run)


def test_the_lists_of_a_run_give_its_split_again(tmp_path):
    """What a run saves under splits/ is what task.data.lists reads."""
    report = visiontl.train(Case("classification", tmp_path).resolved("train.epochs=0"))
    shapes = tmp_path / "all"
    for split in ("train", "val", "test"):
        for file in (tmp_path / "runs/example-classification/shapes" / split).glob("*/*.png"):
            (shapes / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, shapes / file.parent.name / f"{split}-{file.name}")
    base = {"epochs": 0, "batch_size": 8}
    config = {
        "task": {"name": "classification", "data": {"folder": str(shapes), "split_seed": 7}},
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
        "train": base,
        "run": {"folder": str(tmp_path / "runs")},
    }
    first = visiontl.train(config)
    config["task"]["data"] = {"folder": str(shapes), "lists": f"{first['run']}/splits"}
    second = visiontl.train(config)
    for name in ("train", "val", "test"):
        lists = [Path(run["run"], "splits", f"{name}.txt").read_text().splitlines() for run in (first, second)]
        assert lists[0] == lists[1]
    assert report["steps"] == 0


def test_mistakes_of_the_whole_section_are_said_in_words():
    config = {
        "task": {"name": "classification", "data": "photos", "labels": "multi"},
        "backbone": {"name": "visiontl/tiny"},
    }
    with pytest.raises(visiontl.ConfigError, match="csv"):
        resolve(config)
