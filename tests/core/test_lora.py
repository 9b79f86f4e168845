"""Low-rank adapters: what trains, that the sum is what is exported, and peft's file format."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from visiontl import plugins
from visiontl.engine.evaluate import evaluate
from visiontl.engine.model import load_model
from visiontl.engine.train import finish, fit
from visiontl.errors import CheckpointError, ConfigError, PolicyError
from visiontl.freezing.surgical import Lora
from visiontl.methods import lora
from visiontl.testing.case import Case, same, state

DORA = "{lora: {rank: 2, dora: true}}"  # all that an adapter can have


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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_rows_with_a_magnitude_are_those_of_the_paper(kind, bias):
    """Liu et al. 2024, eq. 5, row by row, with the gradient of sec. 4.3, in which lengths are numbers."""
    torch.manual_seed(0)
    module = nn.Linear(5, 7, bias=bias) if kind == "linear" else nn.Conv2d(5, 7, 1, stride=2, bias=bias)
    x = torch.randn(2, 5).double() if kind == "linear" else torch.randn(2, 5, 4, 4).double()
    model = nn.ModuleDict({"layer": module.double()})
    tail = (1,) * (module.weight.ndim - 2)
    first = module.weight.detach().clone()
    module.lora_A, module.lora_B = (nn.Parameter(torch.zeros(*size, *tail).double()) for size in ((3, 5), (7, 3)))
    module.lora_magnitude_vector = nn.Parameter(torch.zeros(7).double())
    module.lora_scale = 4 / 3
    sizes = [sum(value**2 for value in row) ** 0.5 for row in first.flatten(1).tolist()]
    model.load_state_dict(lora.unmerged(model, model.state_dict()))
    assert torch.allclose(module.lora_magnitude_vector, torch.tensor(sizes, dtype=torch.float64), atol=1e-12)
    assert torch.equal(lora.adapted(module, (x,), module(x)), module(x))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    plain = {name: nn.Parameter(one.detach().clone()) for name, one in module.named_parameters()}
    total = plain["weight"].detach().flatten(1) + 4 / 3 * plain["lora_B"].flatten(1) @ plain["lora_A"].flatten(1)
    sizes = torch.tensor([sum(value**2 for value in row) ** 0.5 for row in total.tolist()], dtype=torch.float64)
    weight = torch.diag(plain["lora_magnitude_vector"] / sizes) @ total
    call = functional.linear if kind == "linear" else lambda *given: functional.conv2d(*given, stride=2)
    expected = call(x, weight.view(7, 5, *tail), plain.get("bias"))
    found = lora.adapted(module, (x,), module(x))
    assert torch.allclose(found, expected, atol=1e-12)
    for output in (found, expected):
        (output**2).sum().backward()
    for name in ("lora_A", "lora_B", "lora_magnitude_vector"):
        assert torch.allclose(getattr(module, name).grad, plain[name].grad, atol=1e-9), name
    merged = lora.merged(model, model.state_dict())
    assert torch.allclose(merged["layer.weight"].flatten(1), weight, atol=1e-12)
    assert set(merged) == {"layer.weight"} | ({"layer.bias"} if bias else set())


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


@pytest.mark.parametrize(
    ("rank", "said"),
    [
        (2, None),
        (20, r"^rank 20 is no low rank in \d of \d layers \(\S+ is 16 wide\): an adapter there trains more weights"),
        (1000, r"^warning: freeze.policy: lora: rank 1000 is no low rank in (\d) of \1 layers .*; lower the rank"),
    ],
)
def test_an_adapter_as_wide_as_its_layer_is_told(case, rank, said):
    notes = case.run(f"freeze.policy={{lora: {{rank: {rank}}}}}", limit=1).console.notes
    found = [note for note in notes if "no low rank" in note]
    assert len(found) == (said is not None)
    assert not found or re.search(said, found[0]), found


def test_what_is_exported_answers_as_what_was_trained(case):
    run = case.run(f"freeze.policy={DORA}", "train.epochs=1", "train.evaluate_every=1 epoch")
    ledger = fit(run)
    images = {"image": torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8), "id": torch.arange(4)}
    with torch.no_grad():
        trained = run.built.model.eval()(images)
        loaded = load_model(run.folder)
        alone = loaded.model.eval()(images)
        assert not any("lora" in name for name in loaded.model.state_dict())
        for ours, theirs in zip(leaves(trained), leaves(alone), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
        begun = f"rank: 2, start: {run.folder / 'adapter'}"
        adapted = case.run(f"freeze.policy={{lora: {{dora: true, {begun}}}}}").built
        for name, module in lora.adapters(adapted.backbone).items():
            for part in ("lora_B", "lora_magnitude_vector"):
                assert torch.equal(getattr(module, part), getattr(lora.adapters(run.built.backbone)[name], part))
        with pytest.raises(CheckpointError, match=r"its use_dora is True, freeze.policy says False"):
            case.run(f"freeze.policy={{lora: {{{begun}}}}}")
    scores = finish(run, ledger)["scores"]
    assert scores["val"] == evaluate(run.folder)["scores"]["val"]


def leaves(value):
    return list(value.values()) if isinstance(value, dict) else [value]


def test_a_run_with_adapters_resumes_with_the_same_bits(case):
    plain = ("train.checkpoint_every=1 epoch", "train.ema={decay: 0.9}", "optim.schedule=constant")
    settings = (f"freeze.policy={DORA}", *plain)
    whole = case.run(*settings)
    fit(whole)
    broken = case.run(*settings)
    broken.total = broken.steps_per_epoch
    fit(broken)
    resumed = case.run(*settings, f"resume={broken.folder}")
    fit(resumed)
    assert not same(state(whole), state(resumed))


@pytest.mark.parametrize("dora", [False, True])
def test_an_adapter_is_written_as_peft_does(dora):
    torch.manual_seed(0)
    entry, _ = plugins.backbone_entry("timm/test_vit")
    backbone, wanted = entry.build(), Lora(rank=4, alpha=8.0, targets=("qkv", "*.fc1"), dora=dora)
    assert len(lora.insert(backbone, wanted)) == 2 * sum("attn.qkv.weight" in name for name in backbone.state_dict())
    files = lora.files(backbone, wanted)
    config = json.loads(files["adapter_config.json"])
    assert config["use_dora"] == dora
    model = timm.create_model("test_vit", num_classes=0)
    modules = dict(model.named_modules())
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == {"qkv", "fc1"}
    for name in config["target_modules"]:
        a, b = (files["adapter_model.safetensors"][f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
        assert (b.shape[0], a.shape[1]) == tuple(modules[name].weight.shape)
        assert a.shape[0] == b.shape[1] == 4
        magnitude = files["adapter_model.safetensors"].get(f"base_model.model.{name}.lora_magnitude_vector")
        assert (magnitude is not None) == dora
        assert not dora or tuple(magnitude.shape) == (b.shape[0],)


def test_adapters_that_cannot_be_are_refused(case, tmp_path):
    with pytest.raises(PolicyError, match=r"'qkv' names no linear or 1 x 1 convolution layer of visiontl/tiny"):
        case.run("freeze.policy={lora: {targets: [qkv]}}")
    with pytest.raises(ConfigError, match=r"lora takes dora: true or false; got .yes."):
        case.run("freeze.policy={lora: {dora: 'yes'}}")
    with pytest.raises(CheckpointError, match="holds no adapter"):
        case.run(f"freeze.policy={{lora: {{start: {tmp_path}}}}}")
