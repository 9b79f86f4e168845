"""The judge: cut behind its last used layer, fixed, asked by name or by level, refused where it cannot serve."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from visiontl_style.loss_network import LossNetwork, choose_layers, drawn_shift, read, require_suited, shifted
from visiontl_style.losses import loss
from visiontl_style.pictures import decoded

from tests.style.made import META, batch, generator, network
from visiontl import BackboneError, plugins


def backbone(name: str, **keys):
    return plugins.backbone_entry(name)[0].build(**keys).eval()


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("torchvision/squeezenet1_1", ("features.1", "features.6")),
        ("torchvision/vgg16", ("features.3", "features.15")),
        ("torchvision/mobilenet_v2", ("features.2.conv.0", "features.4.conv.0")),
        ("torchvision/resnet18", ("map0", "map1", "layer2.0.relu")),
        ("timm/resnet18", ("map1", "layer2")),
        ("timm/mobilenetv3_small_050", ("map0", "map2")),
        ("visiontl/tiny", ("map0", "map2")),
    ],
)
def test_cutting_changes_nothing_that_is_read_and_drops_the_rest(name, layers):
    net = backbone(name)
    image = torch.rand(1, 3, 72, 64, generator=generator())
    with torch.no_grad():
        before = read(net, image, layers)
        judge = LossNetwork(net, choose_layers(net, dict.fromkeys(layers, 1.0), dict.fromkeys(layers, 1.0)))
        after = judge(image, layers)
    assert all(torch.equal(before[name], after[name]) for name in layers)
    left = sum(parameter.numel() for parameter in net.parameters())
    assert judge.dropped > 0
    gradients = torch.autograd.grad(
        sum(x.sum() for x in judge(image, layers).values()), list(net.parameters()), allow_unused=True
    )
    used = sum(p.numel() for p, g in zip(net.parameters(), gradients, strict=True) if g is not None)
    assert left <= 2.2 * used, f"{left} parameters are kept, {used} are read"


def test_vgg_loses_its_fully_connected_layers():
    """138 million parameters become 7.6 million, by the layer table of Simonyan and Zisserman (2015)."""
    net = backbone("torchvision/vgg16")
    judge = LossNetwork(net, choose_layers(net))
    widths = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256), (256, 512)]
    widths += [(512, 512), (512, 512)]
    assert sum(p.numel() for p in net.parameters()) == sum(9 * a * b + b for a, b in widths)
    assert judge.layers.style.keys() == {"features.3", "features.8", "features.15", "features.22"}


def test_auto_goes_by_declared_strides():
    net = backbone("timm/resnet18")
    layers = choose_layers(net, encoder="auto")
    strides = {f"map{i}": stride for i, stride in enumerate(net.strides)}
    assert {strides[name] for name in layers.style} == {2, 4, 8, 16}
    assert [strides[name] for name in layers.content] == [8]
    assert strides[layers.encoder] == 4


@pytest.mark.parametrize(
    ("name", "words"),
    [("torchvision/vit_b_16", "one stride only"), ("timm/vit_tiny_patch16_224", "one stride only")],
)
def test_a_plain_vit_is_refused_by_its_strides(name, words):
    with pytest.raises(BackboneError, match=words):
        require_suited(backbone(name))


def test_a_backbone_of_one_size_or_of_gray_images_is_refused():
    with pytest.raises(BackboneError, match="pixels only"):
        require_suited(backbone("torchvision/maxvit_t"))
    with pytest.raises(BackboneError, match="in_channels: 1"):
        require_suited(backbone("visiontl/tiny", in_channels=1))


def test_a_backbone_whose_sizes_are_multiples_judges_any_size():
    net = backbone("visiontl/tiny")
    net.set_spec(replace(net.spec, pad_to=32, sizing="multiple"))
    assert read(net, torch.rand(1, 3, 50, 70), ("map0",))["map0"].shape[2:] == (32, 48)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("stage1.dwn", "has no module 'stage1.dwn'; did you mean 'stage1.down'"),
        ("map7", "pyramid levels 0 to 3"),
        ("norm", "gives no map"),
        ("", "has no module"),
    ],
)
def test_layers_that_there_are_not(layer, words):
    with pytest.raises(BackboneError, match=words):
        network(style_layers=["map0", layer])


def test_nothing_of_the_judge_learns_and_its_statistics_stay():
    model = network()
    model.judge.backbone.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in model.judge.state_dict().items()}
    model.net.train()
    outputs = model(batch())
    loss(model.cfg, outputs, {}, META)["loss"].backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.judge.state_dict().items())
    assert all(p.grad is None for p in model.judge.parameters())
    assert all(p.grad is not None for p in model.net.parameters())


def test_style_targets_are_buffers_computed_once():
    model = network()
    assert {name for name, _ in model.named_buffers() if name.startswith("gram")} == {f"gram{i}" for i in range(4)}
    asked = []
    model.judge.register_forward_pre_hook(lambda module, given: asked.append(len(given[0])))
    model.train()
    model.judge.eval()
    model(batch(3))
    assert asked == [3, 3], "results and photos, and no style picture again"


def test_a_style_is_at_no_distance_from_itself():
    model = network(size=96, style_size=96)
    pixels = decoded(META["styles"][1]["png"])[None]
    with torch.no_grad():
        found = model({"image": pixels, "style": torch.tensor([1]), "id": torch.tensor([0])})
    assert all(float(value) < 1e-9 for value in found["plain_style"].values())
    assert all(float(value) > 0.001 for value in model({**batch(1)})["plain_style"].values())


def test_jitter_moves_both_pictures_alike_and_mirrors_what_comes_in():
    a = torch.arange(36.0).view(1, 1, 6, 6)
    moved, again = shifted([a, a + 1], (2, 1), 4)
    assert torch.equal(again, moved + 1)
    assert torch.equal(moved[:, :, 2:, 1:], a[:, :, :-2, :-1])
    assert torch.equal(moved[0, 0, 1, 1:], a[0, 0, 1, :-1]), "mirrored about the first row"
    assert shifted([a], (0, 0), 0)[0] is a


def test_jitter_takes_every_shift_and_follows_its_generator():
    random = generator(1)
    drawn = {drawn_shift(4, random) for _ in range(300)}
    assert drawn == {(i, j) for i in range(4) for j in range(4)}
    assert [drawn_shift(9, generator(5)) for _ in range(2)] == [drawn_shift(9, generator(5))] * 2
