"""What watches a run, and the pictures it keeps, may fail: that is named and counted, and the run goes on."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from accelerate.tracking import TensorBoardTracker
from PIL import Image

import visiontl
from visiontl.report.console import Console
from visiontl.report.items import Pictures
from visiontl.runs.metrics import Metrics, _each_tracker, _init_trackers
from visiontl.runs.previews import read_previews, save_previews
from visiontl.testing import Case


def failing(*args, **kwargs):
    raise ConnectionError("the server is away")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("start", "could not be started and is left out; training goes on (0 of 1 trackers started so far)"),
        ("log", "failed at step 4 and is left out from here; training goes on (0 trackers left)"),
        ("finish", "failed at the end and is left out from here"),
    ],
)
def test_a_tracker_that_fails_is_left_out_and_training_goes_on(tmp_path, monkeypatch, capsys, method, said):
    monkeypatch.setattr(TensorBoardTracker, method, failing)
    case = Case("brightness", tmp_path)
    report = visiontl.train(case.resolved("run.trackers=[tensorboard]", "train.epochs=1", "train.log_every=4"))
    assert report["status"] == "finished"
    printed = capsys.readouterr().out
    assert f"tracker tensorboard {said}" in printed
    assert "ConnectionError: the server is away" in printed
    assert printed.count("is left out") == 1
    if method != "finish":  # the report is written by then
        assert any(said in note for note in report["notes"])


def test_one_tracker_takes_no_other_with_it():
    """Three are asked for; one exits when it starts, one raises at its second line."""
    lines: dict[str, list[int]] = {"b": [], "c": []}

    def made(name):
        def log(values, step):
            if name == "b" and lines["b"]:
                raise OSError("full")
            lines[name].append(step)

        return types.SimpleNamespace(name=name, log=log)

    class Accelerator:
        log_with, trackers = ["a", "b", "c"], []

        def init_trackers(self, project, config):
            [kind] = self.log_with
            if kind == "a":
                raise SystemExit(1)
            self.trackers = [made(kind)]

    accelerator: Any = Accelerator()
    console = Console(main=False)
    _init_trackers(accelerator, console, {})
    assert [one.name for one in accelerator.trackers] == ["b", "c"]
    for step in (1, 2, 3):
        _each_tracker(accelerator, console, f"at step {step}", lambda one, step=step: one.log({}, step))
    assert lines == {"b": [1], "c": [1, 2, 3]}
    assert [note.split(" and is left out")[0] for note in console.notes] == [
        "warning: tracker a could not be started",
        "warning: tracker b failed at step 2",
    ]
    assert "(1 tracker left)" in console.notes[1]


def test_lines_that_no_run_wrote_are_passed_over(tmp_path):
    good = {"step": 1, "epoch": 0.5, "kind": "val", "mae": 0.25}
    lines = [
        json.dumps(good).encode(),
        b"[]",
        b"5",
        b'{"step": "x", "kind": "val"}',
        b"\xff\xfe",
        b'{"step": 2',
        b"null",
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert Metrics.read(tmp_path) == [good]


def test_pictures_of_an_evaluation_keep_their_captions(tmp_path):
    console = Console(main=False)
    for step, words in ((2, ["a.jpg", "b.jpg"]), (10, ["a.jpg: better", ""])):
        items = [(text, Image.new("RGB", (8, 8), (step, 0, 0))) for text in words]
        save_previews(tmp_path, step, Pictures("Val", items, "Left to right."), console)
    [shown] = read_previews(tmp_path)
    assert (shown.title, shown.caption) == ("How it grew: Val", "Left to right.")
    assert [text for text, _ in shown.items] == ["step 2: a.jpg", "step 10: a.jpg: better", "step 2: b.jpg", "step 10"]
    # damaged, of an older version, and not of a run at all
    (tmp_path / "previews/step-00000002-00.jpg").write_bytes(b"no picture")
    (tmp_path / "previews/step-00000010.json").write_text("[]")
    (tmp_path / "previews/step-of-mine.jpg").write_bytes(b"")
    [shown] = read_previews(tmp_path)
    assert [text for text, _ in shown.items] == ["step 10", "step 2: b.jpg", "step 10"]
    assert shown.caption == "Left to right. 1 more cannot be read."
    assert not console.notes
    assert read_previews(tmp_path / "none") == []


def test_of_many_evaluations_a_few_are_shown_and_the_others_counted(tmp_path):
    for step in range(10, 210, 10):
        items = [(text, Image.new("RGB", (8, 8))) for text in ("a", "b")]
        save_previews(tmp_path, step, Pictures("Val", items), Console(main=False))
    [shown] = read_previews(tmp_path)
    steps = [int(text.split()[1].rstrip(":")) for text, _ in shown.items]
    assert steps == 2 * [10, 50, 90, 120, 160, 200]  # one picture as it grew, then the other
    assert shown.caption == "28 more are in the folder previews."
