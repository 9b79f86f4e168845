"""The measures of content and style, in fp32 whatever precision the features come in.

Everything that is squared and summed over a map leaves the range or the precision of half floats.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-5  # added to a variance before its root, as in instance normalization
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
FLAT = 0.03  # 8 levels of 255: noise and soft gradients of a sky are below, grass and leaves above
WINDOW = 9  # pixels
PERIODS = tuple(range(2, 17))  # pixels


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C): F F^T / (H W), the mean over places of products of channels.

    Gatys et al. 2016, Image style transfer using convolutional neural networks, equation 3. Divided by the number of
    places, and not by that of channels, so that it does not depend on the picture's size; distances are relative.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)  # (B, C, HW)
        return flat @ flat.mT / flat.shape[2]


def gram_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """(B, C, C) or (1, C, C) each -> (B,): |G - Gs|^2 / |Gs|^2, squared Frobenius norms."""
    norm = wanted.square().sum((1, 2)).clamp(min=1e-12)
    return (found - wanted).square().sum((1, 2)) / norm


def content_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """(B, C, H, W) each -> (B,): mean squared difference / mean spatial variance of the wanted features' channels.

    2 is what two pictures with the same statistics and nothing else in common have.
    """
    found, wanted = found.float(), wanted.float()
    variance = wanted.var((2, 3), correction=0).mean(1)  # (B,)
    return (found - wanted).square().mean((1, 2, 3)) / variance.clamp(min=1e-12)


def perceptual_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """(B, C, H, W) each -> (B,): mean over places of |f/|f| - w/|w||^2, from 0 to 4.

    Zhang et al. 2018, The unreasonable effectiveness of deep features as a perceptual metric, equation 1, with all
    channels weighted alike.
    """
    found, wanted = (x.float() / x.float().square().sum(1, keepdim=True).add(1e-10).sqrt() for x in (found, wanted))
    return (found - wanted).square().sum(1).mean((1, 2))


def total_variation(image: Tensor) -> Tensor:
    """(B, 3, H, W) 0..1 -> (B,): mean squared difference of neighbors, down and across."""
    image = image.float()
    down, across = image.diff(dim=2), image.diff(dim=3)
    return down.square().mean((1, 2, 3)) + across.square().mean((1, 2, 3))


def flatness(photo: Tensor) -> Tensor:
    """(B, 3, H, W) 0..1 -> (B, 1, H, W): 1 where the photo has one color, towards 0 where it has edges or texture.

    exp(-d / FLAT), d the root mean square difference of neighbors within WINDOW x WINDOW pixels: the edge-aware
    weight of Godard et al. 2017, Unsupervised monocular depth estimation, equation 4, and over a window so that texture
    counts too.
    """
    photo, pad = photo.float(), torch.nn.functional.pad
    down, across = pad(photo.diff(dim=2), (0, 0, 0, 1)), pad(photo.diff(dim=3), (0, 1))
    squares = (down.square() + across.square()).mean(1, keepdim=True)  # (B, 1, H, W)
    near = torch.nn.functional.avg_pool2d(squares, WINDOW, 1, WINDOW // 2, count_include_pad=False)
    return torch.exp(-near.sqrt() / FLAT)


def ripple(image: Tensor, flat: Tensor) -> Tensor:
    """(B, 3, H, W) 0..1 and a photo's flatness (B, 1, H, W) -> (B,): total variation, weighted by the flatness."""
    image = image.float()
    down, across = image.diff(dim=2), image.diff(dim=3)
    return (down.square() * flat[:, :, 1:]).mean((1, 2, 3)) + (across.square() * flat[:, :, :, 1:]).mean((1, 2, 3))


def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H, W) -> mean and standard deviation over places, (B, C, 1, 1) each, fp32."""
    variance, mean = torch.var_mean(features.float(), (2, 3), correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


def adain(content: Tensor, mean: Tensor, deviation: Tensor, own: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """(B, C, H, W) with the statistics of a style, (B, C, 1, 1) each. own: the content's, where they are known.

    Huang and Belongie 2017, Arbitrary style transfer in real-time with adaptive instance normalization, equation 8.
    """
    own_mean, own_deviation = own or statistics(content)
    return (content.float() - own_mean) / own_deviation * deviation + mean


def checkerboard(image: Tensor, period: int) -> Tensor:
    """(B, 3, H, W) 0..1 -> (B,): root mean square of the part of the brightness that repeats every `period` pixels, in
    levels of 255, after its local mean is taken off. H and W are at least 3 periods.

    That is the energy at all multiples of the frequency 1 / period, where upsampling and strides leave their grid
    (Odena et al. 2016, Deconvolution and checkerboard artifacts). Natural pictures have some 0.1 to 0.5 by chance.
    """
    weights = torch.tensor(LUMA, device=image.device).view(1, 3, 1, 1)
    luma = (image.float() * weights).sum(1, keepdim=True)  # (B, 1, H, W)
    reach = period // 2
    smooth = torch.nn.functional.avg_pool2d(luma, 2 * reach + 1, 1)  # without the border, where it is one-sided
    fine = (luma[:, :, reach:-reach, reach:-reach] - smooth)[:, 0]
    rows, columns = (side // period * period for side in fine.shape[1:])
    fine = fine[:, :rows, :columns]  # (B, rows, columns)
    cells = fine.unflatten(2, (columns // period, period)).unflatten(1, (rows // period, period))
    pattern = cells.mean((1, 3))  # (B, period, period)
    return 255 * (pattern - pattern.mean((1, 2), keepdim=True)).square().mean((1, 2)).sqrt()


def energy_by_period(image: Tensor) -> Tensor:
    """(B, 3, H, W) 0..1 -> (B, periods): mean square of the part of the brightness that repeats every 2, 3 .. 16
    pixels, wherever it lies, in squared levels of 255.

    The power spectrum of the brightness times a Hann window, less its mean, summed over rings of frequencies: those of
    period p have 1 / (p + 0.5) < f <= 1 / (p - 0.5) cycles a pixel, f the larger one of those down and across. That is
    the azimuthal integral of Durall et al. 2020 (Watch your up-convolution: CNN based generative deep neural networks
    are failing to reproduce spectral distributions, section 3.1) in square rings: no frequency is left out, and a mesh
    of lines down and across has one period. By Parseval's theorem divided such that all frequencies together are the
    variance under the window. In a picture of 256 pixels the window spreads periods above 8 over the rings beside
    theirs.
    """
    weights = torch.tensor(LUMA, device=image.device).view(1, 3, 1, 1)
    luma = 255 * (image.float() * weights).sum(1)  # (B, H, W)
    sides = luma.shape[1:]
    down, across = (torch.hann_window(n + 2, periodic=False, device=image.device)[1:-1] for n in sides)
    window = down[:, None] * across  # (H, W)
    total = window.square().sum()
    mean = (luma * window.square()).sum((1, 2), keepdim=True) / total
    size = [max(256, side) for side in sides]  # with zeros around a small picture, so that no ring is empty
    power = torch.fft.fft2((luma - mean) * window, s=size).abs().square() / (size[0] * size[1])  # (B, *size)
    rates = [torch.fft.fftfreq(n, device=image.device).abs() for n in size]
    fastest = torch.maximum(rates[0][:, None], rates[1])
    rings = [(fastest > 1 / (p + 0.5)) & (fastest <= 1 / (p - 0.5)) for p in PERIODS]
    return torch.stack([power[:, ring].sum(1) for ring in rings], 1) / total
