"""The score that picks the best weights, and the word on runs whose training was worth nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest

from visiontl import plugins
from visiontl.config.resolve import ranked, resolve
from visiontl.config.write import config_hash, to_plain
from visiontl.engine.best import evaluate_val, picking, split_rows, worth
from visiontl.engine.ledger import Ledger
from visiontl.engine.saving import Progress
from visiontl.engine.train import finish, fit
from visiontl.errors import ConfigError, PluginError, TrainingError
from visiontl.runs import folders
from visiontl.testing import Case

IMAGE = ["image"]
TASKS = ("classification", "detection", "segmentation", "face", "style")


def config(task: str, **more) -> dict:
    section = {"name": task, "data": "example", **plugins.task(task).small, **more}
    return {"task": section, "backbone": {"name": "visiontl/tiny", "weights": "none"}}


@pytest.mark.parametrize("task", TASKS)
def test_a_score_that_cannot_pick_is_refused_with_the_closest_and_all_that_can(task):
    cfg = resolve(config(task)).cfg
    known = ranked(plugins.task(task), cfg)
    first = next(iter(known))
    assert (first, known[first]) == plugins.task(task).best
    typed = first[:-1] + first[-1] * 2
    with pytest.raises(ConfigError) as raised:
        resolve(config(task), [f"train.best={typed}"])
    assert f"train.best: {typed!r} is no score of task {task}" in str(raised.value)
    assert f"did you mean {first!r}?" in str(raised.value)
    assert all(name in str(raised.value) for name in known)
    for name in known:
        assert resolve(config(task), [f"train.best={name}"]).config.train.best == name


def test_images_with_several_labels_are_picked_by_map():
    table = {"csv": "l.csv", "root": "."}
    made = {labels: resolve(config("classification", data=table, labels=labels)) for labels in ("single", "multi")}
    assert {labels: next(iter(ranked(one.task, one.cfg))) for labels, one in made.items()} == {
        "single": "accuracy",
        "multi": "mAP",
    }
    with pytest.raises(ConfigError, match=r"train.best: 'nll' is no score"):
        resolve(config("classification", data=table, labels="multi"), ["train.best=nll"])
    assert ranked(made["single"].task, made["single"].cfg)["nll"] == "min"


def test_older_runs_keep_their_hash_and_the_score_that_they_began_with(tmp_path):
    run = Case("classification", tmp_path).run()
    plain = {key: value for key, value in to_plain(run.resolved).items() if key not in ("run", "loader", "resume")}
    del plain["train"]["best"]  # as a version without the keys wrote it
    del plain["task"]["class_weights"]
    before = hashlib.sha256(json.dumps(plain, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
    file = run.folder / "config.yaml"
    now = file.read_text()
    file.write_text("".join(line for line in now.splitlines(True) if not re.match(" +(best|class_weights):", line)))
    assert config_hash(run.resolved) != before
    assert config_hash(run.resolved, file) == before
    assert folders.changes(run.folder, run.resolved)[1] == []
    other = resolve(run.resolved, ["train.best=nll"])  # what is not in the file counts against its default
    assert folders.changes(run.folder, other)[1] == ["train.best: None -> nll"]
    assert config_hash(resolve(run.resolved, ["train.epochs=3"]), file) != before
    began = Progress(best={"score": "macro_f1", "value": 0.1, "step": 3, "epoch": 1.0})
    assert picking(run, began) == ("macro_f1", "max")
    assert picking(run, Progress()) == ("accuracy", "max")


@pytest.mark.parametrize(("name", "direction"), [("rising", "max"), ("falling", "min"), ("still", "max")])
def test_the_named_score_picks_and_stops(tmp_path, name, direction):
    """Four epochs; one score gets better in each, another never moves."""
    run = Case("brightness", tmp_path).run("train.epochs=4", "train.early_stop=2", "train.evaluate_every=1 epoch")
    seen = []

    def score(cfg, rows, meta):
        seen.append(len(seen))
        return {"rising": seen[-1] * 0.1, "falling": -seen[-1] * 0.1, "still": 0.5}

    known = {"rising": "max", "falling": "min", "still": "max"}
    core = run.resolved.config.model_copy(update={"train": run.resolved.config.train.model_copy(update={"best": name})})
    task = dataclasses.replace(run.resolved.task, score=score, ranked=lambda cfg: known, trivial=None)
    run.resolved = dataclasses.replace(run.resolved, task=task, config=core)
    run.built = dataclasses.replace(run.built, resolved=run.resolved)
    report = finish(run, fit(run))
    epochs = {"rising": 4, "falling": 4, "still": 1}[name]
    assert (report["best"]["score"], report["best"]["epoch"]) == (name, epochs)
    assert report["status"] == ("stopped early" if name == "still" else "finished")
    assert picking(run, Progress()) == (name, direction)


@pytest.mark.parametrize("lacking", [None, float("nan"), float("inf")])
def test_an_evaluation_that_measures_nothing_takes_nothing_from_the_best(tmp_path, lacking):
    run, values = Case("brightness", tmp_path).run(), iter([0.8, lacking, 0.3])
    task = dataclasses.replace(
        run.resolved.task, score=lambda cfg, rows, meta: {"rising": next(values)}, ranked=lambda cfg: {"rising": "max"}
    )
    run.resolved = dataclasses.replace(run.resolved, task=task)
    run.built = dataclasses.replace(run.built, resolved=run.resolved)
    ledger = Ledger(run, Progress())
    assert [evaluate_val(run, ledger) for _ in range(3)] == [True, False, False]
    assert ledger.progress.best["value"] == 0.8


def test_a_score_that_val_does_not_have_is_named_with_those_it_has(tmp_path):
    run = Case("brightness", tmp_path).run("train.epochs=1")
    known = {"mao": "min", "mae": "min"}
    said = (
        r"best is 'mao', the score that picks the weights, but score gave val mae; did you mean 'mae'.*train.best=mae"
    )
    for task in (
        dataclasses.replace(run.resolved.task, best=("mao", "min")),  # a mistake of the task
        dataclasses.replace(run.resolved.task, ranked=lambda cfg: known),  # may come later, as a precision does
    ):
        run.resolved = dataclasses.replace(run.resolved, task=task)
        run.built = dataclasses.replace(run.built, resolved=run.resolved)
        if task.ranked is None:
            with pytest.raises(TrainingError, match=said.partition("; did")[0]):
                evaluate_val(run, Ledger(run, Progress()))
            continue
        report = finish(run, fit(run))
        assert any(re.search(said, note) for note in report["notes"])
        assert any("no evaluation gave val mao, so no score picked the weights" in note for note in report["notes"])
        assert (run.folder / "model" / "model.safetensors").exists()
    task = run.resolved.task
    for wrong in ({}, {"mae": "up"}, ["mae"]):
        with pytest.raises(PluginError, match="ranked gave"):
            ranked(dataclasses.replace(task, ranked=lambda cfg, wrong=wrong: wrong), run.resolved.cfg)


def test_a_run_that_never_beat_its_start_or_the_trivial_answer_says_so(tmp_path, capsys):
    """The start has 0.6, the epochs 0.7 and 0.8, where less is better; saying grey has 0.5."""
    run, values = Case("brightness", tmp_path).run("train.evaluate_start=true"), iter([0.6, 0.6, 0.7, 0.8])

    def score(cfg, rows, meta):
        return {"mae": 0.5 if rows[0] == "trivial" else next(values, 0.6)}

    task = dataclasses.replace(
        run.resolved.task, score=score, trivial=lambda cfg, rows, meta: ("saying grey", ["trivial"] * len(rows))
    )
    run.resolved = dataclasses.replace(run.resolved, task=task)
    run.built = dataclasses.replace(run.built, resolved=run.resolved)
    report = finish(run, fit(run))
    notes = [note for note in report["notes"] if note.startswith("warning: ")]
    assert [note[:60] for note in notes] == [
        "warning: the best weights are those of the start: no evaluat",
        "warning: val mae never beat the trivial answer: saying grey ",
    ]
    assert "no evaluation while training beat val mae 0.6000" in notes[0]
    assert "scores 0.5000 there, the best weights 0.6000" in notes[1]
    page, printed = (run.folder / "report.html").read_text(encoding="utf-8"), capsys.readouterr().out
    for note in notes:
        assert note.removeprefix("warning: ") in page
        assert note in printed

    def said(value: float, step: int, rows: list | None = IMAGE) -> int:
        return len(worth(run, Progress(step=8, best={"score": "mae", "value": value, "step": step}), rows)[0])

    assert (said(0.4, 4), said(0.4, 0), said(0.5, 4), said(0.4999, 4), said(0.5, 4, None)) == (0, 1, 1, 0, 0)
    assert worth(run, Progress(step=8, best={"score": "mae", "value": None, "step": 8}), None)[0] == []
    task = dataclasses.replace(task, trivial=lambda cfg, rows, meta: 1 / 0)
    run.built = dataclasses.replace(run.built, resolved=dataclasses.replace(run.resolved, task=task))
    [line] = worth(run, Progress(step=8, best={"score": "mae", "value": 0.4, "step": 8}), ["image"])[0]
    assert line == "what a trivial answer scores on val is not known: ZeroDivisionError: division by zero"


def trivial_scores(task: str, rows: list, meta: dict, **section) -> tuple[str, dict]:
    found, cfg = plugins.task(task), resolve(config(task, **section)).cfg
    assert found.trivial is not None
    words, made = found.trivial(cfg, rows, meta)
    assert len(made) == len(rows)
    return words, found.score(cfg, made, meta)


def test_the_trivial_answers_have_the_scores_that_follow_by_hand():
    meta = {"classes": ["a", "b", "c"]}
    rows = [{"true": true, "top": [0, 1, 2], "probability": [1.0, 0.0, 0.0], "nll": 0.0} for true in [0, 1, 1, 1]]
    words, scores = trivial_scores("classification", rows, meta)
    assert "(b)" in words
    assert scores["accuracy"] == 0.75
    assert scores["macro_f1"] == pytest.approx((2 * 3 / 7) / 2)  # b: precision 3/4, recall 1; a: 0
    assert scores["nll"] == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))

    truth = [[0], [0, 1], [0], []]
    multi = [{"true": true, "probability": np.full(3, 0.1, np.float32)} for true in truth]
    table = {"csv": "l.csv", "root": "."}
    _, scores = trivial_scores("classification", multi, meta, labels="multi", data=table)
    assert scores["mAP"] == pytest.approx((0.75 + 0.25) / 2)  # of a constant: the label's frequency

    pairs = [(0, 0, 6), (1, 1, 3), (2, 2, 1)]  # true, guessed, pixels
    mask = {
        "pairs": np.array([3 * true + guess for true, guess, _ in pairs]),
        "pixels": np.array([count for *_, count in pairs]),
        "shown_pairs": None,
        "shown_pixels": None,
        "ignored": 0,
    }
    words, scores = trivial_scores("segmentation", [mask], {**meta, "background": None})
    assert "(a)" in words
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["miou"] == pytest.approx(0.6 / 3)

    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    found = {
        "size": (32, 32),
        "boxes": box.astype(np.float32),
        "scores": np.ones(1, np.float32),
        "labels": np.zeros(1, np.int64),
        "true_boxes": box,
        "true_labels": np.zeros(1, np.int64),
        "true_ignored": np.zeros(1, bool),
        "true_area": np.array([100.0]),
    }
    assert trivial_scores("detection", [found], meta)[1]["mAP"] == 0.0

    rng = np.random.default_rng(0)
    faces = [
        {"name": f"{i}.jpg", "identity": i // 3, "group": None, "pairs": None}
        | {key: rng.normal(size=8) for key in ("embedding", "pooled", "centered")}
        for i in range(12)
    ]
    assert trivial_scores("face", faces, {"identities": ["a"]})[1]["auc"] == pytest.approx(0.5)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_a_trivial_answer_on_its_own_rows(tmp_path, task):
    run = Case(task, tmp_path).run("train.epochs=1", limit=1)
    rows = split_rows(run, "val")
    assert run.resolved.task.trivial is not None
    words, made = run.resolved.task.trivial(run.resolved.cfg, rows, run.built.meta)
    scores = run.resolved.task.score(run.resolved.cfg, made, run.built.meta)
    assert words
    assert len(made) == len(rows)
    assert picking(run, Progress())[0] in scores
    if task == "style":  # the photo unchanged: its own content, nothing of the style, its own noise
        assert scores["content_distance"] == 0
        assert scores["style_distance"] == pytest.approx(1)
        assert scores["total_variation"] == pytest.approx(1)
        assert scores["energy_peak"] == pytest.approx(1)


def test_a_loss_of_nothing_is_said_once(tmp_path):
    """A loss that weighs every image by 0, as that of images whose labels are all ignored."""
    run = Case("classification", tmp_path).run("train.epochs=2", "train.log_every=1")
    own = run.resolved.task.loss

    def loss(cfg, outputs, batch, meta):
        return {name: value * 0 for name, value in own(cfg, outputs, batch, meta).items()}

    run.resolved = dataclasses.replace(run.resolved, task=dataclasses.replace(run.resolved.task, loss=loss))
    report = finish(run, fit(run))
    said = [note for note in report["notes"] if "the loss is 0 " in note]
    assert said == [note for note in said if note.startswith("warning: the loss is 0 at step 1:")]
    assert len(said) == 1
