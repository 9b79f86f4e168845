"""Tables of positions at another image size: the oracles are timm's own loading, and its functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_levit

from visiontl import Weights
from visiontl.backbones import positions
from visiontl.backbones.registry import find
from visiontl.backbones.timm import make_plan
from visiontl.backbones.weights import make_backbone
from visiontl.errors import BackboneError, WeightsError


def own_state(arch, **options):
    """Tensors of timm's model at its own size, without a classifier; every table has values of its own."""
    torch.manual_seed(0)
    state = timm.create_model(arch, num_classes=0, **options).state_dict()
    for name, tensor in state.items():
        if positions.NAMES.search(name) and tensor.is_floating_point():
            torch.nn.init.normal_(tensor)
    return state


def loaded(arch, state, size):
    entry = replace(find(f"timm/{arch}")[0], weights=(Weights("t"),), spec=None, state=lambda tag: dict(state))
    return make_backbone(entry, "t", image_size=size)


@pytest.mark.parametrize("size", [(128, 128), (192, 192), (128, 192)])
@pytest.mark.parametrize("arch", ["test_coatnet"])
def test_tables_are_those_of_timms_own_loading(arch, size):
    state = own_state(arch)
    backbone, report = loaded(arch, state, size)
    overlay = {"state_dict": {k: v.clone() for k, v in state.items()}, "num_classes": 0}
    with torch.no_grad():
        model: Any = timm.create_model(
            arch, num_classes=0, img_size=size, pretrained=True, pretrained_cfg_overlay=overlay
        )
    ours = backbone.body.state_dict()
    changed = [k for k in ours if ours[k].shape != state[k].shape]
    assert changed
    assert report.fraction == 1.0
    assert f"{changed[0]} resized from {tuple(state[changed[0]].shape)}" in str(report)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-6)
    assert float(ours[changed[0]].std()) > 0.3  # not at its start


@pytest.mark.parametrize("kept", [0, 3])
def test_what_cannot_be_resized_is_refused(kept):
    """A table of another number of heads, and one of no square."""
    state = own_state("test_coatnet")
    name = next(k for k in state if k.endswith("relative_position_bias_table"))
    state[name] = state[name][:, :1] if kept == 0 else state[name][:-kept]
    with pytest.raises(WeightsError, match=r"in the shape that it needs \(1: .*relative_position_bias_table"):
        loaded("test_coatnet", state, (128, 128))


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize(("old", "new"), [((7, 7), (5, 5)), ((7, 7), (9, 4)), ((4, 4), (4, 16)), ((6, 6), (10, 10))])
def test_tokens(prefix, old, new):
    weight = torch.randn(1, prefix + old[0] * old[1], 8)
    own = torch.zeros(1, prefix + new[0] * new[1], 8)
    found = positions.resized("pos_embed", weight, own, {new, (99, 98)})
    torch.testing.assert_close(found, resample_abs_pos_embed(weight, list(new), list(old), prefix), rtol=0, atol=0)


@pytest.mark.parametrize("new", [(5, 5), (9, 4)])
def test_maps_in_either_layout(new):
    weight = torch.randn(1, 7, 7, 6)
    expected = resample_abs_pos_embed_nhwc(weight, list(new))
    found = positions.resized("pos_embed", weight, torch.zeros(1, *new, 6), {new})
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    first = positions.resized("pos_embed", weight.permute(0, 3, 1, 2), torch.zeros(1, 6, *new), {new})
    torch.testing.assert_close(first, expected.permute(0, 3, 1, 2), rtol=0, atol=0)


@pytest.mark.parametrize("side", [3, 9])
def test_biases_of_attention(side):
    weight = torch.randn(4, 49)
    found = positions.resized("blocks.0.attn.attention_biases", weight, torch.zeros(4, side * side), {(side, side)})
    expected = resize_rel_pos_bias_table_levit(weight.T, (side * side, 4)).T
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_what_leaves_a_doubt_is_not_resized():
    assert (
        positions.resized("pos_embed", torch.zeros(1, 50, 8), torch.zeros(1, 38, 8), {(5, 8)}) is None
    )  # no grid of 37
    assert positions.resized("pos_embed", torch.zeros(1, 40, 8), torch.zeros(1, 25, 8), {(5, 5)}) is None  # no square
    two = {(4, 9), (6, 6)}
    assert positions.resized("attention_biases", torch.zeros(4, 49), torch.zeros(4, 36), two) is None
    assert positions.resized("pos_embed", torch.zeros(1, 49, 8), torch.zeros(1, 36, 9), {(6, 6)}) is None


def test_a_body_that_counts_from_the_middle_of_its_tables_is_made_for_the_size_it_gets():
    """MViT runs at smaller sizes too, and reads the table from another middle then, in silence."""
    plan = make_plan("mvitv2_tiny", size=(160, 160))
    assert plan.kwargs["img_size"] == (160, 160)
    assert plan.geometry.sizing == "fixed"
    with pytest.raises(BackboneError, match="224 x 224 pixels only; 160 x 192 was asked for"):
        make_plan("mvitv2_tiny", size=(160, 192))
