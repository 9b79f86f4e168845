"""What a backbone on offer promises, one clause a check. Each takes its entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import NORMALIZATION, Backbone, Features
from visiontl.entry import BackboneEntry
from visiontl.errors import BackboneError
from visiontl.kit.words import some

BATCH = 2
NEAR = 1e-4


def built(entry: BackboneEntry, **wishes: Any) -> Backbone:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return entry.build(**wishes).eval()


def passed(backbone: Backbone, images: Tensor | None = None) -> Features:
    if images is None:
        images = torch.rand(
            BATCH, backbone.in_channels, *backbone.spec.size, generator=torch.Generator().manual_seed(0)
        )
    with torch.no_grad():
        return backbone(images, maps=range(len(backbone.channels)), pooled=True)


def states_its_channels_and_strides(entry: BackboneEntry) -> None:
    """channels, strides: those of the maps that it gives, level by level."""
    backbone = built(entry)
    assert len(backbone.channels) == len(backbone.strides), (
        f"channels: {len(backbone.channels)}, and {len(backbone.strides)} strides; expected one of each per level"
    )
    height, width = backbone.spec.size
    for level, one in enumerate(passed(backbone).maps):
        found, stated = one.shape[1], backbone.channels[level]
        assert found == stated, f"channels: level {level} has {found} channels; {stated} are stated"
        stride = backbone.strides[level]
        for side, length in zip(one.shape[2:], (height, width), strict=True):
            # a convolution without padding loses a row or two
            assert abs(side - length / stride) <= max(2.0, 0.15 * length / stride), (
                f"strides: level {level} is {tuple(one.shape[2:])} for images of {height} x {width}; {stride} is stated"
            )


def states_its_embed_dim(entry: BackboneEntry) -> None:
    """embed_dim: the width of the pooled embedding, one row per image."""
    backbone = built(entry)
    pooled = passed(backbone).pooled
    assert pooled is not None, "extract: it gives no pooled embedding where one is asked for"
    expected = (BATCH, backbone.embed_dim)
    assert tuple(pooled.shape) == expected, f"embed_dim: pooled is {tuple(pooled.shape)}; {expected} is stated"


def puts_each_tensor_into_one_stage(entry: BackboneEntry) -> None:
    """stages, stage_of: every parameter and buffer but mean and std belongs to one of the stages, each named once."""
    backbone = built(entry)
    assert len(set(backbone.stages)) == len(backbone.stages), f"stages: one twice: {', '.join(backbone.stages)}"
    names = [name for name in backbone.state_dict() if name not in NORMALIZATION]
    homeless = [name for name in names if name not in backbone.stage_of]
    assert not homeless, f"stage_of: {some(homeless)} is in no stage, so no policy freezes or trains it"
    foreign = sorted({backbone.stage_of[name] for name in names} - set(backbone.stages))
    assert not foreign, f"stage_of: {some(foreign)} is none of the stages ({', '.join(backbone.stages)})"
    members = {name for name, _ in (*backbone.named_modules(), *backbone.named_parameters(), *backbone.named_buffers())}
    unknown = [name for name in backbone.stage_of if name not in members]
    assert not unknown, f"stage_of: {some(unknown)} is no parameter, buffer or module of it"
    tensors: dict[int, str] = {}
    for name, tensor in backbone.named_parameters(remove_duplicate=False):
        first = tensors.setdefault(id(tensor), name)
        assert backbone.stage_of[first] == backbone.stage_of[name], (
            f"stage_of: {first} and {name} are one tensor and stand in two stages"
        )
    empty = [stage for stage in backbone.stages[:-1] if stage not in backbone.stage_of.values()]
    assert not empty, f"stages: nothing belongs to {some(empty)}"


def orders_its_stages_as_they_compute(entry: BackboneEntry) -> None:
    """stages: stem first, in the order in which they compute."""
    backbone, first = built(entry), dict[str, int]()

    def watch(stage: str) -> Callable[..., None]:
        return lambda *_: None if stage in first else first.update({stage: len(first)})

    handles = [
        module.register_forward_pre_hook(watch(backbone.stage_of[name]))
        for name, module in backbone.named_modules()
        if name in backbone.stage_of and next(module.parameters(recurse=False), None) is not None
    ]
    try:
        passed(backbone)
    finally:
        for handle in handles:
            handle.remove()
    ran = [stage for stage in backbone.stages if stage in first]
    for before, after in pairwise(ran):
        assert first[before] < first[after], (
            f"stages: {after} computes before {before}, so `until` and `gradual` would freeze the wrong ones"
        )


def leaves_a_frozen_network_as_it_is(entry: BackboneEntry) -> None:
    """extract: in eval mode a pass writes no buffer; frozen statistics do not move."""
    backbone = built(entry)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    first, second = passed(backbone), passed(backbone)
    moved = [name for name, tensor in backbone.state_dict().items() if not torch.equal(tensor, before[name])]
    assert not moved, f"extract: a pass in eval mode changes {some(moved)}"
    for one, other in zip(first.maps, second.maps, strict=True):
        assert torch.equal(one, other), "extract: two passes in eval mode differ: is dropout active there?"


def freezes_one_stage_at_a_time(entry: BackboneEntry) -> None:
    """A stage in eval mode keeps its statistics while the others train."""
    backbone = built(entry)
    for frozen in backbone.stages:
        backbone.train()
        for name, module in backbone.named_modules():
            if backbone.stage_of.get(name) == frozen:
                module.eval()
        names = [name for name in backbone.state_dict() if backbone.stage_of.get(name) == frozen]
        before = {name: backbone.state_dict()[name].clone() for name in names}
        passed(backbone)
        moved = [name for name in names if not torch.equal(backbone.state_dict()[name], before[name])]
        assert not moved, f"stage_of: {some(moved)} moves while {frozen} is frozen: is its module in stage_of?"


def normalizes_once(entry: BackboneEntry) -> None:
    """extract: it gets normalized images and takes them as they are; mean and deviation are applied by `forward`."""
    backbone, seen = built(entry), list[Tensor]()
    handle = None
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handle = module.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            break
    if handle is None:
        return
    value = 0.25
    images = torch.full((1, backbone.in_channels, *backbone.spec.size), value)
    try:
        passed(backbone, images)
    finally:
        handle.remove()
    expected = backbone.normalize(images)[:, :, 0, 0].flatten()
    if not seen or seen[0].ndim != 4 or seen[0].shape[1] != backbone.in_channels:
        return  # its first layer reads something else
    middle = seen[0][0, :, seen[0].shape[2] // 2, seen[0].shape[3] // 2]
    assert torch.allclose(middle, expected, atol=NEAR), (
        f"extract: pixels of {value} reach the first layer as {middle.tolist()}; expected {expected.tolist()}, as "
        "`normalize` makes them: normalize nowhere else, and leave `forward` as it is"
    )
    whole = torch.full((1, backbone.in_channels, *backbone.spec.size), 51, dtype=torch.uint8)
    one, other = passed(backbone, whole).pooled, passed(backbone, whole.float() / 255).pooled
    apart, scale = float((one - other).abs().max()), float(other.abs().max())  # type: ignore[operator,union-attr]
    assert apart <= 1e-2 * scale, f"forward: uint8 images and the same as floats of 0..1 differ by {apart:.3g}"


def follows_the_image_size(entry: BackboneEntry) -> None:
    """build: `image_size` is what it is built for, or refused as BackboneError."""
    plain = built(entry)
    step = max(plain.strides)
    height, width = (side + (2 if plain.spec.size[0] < 200 else 1) * step for side in plain.spec.size)
    with suppress(BackboneError):
        other = built(entry, image_size=(height, width))
        assert tuple(other.spec.size) == (height, width), (
            f"build: image_size=({height}, {width}) was asked for, and its spec says {tuple(other.spec.size)}"
        )
        found = passed(other).maps[-1].shape[2:]
        assert found != passed(plain).maps[-1].shape[2:], f"build: image_size makes no difference to its maps, {found}"


def takes_the_specification_it_is_built_for(entry: BackboneEntry) -> None:
    """build: `spec` wins over the architecture's own."""
    plain = built(entry)
    stated = type(plain.spec)(size=plain.spec.size, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    found = built(entry, spec=stated).spec
    assert (found.mean, found.std) == (stated.mean, stated.std), (
        f"build: spec says mean {stated.mean} and deviation {stated.std}; it has {found.mean} and {found.std}"
    )


def offers_what_it_is(entry: BackboneEntry) -> None:
    """facts: what a listing says of it is what is built."""
    backbone = built(entry)
    found: dict[str, Any] = {
        "params": sum(one.numel() for one in backbone.parameters()),
        "embed_dim": backbone.embed_dim,
        "strides": tuple(backbone.strides),
        "size": tuple(backbone.spec.size),
    }
    for key, value in entry.facts.items():
        if key in found and value:
            stated: Any = tuple(value) if isinstance(value, list | tuple) else value
            close = math.isclose(found[key], stated, rel_tol=0.02) if key == "params" else found[key] == stated
            assert close, f"facts: {key} is {stated}, and the backbone that is built has {found[key]}"


CHECKS: list[Callable[[BackboneEntry], None]] = [
    states_its_channels_and_strides,
    states_its_embed_dim,
    puts_each_tensor_into_one_stage,
    orders_its_stages_as_they_compute,
    leaves_a_frozen_network_as_it_is,
    freezes_one_stage_at_a_time,
    normalizes_once,
    follows_the_image_size,
    takes_the_specification_it_is_built_for,
    offers_what_it_is,
]
