"""Architectures of many families through the contract, with random weights."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from visiontl.backbones.registry import find

# family -> names; sizes are the smallest that the families' windows allow
FAMILIES = {
    "ResNet": ["timm/resnet18", "timm/test_resnet", "torchvision/resnet18"],
    "ResNeXt": ["timm/resnext26ts"],
    "RegNet": ["timm/regnetx_002", "timm/regnety_002", "torchvision/regnet_x_400mf"],
    "VGG": ["timm/vgg11", "torchvision/vgg11"],
    "DenseNet": ["timm/densenet121", "torchvision/densenet121"],
    "SqueezeNet": ["torchvision/squeezenet1_1"],
    "ShuffleNet": ["torchvision/shufflenet_v2_x0_5"],
    "AlexNet": ["torchvision/alexnet"],
    "GoogLeNet": ["torchvision/googlenet"],
    "MobileNetV2": ["timm/mobilenetv2_035", "torchvision/mobilenet_v2"],
    "MobileNetV3": ["timm/mobilenetv3_small_050", "torchvision/mobilenet_v3_small"],
    "MobileNetV4": ["timm/mobilenetv4_conv_small_035"],
    "MNASNet": ["torchvision/mnasnet0_5"],
    "EfficientNet": ["timm/test_efficientnet", "timm/efficientnet_lite0", "torchvision/efficientnet_b0"],
    "NFNet": ["timm/test_nfnet"],
    "ConvNeXt": [
        "timm/convnext_atto",
        "timm/test_convnext",
        "timm/convnextv2_atto",
        "torchvision/convnext_tiny",
    ],
    "ViT": ["timm/vit_tiny_patch16_224", "timm/test_vit", "torchvision/vit_b_32"],
    "DeiT": ["timm/deit_tiny_patch16_224", "timm/deit_tiny_distilled_patch16_224"],
    "DINO": ["timm/vit_small_patch14_dinov2"],
    "EVA": ["timm/eva02_tiny_patch14_224"],
    "Swin": ["timm/swin_tiny_patch4_window7_224", "torchvision/swin_t"],
    "Hiera": ["timm/hiera_tiny_224"],
    "MaxViT": ["timm/test_maxvit"],
    "FastViT": ["timm/fastvit_t8"],
    "PVT": ["timm/pvt_v2_b0"],
    "LeViT": ["timm/levit_128s"],
    "GhostNet": ["timm/ghostnet_050"],
    "LCNet": ["timm/lcnet_050"],
    "MetaFormer": ["timm/poolformer_s12"],
    "MambaOut": ["timm/test_mambaout"],
    "EdgeNeXt": ["timm/edgenext_xx_small"],
}
NAMES = [name for names in FAMILIES.values() for name in names]

# Nets without padding, whose maps are some pixels smaller than size / stride: (stride is nominal)
UNPADDED = {"torchvision/alexnet", "torchvision/squeezenet1_1"}
SLOW_HEAD = {"timm/vgg11", "torchvision/vgg11"}  # 100 M parameters in hidden layers: one size is enough


def sizes(backbone) -> list[tuple[int, int]]:
    """Two sizes to try: small ones where any will do."""
    step = max(max(backbone.strides), backbone.spec.pad_to)
    if backbone.spec.sizing == "fixed":
        return [backbone.spec.size]
    if backbone.name in SLOW_HEAD:
        return [(64, 64), (96, 64)]
    return [(2 * step, 2 * step), (3 * step, 4 * step)]


def test_covers_the_families():
    assert len(NAMES) >= 40
    assert len(FAMILIES) >= 15


@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    entry, _ = find(name)
    torch.manual_seed(0)
    backbone = entry.build()
    check_stages(backbone)
    check_specification(backbone)
    backbone.eval()
    for size in sizes(backbone):
        check_shapes(backbone, size)
    other = {"timm/test_maxvit": (224, 224), "torchvision/vit_b_32": (96, 96)}.get(name)
    if other:  # made for one size: another one is chosen at build
        check_shapes(entry.build(image_size=other).eval(), other)
    check_frozen(backbone)


def check_stages(backbone):
    stages = backbone.stages
    assert stages[0] == "stem"
    assert stages[-1] == "final"
    assert len(set(stages)) == len(stages)
    assert len(stages) >= 3
    parameters = {name for name, _ in backbone.named_parameters()}
    buffers = {name for name, _ in backbone.named_buffers()} - {"mean", "std"}
    missing = (parameters | buffers) - set(backbone.stage_of)
    assert not missing
    assert set(backbone.stage_of.values()) <= set(stages)
    modules = dict(backbone.named_modules())
    for name, stage in backbone.stage_of.items():  # a module's stage is that of all its parameters
        if name in modules:
            inside = {s for p, s in backbone.stage_of.items() if p in parameters and p.startswith(f"{name}.")}
            assert inside <= {stage}, name
    for name, module in modules.items():  # every leaf has a stage: no dropout is forgotten
        if name and not list(module.children()):
            assert name in backbone.stage_of, name
    assert all(p.requires_grad for p in backbone.parameters()) or "efficientvim" in backbone.name


def check_specification(backbone):
    spec = backbone.spec
    assert len(spec.size) == 2
    assert len(spec.mean) == len(spec.std) == 3
    assert spec.interpolation in ("bilinear", "bicubic", "nearest", "lanczos")
    assert 0 < spec.crop <= 1
    assert spec.sizing in ("any", "multiple", "fixed")
    assert backbone.mean.flatten().tolist() == pytest.approx(list(spec.mean))


def check_shapes(backbone, size):
    """One pass gives all maps and pooled, at the declared channels and strides, and reads each module once."""
    calls: Counter[str] = Counter()
    leaves = [
        (name, module)
        for name, module in backbone.named_modules()
        if not list(module.children()) and list(module.parameters(recurse=False))
    ]
    handles = [
        module.register_forward_hook(lambda _m, _a, _o, name=name: calls.update([name])) for name, module in leaves
    ]
    image = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.no_grad():
        everything = backbone(image, maps=range(len(backbone.channels)), pooled=True)
    for handle in handles:
        handle.remove()
    assert calls
    assert max(calls.values()) == 1, f"read twice: {[n for n, c in calls.items() if c > 1]}"
    for found, channels, stride in zip(everything.maps, backbone.channels, backbone.strides, strict=True):
        expected = size[0] / stride, size[1] / stride
        assert found.shape[:2] == (2, channels)
        for side, wanted in zip(found.shape[2:], expected, strict=True):
            rounding = 0 if wanted == int(wanted) else 0.99  # LeViT's 224 is no multiple of its stride 64
            slack = 2 if backbone.name in UNPADDED else rounding
            assert abs(side - wanted) <= slack, (size, stride, found.shape)
    assert everything.pooled.shape == (2, backbone.embed_dim)
    assert torch.isfinite(everything.pooled).all()
    with torch.no_grad():  # asking for less gives the same values
        some = [len(backbone.channels) - 1, 0]
        part = backbone(image, maps=some)
        alone = backbone(image, pooled=True)
    assert part.pooled is None
    for level, found in zip(some, part.maps, strict=True):
        assert torch.equal(found, everything.maps[level])
    torch.testing.assert_close(alone.pooled, everything.pooled)


def check_frozen(backbone):
    """In training mode, with the modules of the lower half's stages in eval mode, its maps do not vary and its
    statistics do not move."""
    level = len(backbone.channels) // 2
    cut = [stage for stage in backbone.stages[:-1] if depth(backbone, stage) <= level]
    backbone.train()
    for name, module in backbone.named_modules():
        if backbone.stage_of.get(name) in cut:
            module.eval()
    for module in backbone.modules():  # make what is random surely visible
        if isinstance(module, (nn.Dropout, nn.Dropout2d)) and module.p == 0:
            module.p = 0.3
        if hasattr(module, "drop_prob") and isinstance(module.drop_prob, float):
            module.drop_prob = 0.3
    before = {n: b.clone() for n, b in backbone.named_buffers() if backbone.stage_of.get(n) in cut}
    size = sizes(backbone)[0]
    image = torch.rand(2, 3, *size)
    with torch.no_grad():
        first, second = (backbone(image, maps=[level]).maps[0] for _ in range(2))
    assert torch.equal(first, second)
    for name, buffer in backbone.named_buffers():
        if name in before:
            assert torch.equal(buffer, before[name]), name


def depth(backbone, stage):
    return backbone.level_of[stage]


def test_only_what_is_asked_for_runs():
    for name, deep in (("timm/test_vit", "body.blocks.5"), ("torchvision/resnet18", "body.layer4")):
        backbone = find(name)[0].build().eval()
        ran = []
        backbone.get_submodule(deep).register_forward_hook(lambda *_, ran=ran: ran.append(1))
        backbone(torch.rand(1, 3, 64, 64), maps=[1])
        assert not ran
        backbone(torch.rand(1, 3, 64, 64), pooled=True)
        assert ran


def test_graph_of_a_map_reaches_its_stages_alone():
    backbone = find("timm/test_convnext")[0].build()
    backbone(torch.rand(2, 3, 64, 64), maps=[1]).maps[0].sum().backward()
    reached = {backbone.stage_of[n] for n, p in backbone.named_parameters() if p.grad is not None}
    assert reached == {s for s in backbone.stages if backbone.level_of[s] <= 1}
    assert "final" not in reached


@pytest.mark.parametrize("small", [0, 1_000_000])
def test_stages_leave_the_body_as_it_was(small, monkeypatch):
    from visiontl.kit import stages
    from visiontl.kit.stages import partition

    monkeypatch.setattr(stages, "SMALL", small)
    body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 8, 3, stride=2))
    body[0].weight.requires_grad_(False)
    body.train()
    body[1].eval()
    before = {k: v.clone() for k, v in body.state_dict().items()}

    def run(model):
        x = torch.rand(2, 3, 16, 16, device=next(model.parameters()).device)
        first = model[2](model[1](model[0](x)))
        last = model[3](first)
        if last.device.type == "meta":  # force the pass on the body's own device
            raise RuntimeError("no meta kernel")
        return [first, last], last.mean((2, 3))

    parts = partition(body, run, prefix="")
    assert parts.stages == ("stem", "3", "final")
    assert parts.stage_of["2"] == "3"  # dropout belongs to what reads it
    assert not body[0].weight.requires_grad
    assert body[3].weight.requires_grad
    assert body.training
    assert not body[1].training
    for key, value in body.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("timm/resnet18", ("stem", "layer1", "layer2", "layer3", "layer4", "final")),
        ("timm/convnext_atto", ("stem", "stages.0", "stages.1", "stages.2", "stages.3", "final")),
        (
            "timm/mobilenetv2_100",
            ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3-4", "blocks.5-6", "final"),
        ),
        ("timm/vit_tiny_patch16_224", ("stem", *(f"blocks.{i}" for i in range(12)), "final")),
    ],
)
def test_names_of_stages(name, stages):
    backbone = find(name)[0].build()
    assert backbone.stages == stages
    if "vit" in name:
        assert {backbone.stage_of[f"body.{n}"] for n in ("cls_token", "pos_embed", "patch_embed.proj.weight")} == {
            "stem"
        }
        assert backbone.stage_of["body.norm.weight"] == "final"
