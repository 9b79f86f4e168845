"""`visiontl sweep`: what is tried, folds of any task, failures, going on, and when the best is none."""

from __future__ import annotations

import hashlib
import io
import json
import math
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Drawing

import visiontl
from visiontl import cli, plugins
from visiontl.engine import train as training
from visiontl.engine.folds import folded
from visiontl.engine.loader import Remaining
from visiontl.errors import ConfigError, DataError, Stopped
from visiontl.kit.splits import folds
from visiontl.report.console import Console
from visiontl.search import heads
from visiontl.search import sweep as running
from visiontl.search.heads import Batched, Head
from visiontl.search.space import Choice, Range, read_space
from visiontl.search.trials import Trial, margin
from visiontl.task import Data

CONFIG = """task: {name: classification, data: example, augment: light}
backbone: {name: visiontl/tiny, weights: none}
train: {epochs: 1, batch_size: 16}
loader: {workers: 0}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Figures of reports cost more than these runs."""
    drawn = Drawing.savefig

    def unless_inline(self, out, **options):
        out.write("<svg></svg>") if isinstance(out, io.StringIO) else drawn(self, out, **options)

    monkeypatch.setattr(Drawing, "savefig", unless_inline)
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(CONFIG)


@pytest.fixture
def trained(monkeypatch):
    """Runs that only say that they ran: a function of the words gives their scores at each evaluation, or raises."""
    asked = []

    def setting(score):
        def train(config, *words):
            values = dict(word.split("=", 1) for word in words)
            asked.append(values)
            scores = score(values)
            for step, value in enumerate(scores, start=1):
                plugins.tell("visiontl_logged", print, step=step, values={"val/accuracy": value, "val/loss": 9.0})
            return {"best": {"score": "accuracy", "value": max(scores)}}

        monkeypatch.setattr(training, "train", train)
        monkeypatch.setattr(running, "release_memory", lambda: None)  # there is none to give back
        return asked

    return setting


# --------------------------------------------------------------------------------------------------------------- words


def test_lists_ranges_and_plain_values_are_told_apart():
    space = read_space(
        [
            "optim.lr=1e-4..1e-1 log",
            "train.batch_size=8..64",
            "freeze.policy=none,{first: 2}",
            "task.x=[1,2]",
            "a.b=1.5",
        ]
    )
    assert space.fixed == ("task.x=[1,2]", "a.b=1.5")
    assert space.axes == (
        Range("optim.lr", 1e-4, 0.1, True, False),
        Range("train.batch_size", 8, 64, False, True),
        Choice("freeze.policy", ("none", "{first: 2}")),
    )
    assert read_space(["a='x,y',z", "b=[1,2],[3,4]"]).grid() == [
        (f"a={a}", f"b={b}") for a in ("'x,y'", "z") for b in ("[1,2]", "[3,4]")
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim.lr=0.1..0.01"], "smaller number"),
        (["optim.lr=0..0.01 log"], "begins above 0"),
        (["optim.lr=1,,2"], "is empty"),
        (["optim.lr=1,1"], "stands twice in the list"),
        (["optim.lr=1,2", "optim.lr=3,4"], "stands twice in the sweep"),
        (["backbone.name=visiontl/tiny,visiontl/tinny"], "backbone.name: no backbone 'visiontl/tinny'; did you mean"),
        (["optim.lr=0.01,1e-2"], "optim.lr=0.01 and optim.lr=1e-2 are one setting"),
        (["optim.lr=0.5", "optim.lr=1,2"], "optim.lr=0.5 stands beside values that are to be tried"),
        (["optim.lr=1e-4...1e-2"], "is no range"),  # read as 1e-4 to 0.001 once
        (["optim.lr=1e-4..inf"], "is no range"),
        (["optim.lr=1e-4..1e999"], "both finite"),
        (["optim.lr=0.1,inf"], "a finite number"),
        (["optim.betas=[0.9,1.5],[0.9,0.99]"], "a number below 1"),
        (["--seeds", "5000"], "1,000 of each are the most"),
        (["optim.lr=1e-4..1e-2", "--trials", "1" + "0" * 30], "1,000 of each are the most"),
        (["--seeds", "²"], "whole number from 1 on"),
        (["freeze.policy={schedule: {²: all}}", "--seeds", "2"], "is no epoch"),
        (["optim.lr=0.1"], "nothing to try"),
        (["optim.lr=0.1,0.2", "--trials", "3"], "--trials is for ranges"),
        (["optim.lr=0.1,fast"], "fast"),
        (["optim.lr=-1..1"], "a number above 0"),
        (["train.seed=1,2"], "--seeds 3"),
        (["optim.lr=0.1,0.2", "--folds", "1"], "at least 2 parts"),
        (["optim.lr=0.1,0.2", "--seeds", "0"], "whole number from 1 on"),
        (["data.fold=1/1", "--seeds", "2"], "is no fold"),
    ],
)
def test_what_cannot_be_tried_is_told_before_anything_runs(words, said, capsys, trained):
    asked = trained(lambda values: [1.0])
    assert cli.main(["sweep", "c.yaml", *words]) == 2
    assert said in capsys.readouterr().err
    assert asked == []
    assert not Path("runs").exists()


# --------------------------------------------------------------------------------------------------------------- folds


def test_folds_are_dealt_by_the_hash_of_the_names():
    names = [f"{i % 23}.jpg" for i in range(40)]
    place = folds(names, 5)
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"0:{name}".encode()).digest())
    assert place == [order.index(name) % 5 for name in names]
    assert sorted(Counter(folds(sorted(set(names)), 5)).values()) == [4, 4, 5, 5, 5]
    with pytest.raises(ValueError, match="23 images cannot be divided into 24 parts"):
        folds(names, 24)


class Split:
    def __init__(self, view: str, groups: list[str] | None = None):
        self.view, self.names = view, [f"{i}.jpg" for i in range(12)]
        if groups:
            self.groups = groups

    def __len__(self):
        return len(self.names)

    def __getitem__(self, key):
        return {"image": (self.view, *key)}

    def image(self, id):
        return self.names[id]


def test_a_fold_is_val_without_augmentation_and_the_others_train():
    def batches(split, seed, epoch, batch_size):
        return [[i, i + 1] for i in range(0, 12, 2)]

    data = Data(train=Split("random"), still=Split("still"), val=Split("val"), batches=batches)
    seen = []
    for k in range(1, 5):
        console = Console(stream=io.StringIO())
        found = folded(f"{k}/4", data, console)
        assert len(found.train), len(found.val) == (9, 3)
        assert set(found.train.names) | set(found.val.names) == set(data.train.names)
        assert found.val[1, 7]["image"] == ("still", data.train.names.index(found.val.names[1]), 7)
        assert found.train[2, 7]["image"] == ("random", data.train.names.index(found.train.names[2]), 7)
        assert found.val.image(0) == found.val.names[0]
        assert found.still.names == found.train.names
        ids = [id for batch in found.batches("train", 0, 0, 2) for id in batch]
        assert set(ids) == set(range(9))
        assert "12 images of the data's own val are not used" in console.notes[0]
        seen += found.val.names
    assert sorted(seen) == sorted(data.train.names)


@pytest.mark.parametrize("left_out", [{}, {3: "damaged"}])
def test_groups_stay_together_and_an_augmented_val_is_said(left_out):
    groups = [f"person {i // 3}" for i in range(12)]
    train = Remaining(Split("random", groups), left_out) if left_out else Split("random", groups)
    console = Console(stream=io.StringIO())
    found = folded("1/2", Data(train=train), console)
    sides = [{groups[int(name.removesuffix(".jpg"))] for name in side.names} for side in (found.train, found.val)]
    assert sides[0].isdisjoint(sides[1])
    assert list(map(len, sides)) == [2, 2]
    assert any("augmented too" in note for note in console.notes)
    with pytest.raises(DataError, match=r"data\.fold: 1/5: 4 images cannot be divided into 5 parts"):
        folded("1/5", Data(train=train), console)


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "face", "style"])
def test_every_task_shows_train_without_augmentation(task):
    from visiontl.config.resolve import resolve
    from visiontl.engine.example import with_example
    from visiontl.engine.model import load_backbone

    settings = plugins.task(task).small
    resolved = resolve({"task": {**settings, "name": task, "data": "example"}, "backbone": {"name": "visiontl/tiny"}})
    resolved = with_example(resolved, Console(stream=io.StringIO()))
    spec = load_backbone("visiontl/tiny", "none", (64, 64)).spec
    found = resolved.task.data(resolved.cfg, spec, None)
    shown = found.still or found.train
    assert shown.names == found.train.names
    first, second = (shown[0, seed]["image"] for seed in (1, 2))
    assert np.array_equal(np.asarray(first), np.asarray(second))


# -------------------------------------------------------------------------------------------------------------- trials


def test_a_sweep_trains_compares_and_goes_on(capsys):
    command = ["sweep", "c.yaml", "optim.lr=0.02,0.002", "--folds", "2", "run.name=s", "backbone.image_size=32"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    runs = {f"t0{trial}-s0-f{fold}" for trial in (1, 2) for fold in (1, 2)}
    assert {path.parent.name for path in Path("runs/s").glob("*/report.json")} == runs
    found = json.loads(Path("runs/s/sweep.json").read_text())
    for one, lr in zip(found["trials"], ("0.02", "0.002"), strict=True):
        assert one["settings"] == [f"optim.lr={lr}"]
        reports = [json.loads(Path(f"runs/s/{one['name']}-s0-f{k}/report.json").read_text()) for k in (1, 2)]
        assert list(one["values"].values()) == [report["best"]["value"] for report in reports]
        assert one["mean"] == pytest.approx(np.mean(list(one["values"].values())))
        assert all(f"fold: {k}/2" in report["config"] for k, report in enumerate(reports, start=1))
    lists = [
        Path(f"runs/s/t01-s0-f{k}/splits/{name}.txt").read_text().split() for k in (1, 2) for name in ("train", "val")
    ]
    assert sorted(lists[0]) == sorted(lists[3])
    assert sorted(lists[1]) == sorted(lists[2])
    page = Path("runs/s/sweep.html").read_text()
    assert "Trials" in page
    assert "t02-s0-f1" in page
    assert "t02-s0-f2" not in page  # another fold judges other images
    assert "next: visiontl train c.yaml backbone.image_size=32 optim.lr=" in out

    # the val of a fold is evaluated on the same images
    score = visiontl.evaluate("runs/s/t01-s0-f2", splits=["val"]).scores["val"]["accuracy"]
    assert score == pytest.approx(found["trials"][0]["values"]["s0-f2"])

    # the same command reads what there is, and trains what is gone
    times = {name: Path(f"runs/s/{name}/report.json").stat().st_mtime_ns for name in runs}
    Path("runs/s/t02-s0-f1/report.html").unlink()
    Path("runs/s/t02-s0-f1/report.json").unlink()
    assert cli.main(command) == 0
    now = {name: Path(f"runs/s/{name}/report.json").stat().st_mtime_ns for name in runs}
    assert {name for name in runs if now[name] != times[name]} == {"t02-s0-f1"}
    again = json.loads(Path("runs/s/sweep.json").read_text())
    assert [one["values"] for one in again["trials"]] == [one["values"] for one in found["trials"]]


def test_a_failure_is_counted_and_named_and_ends_nothing(trained, capsys):
    def score(values):
        if values["optim.lr"] == "0.2" and values["train.seed"] == "1":
            raise DataError("a photo is damaged")
        return [float(values["optim.lr"])]

    trained(score)
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2,0.3", "--seeds", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert [one["state"] for one in found["trials"]] == ["done", "1 of 2 failed", "done"]
    assert found["trials"][1]["failed"] == {"s1": "a photo is damaged"}
    assert found["best"] == ["optim.lr=0.3"]
    assert "t02 (optim.lr=0.2) failed: a photo is damaged" in err

    asked = trained(lambda values: 1 / 0)
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2", "--folds", "30", "run.name=other"]) == 1
    assert "no trial is whole" in capsys.readouterr().out
    assert [one.get("data.fold") for one in asked[6:]] == ["1/30", "1/30"]  # a trial with a gap is compared with none


def test_a_request_to_stop_keeps_what_is_done_and_names_the_same_command(trained, capsys):
    def score(values):
        if values["optim.lr"] == "0.2":
            raise Stopped("stopped by SIGINT at step 3 of 9, saved; to continue: visiontl train x")
        return [0.5]

    trained(score)
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2,0.3", "run.name=s"]) == 75
    said = capsys.readouterr().err
    assert "saved; the same command goes on: visiontl sweep c.yaml optim.lr=0.1,0.2,0.3 run.name=s" in said
    assert [one["values"] for one in json.loads(Path("runs/s/sweep.json").read_text())["trials"]] == [{"s0": 0.5}]


def test_ranges_are_searched_pruned_and_continued(trained, capsys):
    pytest.importorskip("optuna")

    def score(values):
        reached = 1 - (math.log10(float(values["optim.lr"])) + 2) ** 2 / 4
        if len(asked) == cut:
            raise KeyboardInterrupt
        return [reached * share for share in (0.3, 0.6, 1.0)]

    cut = 4
    asked = trained(score)
    command = ["sweep", "c.yaml", "optim.lr=1e-4..1 log", "train.batch_size=8,16", "--trials", "14", "run.name=s"]
    assert cli.main(command) == 130
    assert len(asked) == 4
    cut = 0
    capsys.readouterr()
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["trials"]
    assert len(found) == 14
    assert len({tuple(one["settings"]) for one in found}) == 14
    # those that had ended are told again, the one that was cut off goes on, with the settings that it had
    keys = ("optim.lr", "train.batch_size")
    assert [[f"{key}={values[key]}" for key in keys] for values in asked[:4]] == [one["settings"] for one in found[:4]]
    assert sum(one["state"] == "pruned" for one in found) > 0
    assert all(1e-4 <= float(one["settings"][0].partition("=")[2]) <= 1 for one in found)
    assert max(one["mean"] for one in found if one["mean"] is not None) > 0.9


def test_a_folder_holds_one_sweep(trained, capsys):
    """Trials of another question were counted as this one's, ordinary runs got trials among their files."""
    asked = trained(lambda values: [float(values["optim.lr"])])
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2", "run.name=s"]) == 0
    kept = Path("runs/s/sweep.json").read_bytes()
    for words in (["optim.lr=0.2,0.3"], ["optim.lr=0.1..0.3"], ["optim.lr=0.1,0.2", "train.best=nll"]):
        assert cli.main(["sweep", "c.yaml", *words, "run.name=s"]) == 2
        assert "holds another sweep (`visiontl sweep c.yaml optim.lr=0.1,0.2 run.name=s`)" in capsys.readouterr().err
    assert Path("runs/s/sweep.json").read_bytes() == kept
    assert len(asked) == 2
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2", "run.name=s", "--seeds", "2"]) == 0

    run = Path("runs/run/config.yaml")
    run.parent.mkdir()
    run.write_text(CONFIG)
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2", "run.name=run"]) == 2
    assert "is a run, not a sweep" in capsys.readouterr().err
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1,0.2", "run.folder=c.yaml"]) == 2
    assert "c.yaml is no folder" in capsys.readouterr().err


def test_a_damaged_journal_is_told_in_words(trained, capsys):
    pytest.importorskip("optuna")
    command = ["sweep", "c.yaml", "optim.lr=0.1..0.3", "--trials", "2", "run.name=s"]
    trained(lambda values: [0.5])
    assert cli.main(command) == 0
    journal = Path("runs/s/optuna.journal")
    for damaged in (b"{}\n", b"\0" * 40 + b"\n", journal.read_bytes()[:-40] + b"\n" + journal.read_bytes()[-40:]):
        capsys.readouterr()
        journal.write_bytes(damaged)
        assert cli.main(command) == 2
        assert "optuna.journal: damaged" in capsys.readouterr().err


def test_ranges_without_optuna_are_refused_in_words(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.main(["sweep", "c.yaml", "optim.lr=0.1..0.2"]) == 2
    assert "pip install 'visiontl[sweep]'" in capsys.readouterr().err


def test_the_margin_is_told_with_what_it_is_worth():
    def trial(name, *values):
        return Trial(name, (name,), {f"s{i}": value for i, value in enumerate(values)})

    close = [trial("a=1", 0.9, 0.8, 0.85), trial("a=2", 0.85, 0.84, 0.84), trial("a=3", 0.1, 0.11, 0.1)]
    assert margin(close, "accuracy").startswith("too close to call: best: a=1: accuracy 0.8500 ± 0.0500")
    assert "0.0067 ahead of a=2, and 1 of the 2 others" in margin(close, "accuracy")
    assert "beyond the noise" in margin([trial("a=1", 0.9, 0.91, 0.9), trial("a=2", 0.5, 0.52, 0.5)], "accuracy")
    assert "--seeds 3" in margin([trial("a=1", 0.9), trial("a=2", 0.5)], "accuracy")


def test_a_fold_is_written_as_people_write_it():
    from visiontl.config.resolve import resolve

    def fold(value):
        task = {"name": "classification", "data": "example"}
        return resolve({"task": task, "backbone": {"name": "visiontl/tiny"}, "data": {"fold": value}}).config.data.fold

    assert fold(" 2 / 5 ") == "2/5"
    assert fold(None) is None
    for wrong in ("0/5", "6/5", "1/1", "2", 2):
        with pytest.raises(ConfigError, match="is no fold"):
            fold(wrong)


# --------------------------------------------------------------------------------------------------------------- heads


def test_heads_side_by_side_train_as_each_would_alone():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(96, 20, generator=draw), torch.randint(3, (96,), generator=draw)
    group = [Head("pooled", lr, decay) for lr in (1e-3, 1e-1) for decay in (0.0, 0.1)]
    batched = Batched(20, 3, group, (0.9, 0.999))
    alone = [torch.nn.Linear(20, 3) for _ in group]
    solvers = []
    for head, layer in zip(group, alone, strict=True):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        solvers.append(
            torch.optim.AdamW(
                [{"params": [layer.weight], "weight_decay": head.decay}, {"params": [layer.bias], "weight_decay": 0.0}],
                lr=head.lr,
            )
        )
    for step in range(30):
        ids = torch.randperm(96, generator=draw)[:32]
        factor = 1 - step / 30
        batched.update(x[ids], y[ids], factor)
        for head, layer, solver in zip(group, alone, solvers, strict=True):
            for part in solver.param_groups:
                part["lr"] = head.lr * factor
            solver.zero_grad()
            torch.nn.functional.cross_entropy(layer(x[ids]), y[ids]).backward()
            solver.step()
    for i, layer in enumerate(alone):
        weight, bias = (batched.lr[i] * one[..., i] for one in (batched.weight, batched.bias))
        assert weight.T.numpy() == pytest.approx(layer.weight.detach().numpy(), abs=1e-4)
        assert bias.numpy() == pytest.approx(layer.bias.detach().numpy(), abs=1e-4)
        assert batched.logits(x)[..., i].detach().numpy() == pytest.approx(layer(x).detach().numpy(), abs=1e-3)


def test_fifty_heads_are_fifty_and_the_best_is_named_with_its_margin(capsys):
    made = heads.heads(50, ["pooled", "map"])
    assert len(made) == len(set(made)) == 50
    assert min(one.lr for one in made) == 1e-4
    assert max(one.lr for one in made) == pytest.approx(0.1)
    assert cli.main(["sweep", "c.yaml", "--heads", "12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    scores = [one["accuracy"] for one in found["heads"]]
    assert len(scores) == 12
    assert scores == sorted(scores, reverse=True)
    assert f"val accuracy {scores[0]:.4f}" in found["verdict"]
    assert not list(Path("runs").glob("sweep-*"))

    right = np.ones(100)
    worse = np.concatenate([np.zeros(40), np.ones(60)])
    close = np.concatenate([np.zeros(2), np.ones(98)])
    a, b, c = (heads.Tried(one, values) for one, values in zip(made, (right, close, worse), strict=False))
    assert heads.verdict([a, b, c]).startswith("too close to call")
    assert "0.0200 ahead of" in heads.verdict([a, b, c])
    assert heads.verdict([a, c]).endswith("beyond the noise of the images")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["optim.lr=0.1,0.2"], "chooses its own rates"), (["--seeds", "2"], "chooses its own rates")],
)
def test_heads_take_no_lists(words, said, capsys):
    assert cli.main(["sweep", "c.yaml", "--heads", "9", *words]) == 2
    assert said in capsys.readouterr().err


def test_heads_are_for_one_class_an_image(capsys):
    Path("d.yaml").write_text(
        CONFIG.replace("classification, data: example, augment: light", "segmentation, data: example")
    )
    assert cli.main(["sweep", "d.yaml", "--heads", "9", "loader.workers=0"]) == 2
    assert "one class an image" in capsys.readouterr().err
