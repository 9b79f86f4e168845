"""Policies by name: probe then everything at a small rate, and any set of stages."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from visiontl import plugins
from visiontl.engine import deciding
from visiontl.engine.deciding import signal
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError, PolicyError
from visiontl.freezing.surgical import chosen_by
from visiontl.testing import policies
from visiontl.testing.case import Case, same, stage_states

STAGES = ("stem", "layer1", "layer2")
NAMES = ("lp_ft", "only", "lora")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", policies.CHECKS, ids=lambda check: check.__name__)
def test_policies_keep_the_contract(name, check):
    check(name, plugins.policies()[name])


def test_modes_and_rates():
    probe = plugins.policy({"lp_ft": {"epochs": 2, "rate": 0.2}})
    assert [set(probe(epoch, STAGES).values()) for epoch in range(4)] == [{"frozen"}, {"frozen"}, {"train"}, {"train"}]
    assert [probe.pace(epoch) for epoch in range(4)] == [1, 1, 0.2, 0.2]
    chosen = plugins.policy("only:layer1, stem")(0, STAGES)
    assert chosen == {"stem": "train", "layer1": "train", "layer2": "frozen"}


def test_lp_ft_slows_everything_down_after_the_probe(tmp_path):
    case = Case("brightness", tmp_path, {"dropout": 0.0})
    run = case.run("freeze.policy={lp_ft: {epochs: 1, rate: 0.25}}", "optim.schedule=constant", "optim.lr=0.01")
    fit(run)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    rates = {(line["step"] > run.steps_per_epoch): line["lr"] for line in lines if line["kind"] == "train"}
    assert rates == {False: 0.01, True: 0.0025}
    (_, probe), (first, whole) = run.phases
    assert first == 1
    assert {row.stage: row.lr for row in run.trainability(probe, 0)}["head"] == 0.01
    assert {row.stage: row.lr for row in run.trainability(whole, 1)}["head"] == 0.0025


def test_only_moves_its_stages_alone(tmp_path):
    run = Case("brightness", tmp_path).run("freeze.policy={only: [stage1]}", limit=2)
    before = stage_states(run)
    fit(run)
    after = stage_states(run)
    assert {stage for stage in before if same(before[stage], after[stage])} == {"stage1", "head"}


def test_signal_is_what_batches_have_in_common():
    draw = np.random.default_rng(0)
    common, weights = np.array([3.0, 4.0]), torch.tensor([2.0, 0.0])
    gradients = common + draw.normal(size=(20_000, 2))  # noise of variance 1 each, so |mean g|^2 is 25 + 2 / n
    few = gradients[:5]
    unbiased = (5 * (few.mean(0) ** 2).sum() - (few**2).sum() / 5) / 4
    assert signal([torch.tensor(few.sum(0))], (few**2).sum(), 5, [weights]) == pytest.approx(unbiased**0.5 / 2)
    found = signal([torch.tensor(gradients.sum(0))], (gradients**2).sum(), len(gradients), [weights])
    assert found == pytest.approx(2.5, rel=0.01)
    noise = gradients - gradients.mean(0)
    assert signal([torch.tensor(noise.sum(0))], (noise**2).sum(), len(noise), [weights]) == 0


def test_auto_chooses_where_both_halves_agree_and_is_refused_elsewhere():
    assert chosen_by([{"a": 1.0, "b": 3.0, "c": 2.0}, {"a": 0.5, "b": 2.0, "c": 4.0}], 2) == ("b", "c")
    with pytest.raises(PolicyError, match="cannot tell: its two halves of the batches disagree"):
        chosen_by([{"a": 1.0, "b": 3.0}, {"a": 2.0, "b": 1.0}], 1)
    with pytest.raises(PolicyError, match="cannot tell: a has no gradient above its noise"):
        chosen_by([{"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0}], 1)
    with pytest.raises(PolicyError, match="give 1 to 1, or use none"):
        chosen_by([{"a": 1.0, "b": 3.0}] * 2, 2)


def test_auto_is_decided_once_and_kept(tmp_path, monkeypatch):
    halves = [{"stem": 0.0, "stage1": 1.0, "stage2": 3.0, "stage3": 2.0, "final": 0.5}] * 2
    monkeypatch.setattr(deciding, "signals", lambda *given: halves)
    settings = ("freeze.policy={auto: {stages: 2, batches: 4}}", "train.checkpoint_every=1 step")
    case = Case("brightness", tmp_path, {"dropout": 0.0}, settings)
    run = case.run(limit=2)
    fit(run)
    assert {stage for stage, mode in run.phases[0][1].items() if mode == "train"} == {"stage2", "stage3"}
    assert any("stage2 3" in note for note in run.console.notes)
    monkeypatch.setattr(deciding, "signals", lambda *given: [{**halves[0], "stem": 9.0}] * 2)
    assert case.run(f"resume={run.folder}", limit=3).phases == run.phases
    (run.folder / deciding.FILE).unlink()
    with pytest.raises(CheckpointError, match=r"policy\.json is gone"):
        case.run(f"resume={run.folder}")


def test_auto_measures_a_run(tmp_path):
    """The model stays as it was, and each stage that is read has a signal."""
    run = Case("brightness", tmp_path).run()
    before = stage_states(run)
    batches = [deciding.batch_of(run.built, run.data, tuple(range(i, i + 4)), run.accelerator) for i in range(0, 16, 4)]
    found = deciding.signals(run.accelerator, run.built, run.layout, batches)
    assert [set(half) for half in found] == [set(run.layout.stages)] * 2
    assert all(value >= 0 for half in found for value in half.values())
    after = stage_states(run)
    assert not any(same(before[stage], after[stage]) for stage in before)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"only": ["layer3"]}, r"'layer3' is none of the stages .* did you mean 'layer"),
        ({"only": list(STAGES)}, "names every stage"),
        ({"only": []}, "takes names of stages"),
        ("lp_ft", "takes epochs of the probe"),
        ({"lp_ft": {"epochs": 2, "rate": 2}}, "at most 1"),
        ({"lora": {"rank": 0}}, "a rank of 1 or more"),
        ({"lora": {"rank": 8, "alpha": 1e300}}, "an alpha above 0, at most 1e6"),
        ({"lora": {"rnk": 8}}, "each optional"),
        ({"auto": {"batches": 1}}, "of batches 4 or more"),
        ("auto", "is decided by the gradients"),
    ],
)
def test_nonsense_is_refused_in_words(value, expected):
    with pytest.raises(PolicyError, match=expected):
        plugins.policy(value)(0, STAGES)
