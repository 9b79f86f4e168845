"""Each formula on tensors small enough for paper, and against NumPy or torch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from visiontl_style.formulas import (
    adain,
    checkerboard,
    content_distance,
    flatness,
    gram,
    gram_distance,
    perceptual_distance,
    ripple,
    statistics,
    total_variation,
)
from visiontl_style.losses import loss

from tests.style.made import config, generator


def test_gram_of_two_channels_and_three_places():
    features = torch.tensor([[[[1.0, 2.0, 3.0]], [[0.0, 1.0, -1.0]]]])  # (1, 2, 1, 3)
    # <a, a> = 14, <a, b> = 2 - 3 = -1, <b, b> = 2; three places
    assert torch.allclose(gram(features), torch.tensor([[[14.0, -1.0], [-1.0, 2.0]]]) / 3)


def test_gram_against_numpy_and_whatever_the_size():
    features = torch.randn(2, 5, 6, 7, generator=generator())
    flat = features.numpy().reshape(2, 5, 42)
    assert np.allclose(gram(features), np.einsum("bip,bjp->bij", flat, flat) / 42, atol=1e-6)
    assert torch.allclose(gram(features), gram(features.repeat(1, 1, 3, 2)), atol=1e-6)


def test_gram_is_fp32_under_autocast_and_of_half_floats():
    features = torch.full((1, 2, 64, 64), 300.0)  # 90,000 is beyond fp16, and 9 significant bits lose it in bf16
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with torch.autocast("cpu", torch.bfloat16):
            found = gram(features.to(dtype))
        assert found.dtype == torch.float32
        assert found.unique().tolist() == [90_000.0]


def test_gram_distance_by_hand():
    wanted = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
    found = torch.tensor([[[1.0, 1.0], [1.0, 1.0]]])
    # differences -1, 1, 1, 0: 3; |wanted|^2 = 5
    assert gram_distance(found, wanted).tolist() == pytest.approx([3 / 5])
    assert gram_distance(wanted, wanted).tolist() == [0.0]
    assert gram_distance(torch.zeros_like(wanted), wanted).tolist() == [1.0]


def test_content_distance_by_hand():
    wanted = torch.tensor([[[[0.0, 2.0]], [[1.0, 5.0]]]])  # variances 1 and 4, mean 2.5
    found = torch.tensor([[[[1.0, 2.0]], [[1.0, 2.0]]]])  # squared differences 1, 0, 0, 9, mean 2.5
    assert content_distance(found, wanted).tolist() == pytest.approx([1.0])


def test_content_distance_of_strangers_is_two():
    found, wanted = (torch.randn(1, 8, 64, 64, generator=generator(seed)) for seed in (1, 2))
    assert float(content_distance(found, wanted)) == pytest.approx(2, rel=0.03)


def test_content_distance_of_a_flat_photo_is_finite():
    assert torch.isfinite(content_distance(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))).all()


def test_total_variation_by_hand():
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0] = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    # down: 0, -0.5 in one of three channels: 0.25 / 6; across: 1, 0.5: 1.25 / 6
    assert total_variation(image).tolist() == pytest.approx([0.25 / 6 + 1.25 / 6])


def test_flatness_is_one_on_one_color_and_falls_with_edges_within_reach():
    photo = torch.full((1, 3, 32, 32), 0.5)
    assert torch.equal(flatness(photo), torch.ones(1, 1, 32, 32))
    photo[:, :, :, 16:] = 0.9
    found = flatness(photo)[0, 0, 16]
    # a 9 x 9 window that holds the edge: 9 of 81 places differ from the next by 0.4 -> root mean square 0.4 / 3
    expected = np.exp(-(0.4 / 3) / 0.03)
    assert found[[11, 19]].tolist() == pytest.approx([expected, expected], rel=1e-4)
    assert found[[10, 20]].tolist() == [1.0, 1.0]


def test_ripple_is_total_variation_where_it_counts():
    image = torch.rand(2, 3, 16, 16, generator=generator())
    flat = torch.ones(2, 1, 16, 16)
    assert torch.allclose(ripple(image, flat), total_variation(image))
    flat[:, :, 8:] = 0
    rows = image.diff(dim=2)[:, :, :7].square().sum((1, 2, 3)) / (3 * 15 * 16)
    columns = image.diff(dim=3)[:, :, :8].square().sum((1, 2, 3)) / (3 * 16 * 15)
    assert torch.allclose(ripple(image, flat), rows + columns)


def test_perceptual_distance_by_hand():
    found, wanted = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    found[0, :, 0] = torch.tensor([[3.0, 1.0], [4.0, 0.0]])  # (0.6, 0.8) and (1, 0)
    wanted[0, :, 0] = torch.tensor([[5.0, 0.0], [0.0, 2.0]])  # (1, 0) and (0, 1)
    assert perceptual_distance(found, wanted).tolist() == pytest.approx([((0.16 + 0.64) + 2) / 2], abs=1e-5)
    assert perceptual_distance(found, 7 * found).tolist() == pytest.approx([0], abs=1e-6)


def test_adain_gives_the_styles_statistics():
    content, style = torch.randn(2, 6, 16, 20, generator=generator(1)) * 3 + 1, torch.rand(2, 6, 9, 11)
    mixed = adain(content, *statistics(style)).double()
    wanted_mean, wanted_variance = style.double().mean((2, 3)), style.double().var((2, 3), correction=0)
    assert torch.allclose(mixed.mean((2, 3)), wanted_mean, rtol=0, atol=1e-5)
    # the deviation is the root of the variance + 1e-5, as in instance norm
    assert torch.allclose(mixed.std((2, 3), correction=0), (wanted_variance + 1e-5).sqrt(), rtol=0, atol=1e-5)


def test_adain_by_hand_and_against_instance_norm():
    content = torch.tensor([[[[0.0, 2.0]]]])  # mean 1, deviation 1
    found = adain(content, torch.tensor(10.0).view(1, 1, 1, 1), torch.tensor(3.0).view(1, 1, 1, 1))
    assert torch.allclose(found, torch.tensor([[[[7.0, 13.0]]]]), atol=1e-4)
    features = torch.randn(2, 4, 8, 8, generator=generator(3))
    plain = adain(features, torch.zeros(2, 4, 1, 1), torch.ones(2, 4, 1, 1))
    assert torch.allclose(plain, nn.InstanceNorm2d(4)(features), atol=1e-5)


def test_statistics_are_exact_to_1e_5():
    features = torch.randn(3, 7, 33, 21, generator=generator(4)) * 50 + 400
    mean, deviation = statistics(features)
    exact = features.double().numpy()
    assert np.allclose(mean[..., 0, 0], exact.mean((2, 3)), rtol=1e-5)
    assert np.allclose(deviation[..., 0, 0], np.sqrt(exact.var((2, 3)) + 1e-5), rtol=1e-5)


@pytest.mark.parametrize("period", [2, 4, 8])
def test_checkerboard_sees_a_grid_of_its_periods(period):
    noise = 0.5 + 0.05 * torch.randn(1, 3, 128, 128, generator=generator())
    grid = torch.zeros(1, 3, 128, 128)
    grid[:, :, ::period, ::period] = 10 / 255
    assert checkerboard(noise, 8) < 1.5
    assert checkerboard(noise + grid, 8) > checkerboard(noise, 8) + 0.4
    expected = 10 * (1 / period**2 - 1 / period**4) ** 0.5  # of a lattice of spikes, by hand; the local mean takes some
    assert float(checkerboard(0.5 + grid, 8)) == pytest.approx(expected, rel=0.15)


def test_checkerboard_ignores_what_does_not_repeat():
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    assert checkerboard(ramp, 8) < 0.2
    assert checkerboard(torch.full((1, 3, 40, 40), 0.3), 8) < 1e-3


def outputs() -> dict[str, object]:
    return {
        "content": torch.tensor([1.0, 3.0]),
        "style": {"a": torch.tensor([0.2, 0.4]), "b": torch.tensor([0.1, 0.5])},
        "plain_style": {"a": torch.tensor([2.0, 4.0]), "b": torch.tensor([1.0, 1.0])},
        "tv": torch.tensor([0.01, 0.03]),
        "ripple": torch.tensor([0.002, 0.004]),
    }


def test_the_loss_by_hand():
    cfg = config(style_layers={"a": 3, "b": 1}, content_weight=2, style_weight=10, tv_weight=5, ripple_weight=50)
    found = {name: float(value) for name, value in loss(cfg, outputs(), {}, {}).items()}
    style = 0.75 * 0.3 + 0.25 * 0.3
    assert found == pytest.approx(
        {
            "loss": 2 * 2 + 10 * style + 5 * 0.02 + 50 * 0.003,
            "content": 2,
            "style": style,
            "tv": 0.02,
            "ripple": 0.003,
            "style.a": 0.3,
            "style.b": 0.3,
        }
    )


def test_equalized_layers_count_relative_to_the_plain_photo():
    cfg = config(style_layers=["a", "b"], equalize=True)
    found = loss(cfg, outputs(), {}, {})
    assert float(found["style"]) == pytest.approx((0.1 + (0.1 + 0.5) / 2) / 2)
    assert float(found["style.a"]) == pytest.approx(0.3), "the curves stay as measured"


def test_adain_learns_from_its_target_and_not_from_the_photo():
    given = {**outputs(), "target": torch.tensor([0.5, 0.5])}
    assert float(loss(config(way="adain"), given, {}, {})["content"]) == 0.5
