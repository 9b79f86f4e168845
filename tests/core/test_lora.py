"""Low-rank adapters: what trains, that the sum is what is exported, and peft's file format."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from visiontl import plugins
from visiontl.engine.evaluate import evaluate
from visiontl.engine.model import load_model
from visiontl.engine.train import finish, fit
from visiontl.errors import CheckpointError, PolicyError
from visiontl.freezing.surgical import Lora
from visiontl.methods import lora
from visiontl.testing.case import Case, same, state


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path, {"dropout": 0.0}, ("freeze.policy={lora: {rank: 2}}", "optim.lr=0.1"))


def test_an_adapted_layer_answers_as_the_sum_of_its_weights():
    torch.manual_seed(0)
    layers = {"linear": nn.Linear(5, 7), "conv": nn.Conv2d(5, 7, 1, stride=2)}
    for name, module in layers.items():
        weight = module.weight.detach().double()
        a, b = torch.randn(3, 5).double(), torch.randn(7, 3).double()
        total = weight.flatten(1) + 4 / 3 * b @ a
        module.double()
        shape = (1,) * (weight.ndim - 2)
        module.lora_A, module.lora_B = nn.Parameter(a.view(3, 5, *shape)), nn.Parameter(b.view(7, 3, *shape))
        module.lora_scale = 4 / 3
        x = torch.randn(2, 5).double() if name == "linear" else torch.randn(2, 5, 4, 4).double()
        if name == "linear":
            plain = functional.linear(x, total, module.bias)
        else:
            plain = functional.conv2d(x, total.view(7, 5, 1, 1), module.bias, stride=2)
        assert torch.allclose(lora.adapted(module, (x,), module(x)), plain, atol=1e-12)
        merged = lora.merged(nn.ModuleDict({name: module}), nn.ModuleDict({name: module}).state_dict())
        assert torch.allclose(merged[f"{name}.weight"].flatten(1), total, atol=1e-12)
        assert set(merged) == {f"{name}.weight", f"{name}.bias"}


def test_adapters_and_norms_of_a_vit_b_are_at_most_2_percent_of_it():
    with torch.device("meta"):
        backbone = plugins.backbone_entry("timm/vit_base_patch16_224")[0].build()
    whole = sum(one.numel() for one in backbone.parameters())
    names = lora.insert(backbone, Lora())
    assert sum(name.endswith("attn.qkv") for name in names) == 12
    small = [one.numel() for name, one in backbone.named_parameters() if "lora_" in name or "norm" in name]
    assert 0.01 < sum(small) / whole < 0.02


def test_a_run_trains_adapters_norms_and_head_alone(case):
    run = case.run(limit=2)
    before = state(run)
    fit(run)
    moved = set(same(before, state(run)))
    body = {name for name in moved if name.startswith("backbone.")}
    assert body
    kinds = {"lora" if "lora_" in name else "norm" for name in body}
    assert kinds == {"lora", "norm"}
    assert body <= run.layout.light


def test_what_is_exported_answers_as_what_was_trained(case):
    run = case.run("train.epochs=1", "train.evaluate_every=1 epoch")
    ledger = fit(run)
    images = {"image": torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), "id": torch.arange(4)}
    with torch.no_grad():
        trained = run.built.model.eval()(images)
        loaded = load_model(run.folder)
        alone = loaded.model.eval()(images)
        assert not any("lora" in name for name in loaded.model.state_dict())
        for ours, theirs in zip(leaves(trained), leaves(alone), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        adapted = case.run(f"freeze.policy={{lora: {{rank: 2, start: {run.folder / 'adapter'}}}}}").built
        for name, module in lora.adapters(adapted.backbone).items():
            assert torch.equal(module.lora_B, dict(lora.adapters(run.built.backbone))[name].lora_B)
    scores = finish(run, ledger)["scores"]
    assert scores["val"] == evaluate(run.folder)["scores"]["val"]


def leaves(value):
    return list(value.values()) if isinstance(value, dict) else [value]


def test_a_run_with_adapters_resumes_with_the_same_bits(case):
    settings = ("train.checkpoint_every=1 epoch", "train.ema={decay: 0.9}", "optim.schedule=constant")
    whole = case.run(*settings)
    fit(whole)
    broken = case.run(*settings)
    broken.total = broken.steps_per_epoch
    fit(broken)
    resumed = case.run(*settings, f"resume={broken.folder}")
    fit(resumed)
    assert not same(state(whole), state(resumed))


def test_an_adapter_is_written_as_peft_does(tmp_path):
    torch.manual_seed(0)
    entry, _ = plugins.backbone_entry("timm/test_vit")
    backbone, wanted = entry.build(), Lora(rank=4, alpha=8.0, targets=("qkv", "*.fc1"))
    assert len(lora.insert(backbone, wanted)) == 2 * sum("attn.qkv.weight" in name for name in backbone.state_dict())
    files = lora.files(backbone, wanted)
    config = json.loads(files["adapter_config.json"])
    model = timm.create_model("test_vit", num_classes=0)
    modules = dict(model.named_modules())
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {"qkv", "fc1"}
    for name in config["target_modules"]:
        a, b = (files["adapter_model.safetensors"][f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        assert (b.shape[0], a.shape[1]) == tuple(modules[name].weight.shape)
        assert a.shape[0] == b.shape[1] == 4


def test_adapters_that_cannot_be_are_refused(case, tmp_path):
    with pytest.raises(PolicyError, match=r"'qkv' names no linear or 1 x 1 convolution layer of visiontl/tiny"):
        case.run("freeze.policy={lora: {targets: [qkv]}}")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        case.run(f"freeze.policy={{lora: {{start: {tmp_path}}}}}")
