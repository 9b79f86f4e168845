"""The simple feature pyramid against its authors' definition (detectron2, modeling/backbone/vit.py), by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl.kit.pyramids import SimplePyramid

CHANNELS, WIDTH = 16, 12


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Over the channels of each pixel, as detectron2's LayerNorm has it."""
    u = x.mean(1, keepdim=True)
    s = (x - u).pow(2).mean(1, keepdim=True)
    return weight[:, None, None] * ((x - u) / torch.sqrt(s + 1e-6)) + bias[:, None, None]


def by_hand(x: Tensor, scale: float, weights: list[Tensor]) -> Tensor:
    """One scale as the authors write it; `weights` are used up from the front."""
    take = iter(weights)
    if scale == 4.0:
        x = functional.conv_transpose2d(x, next(take), next(take), stride=2)
        x = functional.gelu(layer_norm(x, next(take), next(take)))
        x = functional.conv_transpose2d(x, next(take), next(take), stride=2)
    elif scale == 2.0:
        x = functional.conv_transpose2d(x, next(take), next(take), stride=2)
    elif scale == 0.5:
        x = functional.max_pool2d(x, 2, 2)
    x = layer_norm(functional.conv2d(x, next(take)), next(take), next(take))
    x = layer_norm(functional.conv2d(x, next(take), padding=1), next(take), next(take))
    assert next(take, None) is None
    return x


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_it_is_the_authors_network(size):
    torch.manual_seed(0)
    scales = (4.0, 2.0, 1.0, 0.5)
    pyramid = SimplePyramid(CHANNELS, WIDTH, scales).double()
    for parameter in pyramid.parameters():  # norms start as one and zero, which would hide where they stand
        nn.init.normal_(parameter)
    x = torch.randn(2, CHANNELS, *size, dtype=torch.float64)
    for scale, branch, made in zip(scales, pyramid.branches, pyramid(x), strict=True):
        expected = by_hand(x, scale, list(branch.parameters()))
        assert made.shape == (2, WIDTH, int(size[0] * scale), int(size[1] * scale))
        assert (made - expected).abs().max() < 1e-9


def test_each_doubling_halves_the_channels():
    """As the authors: dim, dim / 2, dim / 4; and on in the same way where a patch is 32 pixels wide."""
    shapes = [
        [tuple(one.weight.shape[:2]) for one in branch.modules() if isinstance(one, nn.ConvTranspose2d)]
        for branch in SimplePyramid(CHANNELS, WIDTH, (8, 4, 2, 1, 0.25)).branches
    ]
    assert shapes == [[(16, 8), (8, 4), (4, 2)], [(16, 8), (8, 4)], [(16, 8)], [], []]
    assert SimplePyramid(CHANNELS, WIDTH, [8, 0.25])(torch.zeros(1, CHANNELS, 4, 4))[1].shape == (1, WIDTH, 1, 1)


@pytest.mark.parametrize("factor", [3, 0, -2, 0.3, 32])
def test_other_factors_are_refused(factor):
    with pytest.raises(ValueError, match=rf"a factor of {factor} on 16 channels; expected a power of two"):
        SimplePyramid(CHANNELS, WIDTH, [1, factor])
