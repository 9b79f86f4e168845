"""The report as a record: what JSON can hold, there and back; and no NaN in any file that a task's numbers reach."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visiontl import plugins, testing
from visiontl.engine import predict
from visiontl.engine.train import finish, fit
from visiontl.errors import CheckpointError, PluginError
from visiontl.report.curves import training_figures
from visiontl.report.formats import titled
from visiontl.report.run import BackboneFacts, Best, Loaded, PhaseRows, Portion, Report, StageRow, Training
from visiontl.report.values import json_value

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (NAN, None),
        ([1, (INF, -INF), {"a": NAN}], [1, [None, None], {"a": None}]),
        (np.float32(0.5), 0.5),
        (np.float64(NAN), None),
        (np.array([[1.0, NAN], [INF, 2.0]]), [[1.0, None], [None, 2.0]]),
        (np.array(["a", "b"]), ["a", "b"]),
        ([np.int64(3), np.bool_(True), np.str_("x")], [3, True, "x"]),
        (torch.tensor([1.5, NAN], requires_grad=True), [1.5, None]),
        (torch.tensor(INF, dtype=torch.bfloat16), None),
        ({1: "a", np.int64(2): {2.5: NAN}}, {"1": "a", "2": {"2.5": None}}),
        ((), []),
        ({"true": True, "none": None, "text": "nan"}, {"true": True, "none": None, "text": "nan"}),
    ],
)
def test_values_become_what_json_holds(given: Any, expected: Any) -> None:
    found = json_value(given)
    assert found == expected
    assert repr(found) == repr(expected)  # 1, 1.0 and True are equal, and np.float64(0.5) prints otherwise
    json.dumps(found, allow_nan=False)


def test_scores_are_titled_as_the_field_spells_them() -> None:
    assert [titled(name) for name in ("miou_per_image", "auc", "AP50", "top1", "map")] == [
        "mIoU per image",
        "AUC",
        "AP50",
        "top1",
        "mAP",
    ]


def test_a_nan_that_is_still_compared_may_stay() -> None:
    found = json_value({"a": [np.float32(NAN), np.float64(1.0)]}, keep_nan=True)
    assert math.isnan(found["a"][0])
    assert type(found["a"][1]) is float


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"val": {"a": [1, {2, 3}]}}, r"scores\.val\.a\[1\]: a set .*cannot be written as JSON"),
        ({"val": b"x"}, r"scores\.val: a bytes"),
        ({"val": 1j}, r"scores\.val: a complex"),
        ({("a", "b"): 1}, r"scores: the key \('a', 'b'\) is a tuple"),
        ({"val": {1: 2, "1": 3}}, r"scores\.val: two keys are '1'"),
        ({"val": np.array([object()])}, r"scores\.val\[0\]: a object"),
    ],
)
def test_what_is_no_json_is_refused_with_its_place(given: Any, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        json_value(given, "scores")


def made(**more: Any) -> Report:
    values: dict[str, Any] = {
        "visiontl": "0.1.0",
        "run": "runs/one",
        "task": "brightness",
        "status": "finished",
        "started": "2025-11-24T01:59:23",
        "command": "visiontl train one.yaml",
        "seed": 0,
        "environment": {"precision": "fp32", "cpus": np.int64(2)},
        "data": {"train": 12, "val": 4},
        "backbone": BackboneFacts(
            name="visiontl/tiny",
            weights="default",
            parameters=100,
            loaded=Loaded(values=Portion(matched=90, total=100), tensors=Portion(matched=8, total=9)),
        ),
        "config": "task: {}\n",
        "seconds": 1.5,
        "notes": ["warning: one"],
        "scores": {"val": {"mae": np.float32(0.5), "per_class": {"a": NAN}}},
    }
    return Report(**(values | more))


def training(**more: Any) -> Training:
    rows = [StageRow(stage="stem", mode="train", parameters=100, trainable=100, lr=0.1)]
    return Training(policy="none", cached_features=[], trainability=[PhaseRows(epoch=0, rows=rows)], steps=3, **more)


def test_a_report_has_the_keys_that_readers_know() -> None:
    """Those of report.json as it was written before the report had a type, and `backbone.loaded`."""
    measured = {
        "visiontl", "run", "task", "status", "started", "seconds", "command", "seed", "environment", "data", "notes",
        "backbone", "scores", "config",
    }  # fmt: skip
    assert made().to_json().keys() == measured
    trained = {"policy", "cached_features", "trainability", "steps", "best"}
    values = made(training=training()).to_json()
    assert values.keys() == measured | trained
    assert values["best"] is None
    assert values["trainability"][0]["rows"][0].keys() == {"stage", "mode", "parameters", "trainable", "lr"}
    best = Best(score="mae", value=NAN, step=3, epoch=1.0)
    values = made(training=training(best=best, scores_at_start={"val": {"mae": 0.7}})).to_json()
    assert values.keys() == measured | trained | {"scores_at_start"}
    assert values["best"] == {"score": "mae", "value": None, "step": 3, "epoch": 1.0}
    assert values["scores"] == {"val": {"mae": 0.5, "per_class": {"a": None}}}
    assert values["backbone"]["loaded"]["tensors"] == {"matched": 8, "total": 9}


@pytest.mark.parametrize("of", [None, training(), training(best=Best(score="mae", value=1.0, step=3, epoch=1.0))])
def test_a_report_comes_back_from_its_text(of: Training | None) -> None:
    report = made(training=of)
    again = Report.from_json(json.loads(report.to_text()))
    assert again.to_json() == report.to_json()
    assert type(again.training) is type(report.training)
    assert again.backbone == report.backbone


def test_a_report_of_another_version_is_read_for_what_it_says(tmp_path: Path) -> None:
    older = Report.from_json({"task": "style", "seed": None, "best": {"score": "x"}, "unknown": {"a": 1}})
    assert (older.task, older.run, older.training) == ("style", "", None)
    with pytest.raises(CheckpointError, match=r"report\.json: data\.train: .*got 'many'"):
        Report.from_json({"data": {"train": "many"}})
    for text in ("{", "[]"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(CheckpointError, match=str(tmp_path)):
            Report.read(tmp_path / "report.json")


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} in {text[:200]}")

    return json.loads(text, parse_constant=refuse)


def odd() -> dict[str, Any]:
    """Numbers that are not finite, wherever a task may put one."""
    return {
        "odd": NAN,
        "odd list": [INF, {"deep": [np.float32(NAN), (-INF,)]}],
        "odd numbers": {"torch": torch.tensor(NAN), "array": [np.array([1.0, NAN])], 7: {"deeper": {"deepest": INF}}},
    }


@dataclass(frozen=True)
class Loss:
    """A task's loss with a part that is not a number; picklable."""

    inner: Callable[..., Mapping[str, Any]]

    def __call__(self, *arguments: Any) -> dict[str, Any]:
        losses = dict(self.inner(*arguments))
        return {**losses, "odd": losses["loss"].detach() * NAN}


@pytest.mark.parametrize("task", sorted(plugins.tasks()))
def test_no_file_of_any_task_holds_what_json_cannot_say(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = testing.Case(task, tmp_path)
    resolved = case.resolved("train.epochs=1")
    own = resolved.task
    odd_task = replace(
        own,
        loss=Loss(own.loss),
        score=lambda *given: {**own.score(*given), **odd()},
        predict=lambda *given: ({**one, **odd()} for one in own.predict(*given)),
    )
    monkeypatch.setattr(testing.Case, "resolved", lambda *_: replace(resolved, task=odd_task))
    run = case.run(limit=1)
    finish(run, fit(run))
    report = strict((run.folder / "report.json").read_text())
    assert report["scores"]["val"]["odd list"] == [None, {"deep": [None, [None]]}]
    scores = strict((run.folder / "model/scores.json").read_text())
    assert scores["odd numbers"] == {"torch": None, "array": [[1.0, None]], "7": {"deeper": {"deepest": None}}}
    lines = [strict(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert {"odd": None}.items() <= lines[0].items()

    load = predict.load_model
    monkeypatch.setattr(predict, "load_model", lambda path: replace(load(path), resolved=run.resolved))
    assert run.data.val is not None
    photo = tmp_path / "photo.png"
    run.data.val.image(0).save(photo)
    predict.predict_files(run.folder, [photo], tmp_path / "out", pictures=False)
    (line,) = [strict(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert line["odd"] is None
    assert line["odd numbers"]["array"] == [[1.0, None]]
    for path in tmp_path.rglob("*.json*"):
        if "checkpoints" in path.parts:  # what a run keeps for itself to go on exactly, and nobody else reads
            continue
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            strict(text)


def test_one_point_is_no_curve() -> None:
    steps = [{"kind": "train", "step": step, "loss": 1 / step, "lr": 0.1} for step in (1, 2)]
    val = [{"kind": "val", "step": step, "loss": 0.5, "accuracy": 0.5} for step in (2, 4)]

    def titles(*metrics: dict[str, Any]) -> list[str]:
        return [figure.title for figure in training_figures(None, metrics)]

    assert titles(*steps, val[0]) == ["Loss", "Learning rate of the head"]
    assert titles(*steps, *val) == ["Loss", "Scores at each evaluation", "Learning rate of the head"]
    assert titles(steps[0], val[0]) == []
