"""What trains: the transformer network of the feed-forward way, and AdaIN's decoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visiontl_style.formulas import EPSILON

LEAST = 16  # pixels of a side that every reflection inside fits into
LEAK = 0.1  # slope of leaky units below zero


class ConditionalInstanceNorm(nn.Module):
    """Instance normalization with a scale and a shift for each style (Dumoulin et al. 2017, A learned representation
    for artistic style, equation 5); with one style it is plain instance normalization (Ulyanov et al. 2016)."""

    def __init__(self, channels: int, styles: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(styles, channels))
        self.bias = nn.Parameter(torch.zeros(styles, channels))
        self.kept: tuple[Tensor, Tensor] | None = None  # variance and mean of another picture, (1, C, 1, 1) each
        self.keeping = False

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        """x: (B, C, H, W); shares: (B, styles), of each style for each picture."""
        weight, bias = ((shares @ p)[:, :, None, None] for p in (self.weight, self.bias))  # (B, C, 1, 1)
        if self.kept is None:
            variance, mean = torch.var_mean(x.float(), (2, 3), correction=0, keepdim=True)  # (B, C, 1, 1)
        else:
            variance, mean = self.kept
        if self.keeping:
            self.kept = variance, mean
        scale = weight.float() * (variance + EPSILON).rsqrt()
        return torch.addcmul((bias.float() - mean * scale).to(x.dtype), x, scale.to(x.dtype))


def convolution(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Padded by reflection, so that no dark border is learned."""
    return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, padding_mode="reflect")


class Layer(nn.Module):
    """Upsampling by 2 in the way that `up` names, convolution, conditional instance norm. Upsampling before a
    convolution leaves no checkerboard, as a transposed convolution does (Odena et al. 2016)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, styles: int, stride: int = 1, up: str | None = None
    ):
        super().__init__()
        self.up = up
        self.conv = convolution(in_channels, out_channels, kernel, stride)
        self.norm = ConditionalInstanceNorm(out_channels, styles)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        if self.up is not None:
            x = F.interpolate(x, scale_factor=2, mode=self.up)
        return self.norm(self.conv(x), shares)


class Residual(nn.Module):
    def __init__(self, channels: int, styles: int):
        super().__init__()
        self.first = Layer(channels, channels, 3, styles)
        self.second = Layer(channels, channels, 3, styles)

    def forward(self, x: Tensor, shares: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x, shares)), shares)


class Transformer(nn.Module):
    """Johnson et al. 2016, Perceptual losses for real-time style transfer (supplement, table 1), with conditional
    instance norm and resize-convolutions. (B, 3, H, W) 0..1 -> the same size, 0..1.

    width: channels at full resolution; blocks: residual blocks at a quarter of it.
    """

    stride = 4
    smooth: Tensor

    def __init__(self, width: int, blocks: int, styles: int):
        super().__init__()
        self.styles = styles
        self.begin = Layer(3, width, 9, styles)
        self.down1 = Layer(width, 2 * width, 3, styles, stride=2)
        self.down2 = Layer(2 * width, 4 * width, 3, styles, stride=2)
        self.blocks = nn.ModuleList([Residual(4 * width, styles) for _ in range(blocks)])
        # repeated pixels mirror strokes of 5 to 8 pixels at periods of 2 to 3: a mesh that style losses like
        self.up1 = Layer(4 * width, 2 * width, 3, styles, up="bilinear")
        self.up2 = Layer(2 * width, width, 3, styles, up="bilinear")
        self.end = convolution(width, 3, 9)
        self.register_buffer("smooth", torch.ones((), dtype=torch.uint8))
        self.register_load_state_dict_pre_hook(as_trained)

    @property
    def reach(self) -> int:
        """Pixels beyond which the input changes nothing: half of the receptive field, rounded up to the stride."""
        down, inside, up = 4 + 1 + 2, 8 * len(self.blocks), 4 + 2 + 1 + 4
        return -(-(down + inside + up) // self.stride) * self.stride

    def forward(self, image: Tensor, shares: Tensor) -> Tensor:
        height, width = image.shape[2:]
        x = fitted(image, self.stride) - 0.5
        for layer in (self.begin, self.down1, self.down2):
            x = torch.relu(layer(x, shares))
        for block in self.blocks:
            x = block(x, shares)
        for layer in (self.up1, self.up2):
            x = torch.relu(layer(x, shares))
        return self.end(x)[:, :, :height, :width].float().sigmoid()


def as_trained(net: Transformer, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Before weights are loaded: those without `smooth` were trained when the last step repeated pixels, and go on
    painting so."""
    smooth = state.setdefault(f"{prefix}smooth", torch.zeros((), dtype=torch.uint8))
    net.up2.up = "bilinear" if int(smooth) else "nearest"


def fitted(image: Tensor, multiple: int) -> Tensor:
    """Continued below and to the right to sides that are multiples, and at least LEAST pixels."""
    height, width = (max(LEAST, -(-side // multiple) * multiple) for side in image.shape[2:])
    return extended(image, (0, width - image.shape[3], 0, height - image.shape[2]))


def extended(image: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """(B, C, H, W) continued to the left, right, top, bottom: mirrored, again and again where it is smaller."""
    for before, after, axis in ((pad[0], pad[1], 3), (pad[2], pad[3], 2)):
        if before or after:
            length = image.shape[axis]
            if length > max(before, after):
                where = (before, after, 0, 0) if axis == 3 else (0, 0, before, after)
                image = F.pad(image, where, mode="reflect")
            else:
                places = torch.arange(-before, length + after, device=image.device)
                period = max(1, 2 * length - 2)
                places = places.remainder(period)
                image = image.index_select(axis, torch.minimum(places, period - places).clamp(0, length - 1))
    return image


@contextmanager
def statistics_of(net: nn.Module, image: Tensor, *given: Tensor) -> Iterator[None]:
    """Within the block every instance norm of `net` uses the statistics that `image` has there: all tiles of a large
    picture alike, whose own statistics would show as seams."""
    norms = [module for module in net.modules() if isinstance(module, ConditionalInstanceNorm)]
    try:
        for norm in norms:
            norm.keeping = True
        net(image, *given)
        for norm in norms:
            norm.keeping = False
        yield
    finally:
        for norm in norms:
            norm.keeping, norm.kept = False, None


class PlainResidual(nn.Module):
    """Without norms, so it begins near the identity: many in a row keep the scale of what they are given."""

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = convolution(channels, channels, 3), convolution(channels, channels, 3)
        with torch.no_grad():
            self.second.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.leaky_relu(self.first(x), LEAK))


class Smooth(nn.Module):
    """A binomial filter, (1 2 1) / 4 down and across. What alternates from place to place is gone: brought to full
    resolution it would be a lattice (Zhang 2019, Making convolutional networks shift-invariant again, section 3.2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, groups=x.shape[1])


class Decoder(nn.Module):
    """Features of an encoder -> picture: Huang and Belongie 2017 mirror VGG; here a mirror of any encoder, with half as
    many channels and residual blocks, where strokes are composed, before the first upsampling.
    (B, C, h, w) -> (B, 3, stride h, stride w), 0..1.

    No norms, which would undo the exchanged statistics (section 7.1). Leaky units: with plain ones a decoder that
    starts badly can die, and gives one color for ever.
    """

    narrowest = 32  # channels

    def __init__(self, channels: int, stride: int, blocks: int):
        super().__init__()
        width = max(self.narrowest, channels // 2)
        layers: list[nn.Module] = [convolution(channels, width, 3), nn.LeakyReLU(LEAK)]
        layers += [*(PlainResidual(width) for _ in range(blocks)), Smooth()]
        while stride > 1:
            layers += [nn.Upsample(scale_factor=2, mode="bilinear"), convolution(width, width, 3), nn.LeakyReLU(LEAK)]
            stride //= 2
            if stride > 1:
                fewer = max(self.narrowest, width // 2)
                layers += [convolution(width, fewer, 3), nn.LeakyReLU(LEAK)]
                width = fewer
        self.layers = nn.Sequential(*layers, convolution(width, 3, 3))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).float().sigmoid()
