"""Weights leave as they came. The oracle is the library's own model, made by the line that the export states."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

import visiontl
from visiontl import cli, plugins
from visiontl.backbones.export import write_backbone
from visiontl.errors import BackboneError, WeightsError

NAMES = [
    "timm/test_resnet",
    "timm/resnet18",
    "timm/mobilenetv2_035",
    "timm/test_vit",
    "timm/levit_128s",
    "torchvision/resnet18",
    "torchvision/mobilenet_v2",
    "torchvision/squeezenet1_1",
    "torchvision/googlenet",
]


def made(name, **options):
    """A backbone whose weights and statistics are no library's beginning, in eval mode."""
    torch.manual_seed(0)
    backbone = plugins.backbone_entry(name)[0].build(**options)
    for buffer_name, buffer in backbone.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return backbone.eval()


def loaded(path):
    """The library's model, made as the file says, with its tensors loaded strictly; and the file's metadata."""
    import timm
    import torchvision

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    place = {"torch": torch, "timm": timm, "torchvision": torchvision}
    exec(metadata["model"], place)
    place["model"].load_state_dict(load_file(path), strict=True)
    return place["model"].eval(), metadata


@pytest.mark.parametrize("headed", [False, True], ids=["body", "classifier"])
@pytest.mark.parametrize("name", NAMES)
def test_the_library_loads_the_file_strictly_and_gives_the_same(name, headed, tmp_path):
    backbone = made(name, image_size=(64, 64)) if name != "timm/levit_128s" else made(name)
    head = backbone.classifier(7).eval() if headed else None
    done = write_backbone(tmp_path / "out.safetensors", backbone, head)
    assert done.classes == (7 if headed else 0)
    model, metadata = loaded(done.path)
    assert metadata["backbone"] == name
    assert visiontl.ImageSpec.from_json(json.loads(metadata["preprocessing"])) == backbone.spec
    image = torch.rand(2, 3, *backbone.spec.size)
    with torch.no_grad():
        features = backbone(image, maps=[len(backbone.channels) - 1], pooled=True)
        ours = head(features) if head is not None else features.pooled
        theirs = model(backbone.normalize(image))
    assert ours.std() > 1e-4
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("name", ["timm/test_resnet", "torchvision/squeezenet1_1"])
def test_other_input_channels_leave_too(name, tmp_path):
    backbone = made(name, in_channels=4)
    model, _ = loaded(write_backbone(tmp_path / "out.safetensors", backbone).path)
    x = torch.rand(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model(backbone.normalize(x)), backbone(x, pooled=True).pooled, rtol=1e-6, atol=1e-6)


def test_a_strangers_weights_leave_under_the_strangers_names(tmp_path):
    from visiontl_pebbles_model import Pebbles

    backbone = made("pebbles/small")
    head = backbone.classifier()
    theirs = Pebbles().eval()
    theirs.load_state_dict(load_file(write_backbone(tmp_path / "out.safetensors", backbone, head).path), strict=True)
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        ours = head(backbone(image, pooled=True))
        torch.testing.assert_close(theirs(backbone.normalize(image)), ours, rtol=1e-6, atol=1e-6)


def test_what_comes_in_goes_out_bit_for_bit(tmp_path):
    from visiontl.backbones.weights import make_backbone

    entry, _ = plugins.backbone_entry("pebbles/small")
    backbone, _ = make_backbone(entry, "night")
    done = write_backbone(tmp_path / "out.safetensors", backbone, backbone.classifier())
    given, came = load_file(done.path), entry.state("night")
    assert given.keys() == came.keys()
    assert all(torch.equal(given[name], came[name]) for name in came)


def test_what_cannot_be_written_is_refused_in_words(tmp_path):
    backbone = made("pebbles/small")
    (tmp_path / "there.safetensors").write_text("mine")
    for name, words in {
        "there.safetensors": "never overwritten",
        "out.pth": "name the file out.safetensors",
        "nowhere/out.safetensors": "there is no folder",
    }.items():
        with pytest.raises(WeightsError, match=words):
            write_backbone(tmp_path / name, backbone)
    backbone.body.second = torch.nn.Identity()
    with pytest.raises(BackboneError, match=r"cut off what it does not read \(body\.second"):
        write_backbone(tmp_path / "cut.safetensors", backbone)
    assert [path.name for path in tmp_path.iterdir()] == ["there.safetensors"]
    assert (tmp_path / "there.safetensors").read_text() == "mine"


def test_the_command_writes_a_runs_backbone(tmp_path, monkeypatch, capsys):
    (tmp_path / "photos").mkdir()
    for i in range(16):
        Image.new("RGB", (40, 40), (15 * i, 90, 240 - 15 * i)).save(tmp_path / f"photos/{i:02}.png")
    monkeypatch.chdir(tmp_path)
    visiontl.train(
        {
            "task": {"name": "brightness", "data": "photos"},
            "backbone": {"name": "timm/test_resnet", "weights": "none", "image_size": 32},
            "train": {"batch_size": 4, "epochs": 1},
            "run": {"name": "one"},
        }
    )
    capsys.readouterr()
    assert cli.main(["export-backbone", "runs/one", "out.safetensors"]) == 0
    assert "timm.create_model('test_resnet', num_classes=0" in capsys.readouterr().out
    model, _ = loaded(tmp_path / "out.safetensors")
    trained = visiontl.load("runs/one").built.backbone
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        ours = trained(image, pooled=True).pooled
        torch.testing.assert_close(model(trained.normalize(image)), ours, rtol=1e-6, atol=1e-6)
    for arguments, words in {
        ("runs/one", "out.safetensors"): "never overwritten",
        ("runs/two", "other.safetensors"): "no such run folder",
        ("photos", "other.safetensors"): "holds no exported model",
    }.items():
        assert cli.main(["export-backbone", *arguments]) == 2
        assert words in capsys.readouterr().err
