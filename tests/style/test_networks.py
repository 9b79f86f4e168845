"""The transformer and the decoder: sizes, borders, statistics, and what conditional instance norm promises."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from visiontl_style.networks import ConditionalInstanceNorm, Decoder, Smooth, Transformer, extended, statistics_of

from tests.style.made import generator


@pytest.fixture(scope="module")
def net() -> Transformer:
    return transformer()


def transformer() -> Transformer:
    torch.manual_seed(0)
    return Transformer(8, 2, 2).eval()


ONE = torch.tensor([[1.0, 0.0]])


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (16, 16), (17, 23), (64, 31), (90, 5)])
def test_any_size_comes_back(net, size):
    with torch.no_grad():
        made = net(torch.rand(1, 3, *size), ONE)
    assert made.shape == (1, 3, *size)
    assert torch.isfinite(made).all()
    assert float(made.min()) >= 0
    assert float(made.max()) <= 1


def test_a_flat_picture_stays_flat_up_to_its_border(net):
    """Padding with zeros would leave a frame. With another picture's statistics, because each layer would divide by a
    deviation of its own that is 0 up to rounding."""
    flat, other = torch.full((1, 3, 64, 64), 0.4), torch.rand(1, 3, 64, 64, generator=generator())
    with torch.no_grad(), statistics_of(net, other, ONE):
        made = net(flat, ONE)
    assert float(made.std((2, 3)).max()) < 1e-4


def test_conditional_instance_norm_is_instance_norm_with_the_styles_own_scale():
    norm = ConditionalInstanceNorm(4, 3)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(3, 4))
        norm.bias.copy_(torch.rand(3, 4))
    x = torch.randn(3, 4, 9, 7, generator=generator())
    shares = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.5]])
    for i, mix in enumerate(shares):
        weight, bias = mix @ norm.weight, mix @ norm.bias
        expected = F.instance_norm(x[i : i + 1], weight=weight, bias=bias)
        assert torch.allclose(norm(x, shares)[i : i + 1], expected, atol=1e-5)


@pytest.mark.usefixtures("double")
def test_a_picture_does_not_depend_on_its_neighbors_in_the_batch():
    net = transformer()
    pictures = torch.rand(3, 3, 32, 32, generator=generator())
    with torch.no_grad():
        together, alone = net(pictures, ONE.double().expand(3, 2)), net(pictures[:1], ONE.double())
    assert torch.allclose(together[:1], alone, rtol=1e-9, atol=1e-9)


def test_statistics_of_another_picture_hold_inside_the_block_only(net):
    small, large = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 40, 40) * 0.2
    with torch.no_grad():
        own = net(large, ONE)
        with statistics_of(net, small, ONE):
            same, other = net(small, ONE), net(large, ONE)
        assert torch.allclose(same, net(small, ONE), atol=1e-6)
        assert not torch.allclose(other, own, atol=1e-2)
        assert torch.equal(net(large, ONE), own)


def test_its_reach_bounds_what_a_pixel_depends_on(net):
    """With the statistics fixed, the gradient of one pixel ends within `reach`."""
    image = torch.rand(1, 3, 160, 160, generator=generator()).requires_grad_()
    with statistics_of(net, image.detach(), ONE):
        net(image, ONE)[0, :, 80, 80].sum().backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero()
    seen = max(80 - int(rows.min()), int(rows.max()) - 80)
    assert seen <= net.reach
    assert net.reach - seen <= 8, "a larger margin than needed costs time"


def test_resize_convolutions_leave_no_checkerboard():
    """Upsampling a constant gives a constant; a transposed convolution of stride 2 and kernel 3 does not."""
    constant = torch.ones(1, 4, 12, 12)
    torch.manual_seed(0)
    decoder, transposed = Decoder(4, 4, 2).eval(), nn.ConvTranspose2d(4, 3, 3, 2)
    with torch.no_grad():
        assert float(decoder(constant).std((2, 3)).max()) < 1e-6
        assert float(transposed(constant)[:, :, 4:-4, 4:-4].std((2, 3)).max()) > 0.05


def test_smoothing_takes_what_alternates_and_keeps_what_is_even():
    even = torch.full((1, 2, 8, 8), 3.0)
    sign = 1 - 2.0 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)
    assert torch.allclose(Smooth()(even), even)
    assert float(Smooth()(even + sign).sub(even).abs().max()) < 1e-6
    spike = torch.zeros(1, 2, 9, 9)
    spike[0, 1, 4, 4] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert torch.equal(Smooth()(spike)[0, 1, 3:6, 3:6], expected)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_decoder_undoes_the_encoders_stride(stride):
    assert Decoder(64, stride, 1)(torch.rand(2, 64, 6, 5)).shape == (2, 3, 6 * stride, 5 * stride)


def test_extended_mirrors_as_numpy_does_also_where_it_is_wider_than_the_picture():
    import numpy as np

    image = torch.arange(12.0).view(1, 1, 3, 4)
    for pad in ((1, 2, 2, 0), (7, 5, 4, 9)):
        expected = np.pad(image[0, 0].numpy(), ((pad[2], pad[3]), (pad[0], pad[1])), mode="reflect")
        assert np.array_equal(extended(image, pad)[0, 0].numpy(), expected)
    assert extended(torch.rand(1, 3, 1, 1), (4, 4, 4, 4)).unique().numel() <= 3
