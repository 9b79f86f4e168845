"""Evaluating a run on its own data, after somebody changed that."""

from __future__ import annotations

from pathlib import Path

import pytest

import visiontl
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
    with pytest.raises(visiontl.DataError, match="other classes or counts now"):
        visiontl.evaluate(run)
