"""Task.start and train.evaluate_start: what a run does before its first update."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import visiontl
from visiontl import plugins
from visiontl.config.resolve import Resolved
from visiontl.engine.predict import load
from visiontl.engine.prepare import Run, set_up
from visiontl.engine.train import finish, fit
from visiontl.hookspecs import hookimpl
from visiontl.runs import store
from visiontl.testing import Case
from visiontl.testing.case import same, state

SEEN: list[dict] = []


def start(cfg, model, batches, meta) -> None:
    """The head's bias becomes the mean brightness of the training images."""
    record = {"training": model.training, "gradients": torch.is_grad_enabled(), "ids": [], "truth": []}
    for batch in batches:
        record["ids"] += batch["id"].tolist()
        record["truth"] += batch["truth"].tolist()
    SEEN.append(record)
    model.head[1].bias.fill_(sum(record["truth"]) / len(record["truth"]))


@pytest.fixture
def case(tmp_path):
    SEEN.clear()
    return Case("brightness", tmp_path, {"dropout": 0.0})


def started(case: Case, *overrides: str) -> Resolved:
    resolved = case.resolved(*overrides)
    return dataclasses.replace(resolved, task=dataclasses.replace(resolved.task, start=start))


def bias(run: Run) -> float:
    return float(run.built.model.state_dict()["head.1.bias"])


def test_start_sees_all_training_images_once_in_eval_mode_and_sets_the_model(case):
    run = set_up(started(case, "train.ema={decay: 0.9}"))
    (seen,) = SEEN
    assert (seen["training"], seen["gradients"]) == (False, False)
    assert run.data.train is not None
    assert seen["ids"] == list(range(len(run.data.train)))
    assert bias(run) == pytest.approx(sum(seen["truth"]) / len(seen["truth"]))
    assert run.ema is not None
    assert same(run.ema.model.state_dict(), run.built.model.state_dict()) == []


def test_start_is_shown_the_images_without_augmentation(case):
    resolved = started(case)
    make = resolved.task.data

    def data(*arguments):
        found = make(*arguments)
        return dataclasses.replace(found, still=found.val)

    run = set_up(dataclasses.replace(resolved, task=dataclasses.replace(resolved.task, data=data)))
    assert run.data.val is not None
    assert SEEN[0]["truth"] == [pytest.approx(run.data.val[i, 0]["truth"]) for i in range(len(run.data.val))]


def test_start_reads_cached_features(case):
    calls = []

    def start(cfg, model, batches, meta) -> None:
        for batch in batches:
            calls.append(model.backbone(batch["image"], pooled=True).pooled)

    resolved = case.resolved("freeze.policy=all", "features.cache=memory", "features.views=1")
    run = set_up(dataclasses.replace(resolved, task=dataclasses.replace(resolved.task, start=start)))
    assert run.caches["train"].pooled is not None
    torch.testing.assert_close(torch.cat(calls), run.caches["train"].pooled)


def test_a_resumed_run_is_not_started_again_and_ends_with_the_same_bits(case):
    whole = set_up(started(case))
    fit(whole)

    class Stop:
        @hookimpl
        def visiontl_logged(self, step, values):
            if step == 3:
                raise KeyboardInterrupt

    plugins.register(Stop(), "stop-at-3")
    try:
        broken = set_up(started(case, "train.checkpoint_every=1 step"))
        with pytest.raises(KeyboardInterrupt):
            fit(broken)
    finally:
        plugins.manager().unregister(name="stop-at-3")
    SEEN.clear()
    resumed = set_up(started(case, "train.checkpoint_every=1 step", f"resume={broken.folder}"))
    assert SEEN == []
    fit(resumed)
    assert same(state(whole), state(resumed)) == []


def test_a_run_that_ended_before_its_first_checkpoint_is_started(case):
    first = set_up(started(case, "run.name=early"))
    again = set_up(started(case, "run.name=early", f"resume={first.folder}"))
    assert len(SEEN) == 2
    assert same(state(first), state(again)) == []


def test_a_model_that_init_loads_whole_is_not_started(case):
    run = set_up(started(case))
    report = finish(run, fit(run))
    SEEN.clear()
    run = set_up(started(case, f"init={report['run']}"))
    assert SEEN == []
    trained = store.read_tensors(Path(report["run"]) / "model", "model.safetensors")
    assert torch.equal(run.built.model.state_dict()["head.1.bias"], trained["head.1.bias"])


def test_scores_before_training_are_kept_and_compete_for_the_best(case):
    run = set_up(case.resolved("train.evaluate_start=true", "optim.lr=1e-9", "run.name=slow"))
    report = finish(run, fit(run))
    assert report["scores_at_start"].keys() == {"val", "test"}
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    first = next(line for line in lines if line["kind"] == "val")
    assert first["step"] == 0
    assert first["mae"] == report["scores_at_start"]["val"]["mae"]
    assert report["best"]["value"] <= first["mae"]
    page = (run.folder / "report.html").read_text()
    assert "val, at the start" in page
    assert "test, at the start" in page


def test_a_run_cut_off_right_after_its_first_scores_has_them_in_its_report(case):
    settings = ("train.evaluate_start=true", "train.checkpoint_every=100 epochs")
    whole = set_up(case.resolved(*settings))
    expected = finish(whole, fit(whole))

    class Stop:
        @hookimpl
        def visiontl_logged(self, step, values):
            if step == 2:
                raise KeyboardInterrupt

    plugins.register(Stop(), "stop-at-2")
    try:
        broken = set_up(case.resolved(*settings))
        with pytest.raises(KeyboardInterrupt):
            fit(broken)
    finally:
        plugins.manager().unregister(name="stop-at-2")
    resumed = set_up(case.resolved(*settings, f"resume={broken.folder}"))
    report = finish(resumed, fit(resumed))
    assert report["scores_at_start"] == expected["scores_at_start"]
    assert report["scores"] == expected["scores"]


def test_the_scores_of_val_travel_with_the_model(case):
    for settings in (("run.name=trained",), ("run.name=as-built", "train.epochs=0")):
        report = visiontl.train(case.resolved(*settings))
        assert load(report["run"]).scores == report["scores"]["val"]


def test_a_changed_model_is_saved_as_a_folder_of_its_own(case, tmp_path):
    report = visiontl.train(case.resolved())
    built = load(report["run"]).built
    with torch.no_grad():
        built.model.get_parameter("head.1.bias").fill_(0.25)
    place = visiontl.save_model(tmp_path / "changed", built)
    assert load(place).built.model.get_parameter("head.1.bias").item() == 0.25
    assert load(place).scores == report["scores"]["val"]
    with pytest.raises(visiontl.DataError, match="never overwritten"):
        visiontl.save_model(place, built)
