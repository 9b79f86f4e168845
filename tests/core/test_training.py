"""The loop against a bare PyTorch loop, and what a run says and leaves behind."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import shutil
import traceback
from pathlib import Path

import pytest
import torch

import visiontl
from tests.shared import ROOT
from visiontl import cli, plugins
from visiontl.config.schema import OptimConfig
from visiontl.config.write import to_yaml
from visiontl.engine.device import choose_precision, widen_slow_convolutions
from visiontl.engine.optim import lr_factor
from visiontl.engine.prepare import set_up
from visiontl.engine.rows import gather_rows
from visiontl.engine.train import finish, fit
from visiontl.engine.wrapping import load_optimizer_state, optimizer_state
from visiontl.errors import CheckpointError, ConfigError, PluginError, PolicyError, TrainingError
from visiontl.freezing.policies import make_policy
from visiontl.freezing.probe import total_loss
from visiontl.hookspecs import hookimpl
from visiontl.processes.seeds import mix
from visiontl.runs import store
from visiontl.testing import Case
from visiontl.testing.case import same, state


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path, {"dropout": 0.0})


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("accumulate", [1, 3])
def test_training_equals_a_bare_loop(case, accumulate):
    """16 images in updates of 4 x accumulate: with 3 the last update of each epoch has 4 images, not 12."""
    run = case.run(
        f"train.accumulate={accumulate}",
        "optim.clip_norm=0.5",
        "optim.weight_decay=0.1",
        "optim.schedule=constant",
        "freeze.norm_stats=fixed",
    )
    for module in run.built.model.modules():  # what is drawn at random cannot be compared
        for name in {"p", "rate"} & vars(module).keys():
            setattr(module, name, 0.0)
    model, split = copy.deepcopy(run.built.model), run.data.train
    fit(run)

    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    bare = torch.optim.AdamW(groups, lr=0.01, fused=True)  # as the engine has it: Adam magnifies roundings
    seed = run.resolved.config.train.seed
    for epoch in range(2):
        order = torch.randperm(16, generator=torch.Generator().manual_seed(mix(seed, 0, epoch))).tolist()
        for start in range(0, 16, 4 * accumulate):
            ids = order[start : start + 4 * accumulate]
            samples = [split[i, mix(seed, 1, epoch, i)] for i in ids]
            images = torch.stack([s["image"] for s in samples])
            truth = torch.tensor([s["truth"] for s in samples])
            loss = (model({"image": images})["brightness"] - truth).square().mean()
            bare.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            bare.step()
    expected, actual = model.state_dict(), state(run)
    for name in expected:
        assert torch.allclose(expected[name], actual[name], rtol=1e-9, atol=1e-9), name


def test_learning_rate_schedules_by_hand():
    config = OptimConfig(warmup="2 steps", schedule="cosine")
    factors = [lr_factor(config, step, 12, 4) for step in range(12)]
    assert factors[:2] == pytest.approx([1 / 3, 2 / 3])
    assert factors[2] == 1
    assert factors[7] == pytest.approx(0.5 * (1 + math.cos(math.pi * 5 / 10)))
    moments = OptimConfig(schedule="step", step_every=["2 epochs", "25 steps"], warmup="5 steps")
    assert [lr_factor(moments, step, 40, 10) for step in (19, 20, 24, 25)] == pytest.approx([1, 0.1, 0.1, 0.01])
    step = OptimConfig(schedule="step", step_every="1 epoch", step_factor=0.1)
    assert [lr_factor(step, s, 12, 4) for s in (0, 3, 4, 8)] == pytest.approx([1, 1, 0.1, 0.01])
    poly = OptimConfig(schedule="poly", power=0.9, min_factor=0.1)
    assert lr_factor(poly, 6, 12, 4) == pytest.approx(0.1 + 0.9 * 0.5**0.9)
    assert lr_factor(OptimConfig(schedule="constant"), 11, 12, 4) == 1


def test_layer_decay_and_backbone_scale_by_stage(case):
    run = case.run("optim.lr=0.1", "optim.backbone_scale=0.5", "optim.layer_decay=0.5")
    rates = {stage: group["peak_lr"] for group in run.optimizer.param_groups for stage in group["stages"]}
    stages = run.layout.stages
    assert rates["head"] == 0.1
    for depth, stage in enumerate(reversed(stages)):
        assert rates[stage] == pytest.approx(0.1 * 0.5 * 0.5**depth)


def test_no_weight_decay_on_norms_and_biases(case):
    run = case.run("optim.weight_decay=0.3")
    for group in run.optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.3) for p in group["params"])


@pytest.mark.parametrize(
    ("value", "epoch", "frozen"),
    [
        ("none", 0, ""),
        ("all", 5, "abcd"),
        ({"first": 2}, 0, "ab"),
        ({"first": 0.5}, 0, "ab"),
        ("first:1", 0, "a"),
        ({"until": "c"}, 0, "ab"),
        ({"gradual": 2}, 1, "abcd"),
        ({"gradual": 2}, 2, "abc"),
        ({"gradual": {"every": 1, "stages": 3}}, 1, "a"),
        ({"gradual": 1}, 9, ""),
        ({"schedule": {0: "all", 2: "c", 3: "none"}}, 1, "abcd"),
        ({"schedule": {0: "all", 2: "c", 3: "none"}}, 2, "ab"),
        ({"schedule": {"0": "all", "3": "none"}}, 3, ""),
    ],
)
def test_policies_freeze_what_they_say(value, epoch, frozen):
    modes = make_policy(value)(epoch, "abcd")
    assert "".join(stage for stage in "abcd" if modes[stage] == "frozen") == frozen


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("al", "did you mean 'all'"),
        ({"first": 0}, "count of stages"),
        ({"first": "x"}, "takes a number"),
        ({"until": 3}, "stage's name"),
        ({"gradual": 0}, "at least 1"),
        ({"gradual": {"evry": 1}}, "evry"),
        ({"schedule": {1: "all"}}, "begin at epoch 0"),
        ({"schedule": {"x": "all"}}, "no epoch"),
        ({"all": 3}, "no argument"),
    ],
)
def test_mistaken_policies_are_refused_in_words(value, words):
    with pytest.raises(PolicyError, match=words):
        make_policy(value)


def test_policy_that_freezes_nothing_or_an_unknown_stage_is_refused(case):
    with pytest.raises(PolicyError, match="first stage, so nothing is frozen"):
        case.run("freeze.policy={until: stem}")
    with pytest.raises(PolicyError, match="did you mean 'stage3'"):
        case.run("freeze.policy={until: stage_3}")
    with pytest.raises(PolicyError, match="give 1 to"):
        case.run("freeze.policy={first: 20}")


def test_phase_that_never_comes_is_said(case):
    run = case.run("freeze.policy={schedule: {0: all, 5: none}}")
    assert any("never comes" in note for note in run.console.notes)


def test_loss_that_is_not_finite_names_step_samples_and_advice(case):
    run = case.run("loader.workers=0", "optim.name=sgd", "optim.lr=1e30", "train.epochs=20")
    with pytest.raises(TrainingError) as caught:
        fit(run)
    text = str(caught.value)
    assert "sample ids" in text
    assert ".png" in text
    assert "optim.clip_norm" in text


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ("1000 steps", "step 3: loss or gradient is not finite.*or it was the step before"),
        ("1 step", "step 3: the weights"),
    ],
)
def test_gradient_that_is_not_finite_is_caught_where_its_norm_is_not_measured(case, interval, words):
    """Update 2 (from 0) has a finite loss and a gradient that is not. With a checkpoint due, none is written of it;
    with none due, the next loss tells."""
    settings = ["train.log_every=1000", f"train.checkpoint_every={interval}", "train.evaluate_every=1000 steps"]
    run = case.run("loader.workers=0", *settings)
    task, steps = run.resolved.task, []

    def loss(cfg, outputs, batch, meta):
        steps.append(len(steps))
        losses = task.loss(cfg, outputs, batch, meta)
        zero = outputs["brightness"].sum() * 0
        return {**losses, "loss": losses["loss"] + (zero.sqrt() * 0 if steps[-1] == 2 else zero)}

    run.resolved = dataclasses.replace(run.resolved, task=dataclasses.replace(task, loss=loss))
    with pytest.raises(TrainingError, match=words):
        fit(run)
    kept = sorted((run.folder / "checkpoints").glob("*/*.safetensors"))
    assert bool(kept) == (interval == "1 step")
    for file in kept:
        assert all(tensor.isfinite().all() for tensor in store.read_tensors(file.parent, file.name).values())


def test_early_stop_and_step_intervals(case):
    run = case.run(
        "train.epochs=30",
        "train.early_stop=2",
        "train.evaluate_every=2 steps",
        "optim.lr=1e-30",
        "freeze.norm_stats=fixed",
    )
    ledger = fit(run)
    assert ledger.status == "stopped early"
    assert ledger.progress.step == 6  # the first evaluation is the best, two more do not improve
    steps = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "val"] == [2, 4, 6]


def test_average_of_weights_is_what_is_evaluated_and_saved(case):
    run = case.run("train.ema={decay: 0.5}", "train.epochs=1")
    report = finish(run, fit(run))
    assert run.ema is not None
    loaded = visiontl.load(report["run"])
    averaged = run.ema.model.state_dict()
    assert all(torch.equal(averaged[name], tensor) for name, tensor in loaded.built.model.state_dict().items())
    assert visiontl.evaluate(report["run"])["scores"] == report["scores"]


def test_average_by_hand():
    from visiontl.engine.ema import Ema

    model = torch.nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    ema = Ema(model, decay=0.9)
    expected = 1.0
    for update, value in enumerate([2.0, 3.0, 5.0], start=1):
        model.weight.data.fill_(value)
        ema.update(model)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    assert float(ema.model.weight) == pytest.approx(expected)


def test_run_folders_are_never_overwritten(case):
    first, second = case.run(), case.run()
    assert first.folder != second.folder
    case.run("run.name=mine")
    with pytest.raises(CheckpointError, match="never overwritten"):
        case.run("run.name=mine")
    with pytest.raises(CheckpointError, match="no plain folder name"):
        case.run("run.name=../outside")


def test_resume_refuses_another_config_and_damaged_checkpoints_are_passed_over(case):
    run = case.run("train.checkpoint_every=2 steps")
    fit(run)
    newest = sorted((run.folder / "checkpoints").glob("step-*"))[-1]
    with pytest.raises(CheckpointError, match="another config"):
        fit(case.run(f"resume={run.folder}", "optim.lr=0.5"))
    content = bytearray((newest / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (newest / "model.safetensors").write_bytes(bytes(content))
    again = case.run(f"resume={run.folder}", "train.checkpoint_every=2 steps")
    fit(again)
    assert any("sha256" in note and newest.name in note for note in again.console.notes)


def test_dry_run_goes_through_everything_and_leaves_nothing(case, tmp_path, capsys):
    report = visiontl.train(case.resolved(), dry_run=True)
    assert report["steps"] == 1
    assert "nothing was kept" in capsys.readouterr().out
    left = {path.name for path in (tmp_path / "runs").iterdir()}
    assert left == {"example-brightness"}


def test_watchers_see_numbers_and_the_report(case):
    seen = {"steps": [], "finished": 0}

    class Watcher:
        @hookimpl
        def visiontl_started(self, report):
            assert not seen["steps"]
            seen["started"] = report

        @hookimpl
        def visiontl_logged(self, step, values):
            seen["steps"].append((step, sorted(values)))

        @hookimpl
        def visiontl_finished(self, report):
            seen["finished"] += 1

    class Broken:
        @hookimpl
        def visiontl_logged(self, values):
            raise ConnectionError("the server is away")

    watcher, broken = Watcher(), Broken()
    plugins.register(watcher, "watcher")
    plugins.register(broken, "broken tracker")
    try:
        report = visiontl.train(case.resolved("train.epochs=1", "run.name=watched"))
    finally:
        plugins.manager().unregister(watcher)
        plugins.manager().unregister(broken)
    assert seen["finished"] == 1
    started = seen["started"]
    assert started["run"] == report["run"]
    assert (started["name"], started["task"], started["settings"]["train.epochs"]) == ("watched", "brightness", 1)
    assert started["config"] == report["config"]
    warned, counted = [note for note in report["notes"] if "broken tracker" in note]
    assert f"failed {len(seen['steps'])} times in plugin 'broken tracker'" in counted
    assert "failed in visiontl_logged" in warned
    assert "ConnectionError: the server is away" in warned
    assert (4, ["train/grad_norm", "train/loss", "train/lr", "train/mae"]) in seen["steps"]
    assert (4, ["val/mae"]) in seen["steps"]


def test_a_watcher_stops_the_run_with_an_error_of_visiontl(case):
    class Pruner:
        @hookimpl
        def visiontl_logged(self, step, values):
            raise TrainingError("no trial for a better one")

    pruner = Pruner()
    plugins.register(pruner, "pruner")
    try:
        with pytest.raises(PluginError, match="'pruner' stopped the run in visiontl_logged: no trial for a better"):
            visiontl.train(case.resolved("train.epochs=1"))
    finally:
        plugins.manager().unregister(pruner)


def test_trackers_that_are_missing_are_an_error(case):
    with pytest.raises(ConfigError, match="cannot be used here"):
        case.run("run.trackers=[tensorbored]")


def test_other_number_of_processes_is_refused(case):
    with pytest.raises(ConfigError, match="torchrun --nproc_per_node 3"):
        case.run("run.processes=3")


@pytest.mark.parametrize(
    ("probe", "expected"), [("_is_avx512_bf16_supported", "bf16"), ("_is_amx_tile_supported", "bf16"), ("", "fp32")]
)
def test_auto_takes_bf16_where_the_cpu_has_instructions_for_it(probe, expected, monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name == probe, raising=False)
    assert choose_precision("auto", torch.device("cpu"))[0] == expected
    assert choose_precision("fp32", torch.device("cpu")) == ("fp32", "config")


def test_precision_can_change_between_runs_of_one_process(case):
    for precision in ("bf16", "fp32"):
        report = visiontl.train(case.resolved(f"train.precision={precision}", "train.epochs=1"))
        assert report["environment"]["precision"] == precision


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_strided_depthwise_convolutions_train_in_fp32_under_bf16():
    """Value and gradient are those of fp32, to bf16's rounding of the result; copies use their own weights."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(8, 8, 3, stride=2, groups=8), torch.nn.Conv2d(8, 8, 3, groups=8), torch.nn.Conv2d(8, 8, 3, 2)
    )
    x = torch.randn(2, 8, 24, 24)
    first = net[0](x)
    assert widen_slow_convolutions(net) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net[0](x), first.bfloat16())
        with torch.no_grad():
            narrow = net[0](x)
    assert not torch.equal(narrow, first.bfloat16())
    assert torch.equal(net[0](x), first)
    copied = copy.deepcopy(net)
    with torch.no_grad():
        copied[0].weight.zero_()
        copied[0].bias.zero_()
    assert copied[0](x).abs().sum() == 0
    assert torch.equal(net[0](x), first)


@pytest.mark.usefixtures("double")
def test_compiled_model_trains_as_the_plain_one(case):
    states = []
    for compile in ("true", "false"):
        run = case.run(f"train.compile={compile}", "freeze.policy=all", limit=2)
        fit(run)
        states.append(state(run))
    assert all(torch.allclose(states[0][name], states[1][name], rtol=1e-9, atol=1e-9) for name in states[0])


def test_trackers_write_into_the_run_folder(case):
    report = visiontl.train(case.resolved("run.trackers=[tensorboard]", "train.epochs=1"))
    assert list(Path(report["run"]).rglob("events.out.tfevents*"))


def test_optimizer_state_survives_its_files(case):
    run = case.run(limit=2)
    fit(run)
    flat = optimizer_state(run.optimizer, run.built.model)
    other = case.run(limit=2)
    load_optimizer_state(other.optimizer, other.built.model, flat)
    again = optimizer_state(other.optimizer, other.built.model)
    assert flat.keys() == again.keys()
    assert all(torch.equal(flat[key], again[key]) for key in flat)


def test_optimizers_get_what_the_config_says(case):
    sgd = case.run("optim.name=sgd", "optim.momentum=0.5").optimizer
    assert isinstance(sgd, torch.optim.SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.5}
    adamw = case.run("optim.betas=[0.8, 0.95]").optimizer
    assert isinstance(adamw, torch.optim.AdamW)
    assert {tuple(group["betas"]) for group in adamw.param_groups} == {(0.8, 0.95)}


def test_averages_since_the_last_logged_line_survive_a_resume(case):
    """8 updates, a line every 4: a run cut off after update 7 still logs the mean over updates 5 to 8."""
    settings = ["train.log_every=4", "train.checkpoint_every=7 steps"]
    run = case.run(*settings)
    fit(run)
    checkpoints = sorted((run.folder / "checkpoints").glob("step-*"))
    assert [path.name for path in checkpoints] == ["step-00000007", "step-00000008"]
    logged = [line for line in read_metrics(run.folder) if line["kind"] == "train"]
    assert [line["step"] for line in logged] == [4, 8]
    shutil.rmtree(checkpoints[-1])
    fit(case.run(*settings, f"resume={run.folder}"))
    again = [line for line in read_metrics(run.folder) if line["kind"] == "train"]
    for one, other in zip(logged, again, strict=True):
        assert [one[key] for key in ("step", "loss", "mae", "grad_norm")] == [
            other[key] for key in ("step", "loss", "mae", "grad_norm")
        ]


def read_metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("direction", "epoch"), [("min", 3), ("max", 4)])
def test_the_best_weights_are_kept_exported_and_scored(case, direction, epoch):
    """A score that is not a number is never the best, and a gain starts early stopping's count anew."""
    given, seen = [math.nan, 0.5, 0.2, 0.9, 0.6], []

    def score(cfg, rows, meta):
        seen.append(state(run))
        return {"mae": given[len(seen) - 1] if len(seen) <= 5 else 0.0}

    run = case.run("train.epochs=5", "train.early_stop=2")
    task = dataclasses.replace(run.resolved.task, score=score, best=("mae", direction))
    run.resolved = dataclasses.replace(run.resolved, task=task)
    run.built = dataclasses.replace(run.built, resolved=run.resolved)
    ledger = fit(run)
    assert len(seen) == 5
    assert ledger.progress.best == {"score": "mae", "value": given[epoch - 1], "step": 4 * epoch, "epoch": epoch}
    finish(run, ledger)
    assert not same(seen[epoch - 1], state(run))
    assert not same(seen[epoch - 1], visiontl.load(run.folder).built.model.state_dict())
    assert all(not same(seen[epoch - 1], scored) for scored in seen[5:])
    assert same(seen[4], state(run))


def test_what_the_loss_does_not_read_never_trains(case):
    def model(cfg, backbone, meta):
        class Early(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.backbone, self.head = backbone, torch.nn.Linear(backbone.channels[0], 1)

            def forward(self, batch):
                first = self.backbone(batch["image"], maps=(0, 3)).maps[0]  # (B, C, H/2, W/2)
                return {"brightness": self.head(first.mean((2, 3))).squeeze(1)}

        return Early()

    resolved = case.resolved("train.epochs=1")
    run = set_up(dataclasses.replace(resolved, task=dataclasses.replace(resolved.task, model=model)))
    assert run.layout.stages == ("stem",)
    assert any(name.startswith("backbone.body.stage3") for name in run.layout.unread)
    before = state(run)
    fit(run)
    moved = same(before, state(run))
    assert {name.split(".")[2] for name in moved if name.startswith("backbone")} == {"stem"}


def test_evaluation_computes_in_the_precision_of_the_run(case):
    run = case.run("train.precision=bf16")
    kinds = set()
    run.built.model.head[1].register_forward_hook(lambda module, given, made: kinds.add(made.dtype))
    gather_rows(run.accelerator, run.built, run.data.val, run.console, "val")
    assert kinds == {torch.bfloat16}


def test_training_mode_returns_after_each_evaluation(case):
    run = case.run("train.evaluate_every=1 step", "train.epochs=1")
    modes = []
    for module in (run.built.model.head, *run.built.backbone.modules()):
        if isinstance(module, torch.nn.Sequential | torch.nn.BatchNorm2d):
            module.register_forward_hook(
                lambda module, given, made: modes.append((torch.is_grad_enabled(), module.training))
            )
    fit(run)
    assert set(modes) == {(True, True), (False, False)}


def test_a_model_that_is_damaged_is_not_loaded(case):
    run = case.run("train.epochs=0")
    finish(run, fit(run))
    visiontl.load(run.folder)
    path = run.folder / "model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="does not match its sha256"):
        visiontl.load(run.folder)


def test_preprocessing_of_the_config_is_used_and_travels_with_the_model(case):
    given = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "crop": 0.5, "interpolation": "lanczos"}
    stated = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items()}
    run = case.run(f"backbone.preprocessing={json.dumps(stated)}", "train.epochs=0")
    finish(run, fit(run))
    for backbone in (run.built.backbone, visiontl.load(run.folder).built.backbone):
        assert {key: getattr(backbone.spec, key) for key in given} == given
        assert backbone.mean.flatten().tolist() == pytest.approx(given["mean"])
        assert backbone.std.flatten().tolist() == pytest.approx(given["std"])


def test_resume_refuses_data_that_has_changed(case):
    run = case.run("train.epochs=1")
    fit(run)
    folder = Path(run.resolved.cfg.data)
    shutil.copy(folder / "00.png", folder / "99.png")
    with pytest.raises(CheckpointError, match="the data has changed since"):
        fit(case.run("train.epochs=1", f"resume={run.folder}"))


def test_every_update_follows_the_schedule_and_enters_the_average(case):
    run = case.run("train.ema={decay: 0.5}", "train.epochs=1", "optim.layer_decay=0.5")
    weight = run.built.model.head[1].weight
    average, rates = weight.detach().clone(), []

    class Watcher:
        @hookimpl
        def visiontl_logged(self, step, values):
            if "train/loss" in values:  # one line per update
                decay = min(0.5, (1 + step) / (10 + step))
                average.mul_(decay).add_(weight.detach(), alpha=1 - decay)
                rates.append([group["lr"] / group["peak_lr"] for group in run.optimizer.param_groups])

    watcher = Watcher()
    plugins.register(watcher, "each update")
    try:
        fit(run)
    finally:
        plugins.manager().unregister(watcher)
    cosine = [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]
    assert len(rates) == 4
    assert all(found == pytest.approx([factor] * len(found)) for found, factor in zip(rates, cosine, strict=True))
    assert run.ema is not None
    assert torch.allclose(run.ema.model.head[1].weight, average)
    assert not torch.equal(run.ema.model.head[1].weight, weight)


def test_a_part_that_the_loss_stops_reading_is_named(case):
    run = case.run()
    model, read = run.resolved.task.model, []

    def forgetful(cfg, backbone, meta):
        made = model(cfg, backbone, meta)
        made.extra = torch.nn.Parameter(torch.zeros(1))
        forward = made.forward

        def once(batch):
            read.append(0)
            found = forward(batch)
            return {"brightness": found["brightness"] + made.extra} if len(read) == 1 else found

        made.forward = once
        return made

    run = set_up(dataclasses.replace(run.resolved, task=dataclasses.replace(run.resolved.task, model=forgetful)))
    with pytest.raises(TrainingError, match="1 trainable parameters got no gradient, such as extra"):
        fit(run)


def test_a_run_that_stopped_early_does_not_go_on_when_resumed(case):
    settings = ("train.epochs=30", "train.early_stop=1", "optim.lr=1e-30", "freeze.norm_stats=fixed")
    run = case.run(*settings)
    stopped = fit(run)
    again = case.run(*settings, f"resume={run.folder}")
    ledger = fit(again)
    assert ledger.progress.step == stopped.progress.step
    assert ledger.status == "stopped early"


def test_resume_on_another_number_of_processes_is_refused(case):
    run = case.run()
    fit(run)
    newest = store.step_folders(run.folder / "checkpoints")[0]
    files = {path.name: store.read_tensors(newest, path.name) for path in newest.glob("*.safetensors")}
    state_then = {**store.read_json(newest, "state.json"), "processes": 2}
    store.write_folder(newest, {**files, "state.json": json.dumps(state_then)})
    with pytest.raises(CheckpointError, match="processes 2, here it would be 1"):
        fit(case.run(f"resume={run.folder}"))


def test_resume_names_what_differs_in_the_config(case):
    run = case.run()
    fit(run)
    with pytest.raises(CheckpointError, match=r"optim.lr: 0.01 -> 0.5"):
        fit(case.run(f"resume={run.folder}", "optim.lr=0.5"))


def test_average_copies_buffers_that_are_no_statistics():
    from visiontl.engine.ema import Ema

    model = torch.nn.Linear(1, 1)
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    ema = Ema(model, decay=0.9)
    ema.update(model)
    assert ema.model.mask.tolist() == [0.0, -math.inf]


def test_augmentation_that_seldom_shows_is_still_seen(case):
    """The task only mirrors: with two images a single other look is alike in a quarter of all seeds."""
    for seed in range(6):
        run = case.run("freeze.policy=all", "features.cache=memory", "train.batch_size=2", f"train.seed={seed}")
        assert not run.caches
        assert any("augmented anew" in note for note in run.console.notes)


def test_fp16_trains_on_a_cpu(case):
    report = visiontl.train(case.resolved("train.precision=fp16", "train.epochs=1"))
    assert report["environment"]["precision"] == "fp16"
    assert report["scores"]["val"]["mae"] < 1


def test_a_refused_resume_leaves_the_run_as_it_is(case):
    run = case.run()
    fit(run)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError):
        fit(case.run(f"resume={run.folder}", "optim.lr=0.5"))
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_full_disk_is_survived(case, monkeypatch):
    """The first checkpoint and model cannot be written; training goes on, and the next interval writes them."""
    real, calls = store.write_folder, []

    def full_at_first(folder, files):
        calls.append(folder)
        if len(calls) <= 2:
            raise OSError(28, "No space left on device")
        real(folder, files)

    monkeypatch.setattr(store, "write_folder", full_at_first)
    run = case.run("train.epochs=3")
    report = finish(run, fit(run))
    assert any("could not be saved" in note for note in run.console.notes)
    assert report["scores"]["val"]["mae"] == pytest.approx(report["best"]["value"])
    assert store.damage(run.folder / "model") is None


def test_backward_is_few_calls_away(case, tmp_path, monkeypatch):
    """From the command line 4 frames of ours at most, from Python 3: main, run, train, fit."""
    depths, backward = [], torch.Tensor.backward

    def seen(self, *given, **named):
        ours = [frame for frame in traceback.extract_stack() if str(ROOT / "visiontl") in frame.filename]
        depths.append([f"{Path(frame.filename).stem}.{frame.name}" for frame in ours])
        return backward(self, *given, **named)

    monkeypatch.setattr(torch.Tensor, "backward", seen)
    resolved = case.resolved("train.epochs=1")
    visiontl.train(resolved)
    assert depths[0] == ["train.train", "train.fit"]
    depths.clear()
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(resolved))
    assert cli.main(["train", str(config)]) == 0
    assert depths[0] == ["cli.main", "train.run", "train.train", "train.fit"]


@pytest.mark.parametrize(
    ("gave", "said"),
    [
        ({"loss": 1.0}, "{'loss': 'float'}"),
        ({"los": torch.zeros(())}, "{'los': 'Tensor'}"),
        (torch.zeros(()), "Tensor"),
    ],
)
def test_a_loss_that_is_no_tensor_is_refused_with_what_was_given(gave, said):
    with pytest.raises(TrainingError, match=f"gave {re.escape(said)}; a mapping with the tensor 'loss' was expected"):
        total_loss(gave)
