"""Sizes, strides, channels, layers, saved specifications, and what is refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from visiontl.backbones.registry import entries, find
from visiontl.backbones.weights import make_backbone
from visiontl.errors import BackboneError, WeightsError
from visiontl.spec import ImageSpec


def build(name, **options):
    return find(name)[0].build(**options).eval()


def test_bare_names_mean_timm_and_say_so():
    entry, note = find("resnet18")
    assert entry.name == "timm/resnet18"
    assert "timm/resnet18" in note
    for name in ("alexnet", "squeezenet1_1", "googlenet", "shufflenet_v2_x1_0"):
        assert find(name)[0].name == f"torchvision/{name}"
    assert find("tiny")[0].name == "visiontl/tiny"
    assert find("torchvision/resnet18")[1] is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnet81", "resnet18"),
        ("timm/resnet81", "timm/resnet18"),
        ("torchvision/squeeznet1_1", "torchvision/squeezenet1_1"),
        ("resnet18.a1_in1k", "backbone.weights"),
    ],
)
def test_unknown_names_get_the_nearest(name, words):
    with pytest.raises(BackboneError, match=words.replace(".", r"\.")):
        find(name)


def test_names_outside_the_catalog_are_asked_of_the_libraries():
    entry, note = find("timm/resnet18", [])
    assert "not in the catalog" in note
    assert entry.weights[0].tag == "a1_in1k"
    assert entry.build().embed_dim == 512
    assert find("squeezenet1_1", [])[0].name == "torchvision/squeezenet1_1"


def test_offering_entries_imports_no_torch():
    code = (
        "import sys; from visiontl.backbones import visiontl_backbones as hook, registry, listing, catalog;"
        "offered = hook(); rows = [listing.cells(entry) for entry in offered]; catalog.stale();"
        "registry.find('resnet18'); heavy = ('torch', 'timm', 'torchvision');"
        "print(len(offered), len(rows), [m for m in heavy if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split(
        maxsplit=2
    )
    assert int(out[0]) > 1000
    assert int(out[1]) == int(out[0])
    assert out[2].strip() == "[]"
    assert len({e.name for e in entries()}) == len(entries())


def test_what_cannot_be_a_backbone_says_why():
    for name in ("timm/mobilenetv5_300m_enc", "timm/qwen3_vit_88m_enc"):
        entry, _ = find(name)
        assert entry.facts["problem"]
        with pytest.raises(BackboneError, match="cannot serve as a backbone"):
            entry.build()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm/hiera_tiny_224", {"image_size": (230, 230)}, "takes images of 224 x 224"),
        ("timm/crossvit_9_240", {"image_size": (240, 320)}, "takes images of 240 x 240"),
        ("timm/tresnet_m", {"image_size": (230, 230)}, "multiples of 32"),
        ("torchvision/vit_b_32", {"image_size": (224, 256)}, "takes images of 224 x 224"),
        ("timm/test_vit", {"output_stride": 8}, "output stride|stride 8"),
        ("timm/swin_tiny_patch4_window7_224", {"output_stride": 8}, "stride"),
        ("torchvision/resnet18", {"output_stride": 8}, "output stride"),
        ("torchvision/vgg11", {"output_stride": 8}, "output stride"),
        ("visiontl/tiny", {"output_stride": 8}, "output stride"),
    ],
)
def test_impossible_wishes_are_refused_in_words(name, options, words):
    with pytest.raises(BackboneError, match=words):
        build(name, **options)


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/test_efficientnet", "torchvision/resnet50"])
@pytest.mark.parametrize("stride", [8, 16])
def test_output_stride(name, stride):
    backbone = build(name, output_stride=stride)
    assert max(backbone.strides) == stride
    assert len(backbone.channels) == 5
    maps = backbone(torch.rand(1, 3, 64, 64), maps=range(5)).maps
    assert [64 // m.shape[2] for m in maps] == list(backbone.strides)


def test_image_size_follows_the_request_and_odd_sizes_work():
    backbone = build("timm/test_vit", image_size=(72, 104))
    assert backbone.spec.size == (72, 104)
    assert backbone(torch.rand(1, 3, 72, 104), maps=[0]).maps[0].shape[2:] == (5, 7)  # padded to the patch
    windows = build("timm/test_maxvit", image_size=(192, 192))
    assert windows(torch.rand(1, 3, 192, 192), maps=[0]).maps[0].shape[2:] == (96, 96)
    fixed = build("timm/test_vit_relpos", image_size=(96, 96))
    assert fixed.spec.sizing == "fixed"
    assert fixed(torch.rand(1, 3, 96, 96), maps=[0]).maps[0].shape[2:] == (6, 6)


@pytest.mark.parametrize("name", ["timm/test_resnet", "timm/test_vit", "torchvision/squeezenet1_1", "visiontl/tiny"])
@pytest.mark.parametrize("channels", [1, 4])
def test_input_channels(name, channels):
    backbone = build(name, in_channels=channels)
    assert backbone.mean.shape[1] == channels
    found = backbone(torch.rand(2, channels, 64, 64), maps=[0], pooled=True)
    assert found.pooled.shape == (2, backbone.embed_dim)


def test_layers_are_what_the_modules_gave():
    for name, layer in (
        ("timm/test_resnet", "layer2.0.conv1"),
        ("torchvision/vgg11", "features.3"),
        ("visiontl/tiny", "stage1.down.0"),
    ):
        backbone = build(name)
        expected = []
        handle = backbone.get_submodule(f"body.{layer}").register_forward_hook(
            lambda _m, _a, out, expected=expected: expected.append(out.clone())
        )
        with torch.no_grad():
            features = backbone(torch.rand(1, 3, 64, 64), layers=[layer])
        handle.remove()
        assert features.maps == []
        assert features.pooled is None
        assert torch.equal(features.layers[layer], expected[0])  # before any in-place activation
        assert (features.layers[layer] < 0).any()
        with pytest.raises(BackboneError, match="did you mean"):
            backbone(torch.rand(1, 3, 64, 64), layers=[layer[:-1] + "x1"])


def test_levels_out_of_range():
    with pytest.raises(BackboneError, match="levels 0 to 3"):
        build("visiontl/tiny")(torch.rand(1, 3, 32, 32), maps=[4])


@pytest.mark.parametrize(
    "name", ["timm/test_resnet", "torchvision/squeezenet1_1", "timm/test_vit_relpos", "visiontl/tiny"]
)
def test_a_saved_specification_wins(name):
    """Built again from what a run saves, a model gives the same values, whatever the architecture prefers."""
    entry, _ = find(name)
    own = entry.build(image_size=(96, 96))
    own.set_spec(replace(own.spec, mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7), crop=0.5))
    spec = ImageSpec.from_json(own.spec.to_json())
    again = entry.build(spec=spec)
    assert again.spec == own.spec
    again.load_state_dict(own.state_dict())
    own.eval()
    again.eval()
    image = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(own(image, pooled=True).pooled, again(image, pooled=True).pooled)
        by_hand = (image / 255 - torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.9, 0.8, 0.7]).view(
            1, 3, 1, 1
        )
        torch.testing.assert_close(own.normalize(image), by_hand)


def test_a_copy_is_independent():
    backbone = build("torchvision/resnet18")
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
        image = torch.rand(1, 3, 64, 64)
        assert backbone(image, maps=[2]).maps[0].abs().sum() > 0
        assert twin(image, maps=[2]).maps[0].abs().sum() == 0


def test_frozen_parameters_of_the_library_stay_frozen():
    backbone = build("timm/efficientvim_m1")
    fixed = [n for n, p in backbone.named_parameters() if not p.requires_grad]
    assert fixed == ["body.weights"]
    assert backbone.stage_of["body.weights"] in backbone.stages


def test_tiny_builds_without_timm_and_without_weights():
    code = (
        "import sys; from visiontl.backbones.registry import find; b = find('visiontl/tiny')[0].build();"
        "print([m for m in ('timm', 'torchvision') if m in sys.modules], sum(p.numel() for p in b.parameters()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("[] ")
    assert int(out.split()[-1]) < 20_000
    entry, _ = find("visiontl/tiny")
    assert entry.facts["params"] == int(out.split()[-1])
    backbone, report = make_backbone(entry, "none")
    assert report.fraction == 0
    assert backbone.stages == ("stem", "stage1", "stage2", "stage3", "final")
    with pytest.raises(WeightsError, match="no pretrained weights"):
        make_backbone(entry, "default")
    with pytest.raises(BackboneError, match="no classification head"):
        backbone.classifier()
