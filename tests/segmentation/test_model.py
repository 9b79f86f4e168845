"""Decoders on backbones: a sample of `tools/decoders.py`, the library's own model as oracle, refusals in words."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional
from visiontl_segmentation.config import SegmentationConfig
from visiontl_segmentation.model import model

from tests.shared import ROOT
from visiontl import BackboneError, TrainingError, plugins
from visiontl.kit.pyramids import SimplePyramid

META = {"classes": ["a", "b", "c"], "counts": [1, 1, 1]}

SAMPLE = [
    ("unet", "timm/mobilenetv3_small_050"),
    ("unetplusplus", "visiontl/tiny"),
    ("manet", "timm/resnet10t"),
    ("linknet", "timm/pvt_v2_b0"),
    ("fpn", "timm/convnext_atto"),
    ("pspnet", "timm/resnet10t"),
    ("deeplabv3", "timm/resnet10t at stride 16"),
    ("deeplabv3plus", "timm/vit_tiny_patch16_224"),
    ("pan", "timm/mobilenetv3_small_050"),
    ("upernet", "timm/vit_tiny_patch16_224"),
    ("segformer", "torchvision/squeezenet1_1"),
    ("dpt", "timm/vit_tiny_patch16_224"),
]


@pytest.fixture(scope="module")
def sweep():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        yield importlib.import_module("decoders")


@pytest.mark.parametrize(("decoder", "backbone"), SAMPLE, ids=lambda value: value)
def test_one_step_of_each_decoder(sweep, decoder, backbone):
    result = sweep.one_step(decoder, backbone)
    assert result.outcome == "ok", result.said


@pytest.mark.parametrize(
    ("decoder", "backbone", "words"),
    [
        ("unetplusplus", "timm/levit_128s", ("strides 16, 32", "each stride from 4 on", "task.decoder=unet")),
        ("dpt", "torchvision/squeezenet1_1", ("dpt needs strides 4, 8, 16, 32", "vit_tiny")),
        ("pspnet", "timm/levit_128s", ("stride 8 or finer", "pspnet on timm/resnet18")),
    ],
)
def test_a_pair_that_cannot_work_names_one_that_can(sweep, decoder, backbone, words):
    result = sweep.one_step(decoder, backbone)
    assert result.outcome == "refused"
    for word in words:
        assert word in result.said


def test_the_table_tells_what_failed(sweep):
    results = [sweep.Result("fpn", "x", "ok", parameters=2_000_000), sweep.Result("unet", "x", "FAILED", "broke")]
    page = sweep.page(results)
    assert "1 of 2 pairs are sound" in page
    assert "unet: broke" in page


def built(task: dict | None = None, name: str = "timm/resnet10t", size: tuple[int, int] = (64, 64), **keys):
    entry, _ = plugins.backbone_entry(name)
    cfg = SegmentationConfig.model_validate({"data": ".", **(task or {})})
    return model(cfg, entry.build(image_size=size, **keys), META)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "decoder", ["unet", "fpn", "linknet", "manet", "unetplusplus", "upernet", "segformer", "pspnet"]
)
def test_logits_are_those_of_the_librarys_model(decoder):
    """The library's whole model on its own ResNet-18, with our weights moved into it, gives our map."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    net = built({"decoder": decoder}, "timm/resnet18").eval()
    names = {"unet": "Unet", "unetplusplus": "UnetPlusPlus", "manet": "MAnet", "linknet": "Linknet", "fpn": "FPN",
             "pspnet": "PSPNet", "upernet": "UPerNet", "segformer": "Segformer"}  # fmt: skip
    theirs = getattr(smp, names[decoder])("resnet18", encoder_weights=None, classes=3).eval()
    body = net.decode.backbone.body.state_dict()
    theirs.encoder.load_state_dict({**body, "fc.weight": None, "fc.bias": None})  # the library drops the last two
    theirs.decoder.load_state_dict(net.decode.decoder.state_dict())
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        decoded, extent = net.decode(image)
        expected = theirs.decoder(theirs.encoder(net.decode.backbone.normalize(image)))
    assert extent == (64, 96)
    assert torch.allclose(decoded, expected, rtol=1e-9, atol=1e-9)


def test_training_logits_are_at_the_size_of_the_images():
    net = built()
    net.train()
    batch = {"image": torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)}
    logits = net(batch)["logits"]
    assert logits.shape == (2, 3, 64, 96)
    net.eval()
    with torch.no_grad():
        found = net(batch)
    assert found["extent"].tolist() == [[64, 96], [64, 96]]
    assert found["logits"].shape[2:] == (16, 24)


@pytest.mark.usefixtures("double")
def test_an_image_does_not_depend_on_its_neighbors():
    net = built().eval()
    one, other = (torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in ((64, 96), (96, 64)))
    with torch.no_grad():
        together, alone = net({"image": [one, other]}), net({"image": one[None]})
    assert torch.allclose(together["logits"][0], alone["logits"][0], rtol=1e-9, atol=1e-9)
    assert together["extent"].tolist() == [[64, 96], [96, 64]]


def test_windows_in_evaluation():
    net = built({"windows": {"overlap": 0.5}, "resize": "original"}).eval()
    with torch.no_grad():
        found = net({"image": torch.randint(0, 256, (1, 3, 96, 160), dtype=torch.uint8)})
    assert found["logits"][0].shape == (3, 96, 160)
    assert torch.allclose(found["logits"][0].exp().sum(0), torch.ones(96, 160), atol=1e-4)


def test_patches_that_are_no_power_of_two_cover_the_image():
    """A map of 5 x 7 patches of 14 pixels stands for 70 x 98 of them, more than the image's 64 x 96."""
    net = built({"decoder": "fpn"}, "timm/vit_small_patch14_dinov2", (64, 96)).eval()
    with torch.no_grad():
        found = net({"image": torch.zeros(1, 3, 64, 96, dtype=torch.uint8)})
    assert found["extent"].tolist() == [[70, 98]]


@pytest.mark.parametrize(("name", "factors"), [("vit_tiny_patch16_224", 3), ("vit_small_patch32_224", 6)])
def test_a_plain_backbone_gets_the_simple_pyramid_of_strides_4_to_32(name, factors):
    neck = built({"decoder": "upernet"}, f"timm/{name}", (64, 64)).decode.neck
    assert isinstance(neck, SimplePyramid)
    assert len(neck.branches) == 4
    doublings = [one for one in neck.modules() if isinstance(one, nn.ConvTranspose2d)]
    assert len(doublings) == factors  # 4, 2, 1, 1/2 times patches of 16 pixels; 8, 4, 2, 1 times those of 32


def test_one_image_under_a_decoder_that_normalizes_over_images_is_refused():
    net = built({"decoder": "deeplabv3"})
    net.train()
    with pytest.raises(TrainingError, match="two images or more"):
        net({"image": torch.zeros(1, 3, 64, 64, dtype=torch.uint8)})


@pytest.mark.parametrize(
    ("task", "keys", "words"),
    [
        ({}, {"in_channels": 4}, "reads RGB photos"),
        ({"loss": {"cross_entropy": 1, "class_weights": [1.0, 2.0]}}, {}, "2 weights for 3 classes"),
        ({"resize": "original"}, {"name": "timm/hiera_tiny_224", "size": (224, 224)}, "task.windows={}"),
    ],
)
def test_backbones_and_settings_that_do_not_fit(task, keys, words):
    with pytest.raises(BackboneError, match=words):
        built(task, **keys)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"decoder": "unett"}, "unett"),
        ({"decoder": {"name": "linknet", "width": 64}}, "leave width out"),
        ({"decoder": {"name": "fpn", "width": 96}}, "multiple of 64"),
        ({"decoder": {"name": "unet", "dropout": 0.5}}, "no dropout"),
        ({"resize": 3}, "from 16 on"),
        ({"augment": "heavy"}, "presets are"),
        ({"augment": {"scale": [2.0, 1.0]}}, "between"),
        ({"data": {"folder": ".", "background_policy": "ignore"}}, "background: NAME"),
        ({"data": {"folder": ".", "classes": ["a", "a"]}}, "must be different"),
        ({"data": {"folder": ".", "colors": {"a": [0, 0, 0], "b": [0, 0, 0]}}}, "same color"),
        ({"data": {"folder": ".", "colors": {"a": [0, 0, 256]}}}, "is no color"),
        ({"data": {"folder": ".", "images": "x"}}, "both images and masks"),
    ],
)
def test_settings_that_make_no_sense(task, words):
    with pytest.raises(ValueError, match=words):
        SegmentationConfig.model_validate({"data": ".", **task})


def test_upsampling_is_interpolate():
    from visiontl_segmentation.model import upsampled

    small = torch.randn(1, 3, 8, 8)
    expected = functional.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(upsampled(small, (32, 32)), expected)
