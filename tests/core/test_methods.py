"""Terms that a config adds to the loss: each against its formula in NumPy, and with the guarantees of every run."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from visiontl import plugins
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError, ConfigError
from visiontl.hookspecs import hookimpl
from visiontl.methods.recompute import recompute
from visiontl.methods.regularizers import bss, l2_sp, map_distance
from visiontl.testing.case import Case, same, state
from visiontl.testing.ranks import check_weights

ALL = (
    "method.l2_sp={alpha: 0.1, beta: 0.01}",
    "method.delta={weight: 0.1}",
    "method.bss={weight: 0.1}",
)
MEANS = ALL[:2]  # of images; the third is one of a whole batch


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path, {"dropout": 0.0}, ALL)


def test_terms_equal_their_formulas():
    draw = np.random.default_rng(0)
    w, start, head = draw.normal(size=(4, 3)), draw.normal(size=(4, 3)), draw.normal(size=5)
    given = [(torch.tensor(w), torch.tensor(start)), (torch.tensor(head), None)]
    expected = 0.3 / 2 * (((w - start) ** 2).sum() + (head**2).sum())
    assert float(l2_sp(given, 0.3)) == pytest.approx(expected, rel=1e-12)

    now, before = draw.normal(size=(2, 2, 3, 4, 5))  # (B, C, h, w) each
    per_image = [0.5 * ((now[i] - before[i]) ** 2).sum() / 20 for i in range(2)]
    assert float(map_distance(torch.tensor(now), torch.tensor(before))) == pytest.approx(np.mean(per_image), rel=1e-12)

    features = draw.normal(size=(4, 6))
    values = np.linalg.svd(features, compute_uv=False)
    assert float(bss(torch.tensor(features), 2)) == pytest.approx(values[-1] ** 2 + values[-2] ** 2, rel=1e-12)
    assert float(bss(torch.tensor(features[:1]), 1)) == 0


def test_terms_join_the_loss_and_are_logged(case):
    run = case.run("optim.lr=0.1", limit=3)
    fit(run)
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    for line in lines:
        parts = [value for name, value in line.items() if name.startswith("method/")]
        assert len(parts) == 4
        assert line["loss"] == pytest.approx(sum(parts), rel=1e-5)


class StopAt:
    @hookimpl
    def visiontl_logged(self, step, values):
        if step == 3:
            raise KeyboardInterrupt


def cut(run):
    plugins.register(watcher := StopAt(), "stop-at-3")
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(run)
    finally:
        plugins.manager().unregister(watcher)


def test_a_resumed_run_holds_on_to_the_same_weights(case):
    settings = ("train.checkpoint_every=1 step", "train.accumulate=2", "train.ema={decay: 0.9}")
    whole, broken = case.run(*settings), case.run(*settings)
    fit(whole)
    cut(broken)
    resumed = case.run(*settings, f"resume={broken.folder}")
    fit(resumed)
    assert not same(state(whole), state(resumed))


def test_a_run_goes_on_with_no_other_weights(case):
    broken = case.run("train.checkpoint_every=1 step")
    cut(broken)
    resumed = case.run("train.checkpoint_every=1 step", f"resume={broken.folder}")
    other = case.run("train.checkpoint_every=1 step", "train.seed=1")  # other random weights
    resumed.method = other.method
    with pytest.raises(CheckpointError, match=r"method\.l2_sp began with other weights .* put back"):
        fit(resumed)


@pytest.mark.parametrize("method", MEANS)
def test_an_update_can_be_shared_out(tmp_path, method):
    assert check_weights(Case("brightness", tmp_path, {"dropout": 0.0}, (method,))) == []


@pytest.mark.parametrize("method", ALL)
def test_a_frozen_backbone_is_refused(case, method):
    with pytest.raises(ConfigError, match=r"method\.\w+: the whole backbone is frozen"):
        Case("brightness", case.folder, {}, (method,)).run("freeze.policy=all")


def test_what_cannot_be_is_refused(case):
    with pytest.raises(ConfigError, match=r"levels: 7 is none; visiontl/tiny has levels 0 to 3"):
        case.run("method.delta={levels: [7]}")
    with pytest.raises(ConfigError, match=r"train\.compile"):
        case.run("train.compile=true")


def test_recomputing_activations_changes_no_bit(tmp_path):
    """Batch statistics, drop path and the average included."""
    case = Case("classification", tmp_path, {}, ("train.ema={decay: 0.9}", "optim.lr=0.1"))
    plain, again = case.run(limit=3), case.run("train.recompute=true", limit=3)
    fit(plain)
    fit(again)
    assert not same(state(plain), state(again))
    assert plain.ema is not None
    assert again.ema is not None
    assert not same(plain.ema.model.state_dict(), again.ema.model.state_dict())


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/test_vit", "torchvision/mobilenet_v3_small"])
def test_blocks_that_compute_again_keep_less(name):
    """What autograd keeps of a pass, counted; the gradients are the same bits."""
    entry, _ = plugins.backbone_entry(name)
    kept, gradients = [], []
    for again in (False, True):
        torch.manual_seed(0)
        backbone = entry.build(image_size=None).train()
        if again:
            assert recompute(backbone) > 1
        size = backbone.spec.size if backbone.spec.sizing == "fixed" else (64, 64)
        found: dict[int, int] = {}

        def pack(tensor, found=found):
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(2)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            pooled = backbone(image, pooled=True).pooled
        pooled.square().sum().backward()
        kept.append(sum(found.values()))
        gradients.append([one.grad for one in backbone.parameters()])
    assert kept[1] < 0.7 * kept[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True) if a is not None)
