"""The two networks that are trained, each with the backbone that judges it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import Backbone
from visiontl_style.config import StyleConfig
from visiontl_style.formulas import (
    adain,
    checkerboard,
    content_distance,
    energy_by_period,
    flatness,
    gram,
    gram_distance,
    perceptual_distance,
    ripple,
    statistics,
    total_variation,
)
from visiontl_style.loss_network import Layers, LossNetwork, choose_layers, drawn_shift, judging, shifted
from visiontl_style.networks import Decoder, Transformer, extended
from visiontl_style.pictures import decoded

PERIOD = 8  # pixels; holds the grids of upsampling by 2 and 4 and of a loss network's strides up to 8
Statistics = tuple[Tensor, Tensor]  # mean and standard deviation, (B, C, 1, 1) each
LEAST_DISTANCE = 0.01  # of a plain photo from a style, where distances are divided by it


def model(cfg: StyleConfig, backbone: Backbone, meta: Mapping[str, Any]) -> nn.Module:
    """The network that cfg.way names. Raises BackboneError for a backbone that cannot judge."""
    adaptive = cfg.way == "adain"
    layers = choose_layers(backbone, cfg.content_layers, cfg.style_layers, cfg.encoder_layer if adaptive else None)
    judge = LossNetwork(backbone, layers)
    pictures = [decoded(style["png"]) for style in meta["styles"]]  # (3, h, w) uint8 each
    return (AdaptiveTransfer if adaptive else FeedForward)(cfg, judge, pictures)


def as_float(image: Tensor) -> Tensor:
    """uint8, or float 0..1 -> float 0..1."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def grams(judge: LossNetwork, pictures: Sequence[Tensor], layers: Layers) -> dict[str, Tensor]:
    """Pictures (3, h, w) of any sizes -> {layer: (N, C, C)}."""
    found: dict[str, list[Tensor]] = {name: [] for name in layers.style}
    with torch.no_grad(), judging(judge.backbone):
        for picture in pictures:
            for name, features in judge(as_float(picture)[None], tuple(layers.style)).items():
                found[name].append(gram(features))
    return {name: torch.cat(values) for name, values in found.items()}


class StyleTransfer(nn.Module):
    """What both ways share: forward(batch) -> distances, one number per picture.

    In training {"content": (B,), "style": {layer: (B,)}, "tv": (B,), "ripple": (B,)}, with adain "target": (B,) from
    the features that were asked of the decoder, and with cfg.equalize "plain_style" of the photo as it is. In
    evaluation also "plain_style", "plain_tv", "plain_ripple", "perceptual", "checkerboard", "plain_checkerboard",
    "energy" and "plain_energy": (B, periods), "result": (B, 3, H, W) 0..1, and "seconds": (B,) for making it.
    """

    def __init__(self, cfg: StyleConfig, judge: LossNetwork):
        super().__init__()
        self.cfg = cfg
        self.judge = judge

    def style_of(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Statistics | None]:
        """The Gram matrices of each picture's style, (B, C, C) per style layer, and its statistics at the encoder."""
        raise NotImplementedError

    def transfer(self, image: Tensor, batch: Mapping[str, Any], style: Statistics | None) -> Tensor:
        """(B, 3, H, W) 0..1 -> the result, the same."""
        raise NotImplementedError

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        image = as_float(batch["image"])  # (B, 3, H, W)
        wanted, style = self.style_of(batch)
        began = time.perf_counter()
        result = self.transfer(image, batch, style)
        if not self.training and result.device.type == "cuda":
            torch.cuda.synchronize(result.device)
        seconds = time.perf_counter() - began
        layers = self.judge.layers
        room = self.cfg.jitter if self.training else 0
        seen, plain = shifted([result, image], drawn_shift(room), room)
        made = self.judge(seen, layers.all)
        given = self.plain(plain)
        flat = flatness(image)
        output: dict[str, Any] = {"tv": total_variation(result), "ripple": ripple(result, flat)}
        if style is not None and layers.encoder is not None:
            output["target"] = content_distance(made[layers.encoder], adain(given[layers.encoder], *style))
        output["content"] = sum(w * content_distance(made[n], given[n]) for n, w in layers.content.items())
        output["style"] = style_distances(made, layers, wanted)
        if self.cfg.equalize or not self.training:
            output["plain_style"] = style_distances(given, layers, wanted)
        if not self.training:
            output |= {
                "plain_tv": total_variation(image),
                "plain_ripple": ripple(image, flat),
                "perceptual": torch.stack([perceptual_distance(made[n], given[n]) for n in layers.judged]).mean(0),
                "checkerboard": checkerboard(result, PERIOD),
                "plain_checkerboard": checkerboard(image, PERIOD),
                "energy": energy_by_period(result),
                "plain_energy": energy_by_period(image),
                "result": result,
                "seconds": torch.full((len(image),), seconds / len(image)),
            }
        return output

    @torch.no_grad()
    def plain(self, image: Tensor) -> dict[str, Tensor]:
        """What the judge sees of the photos: no gradient is needed there."""
        layers = self.judge.layers
        if self.cfg.equalize or not self.training:
            return self.judge(image, layers.all)
        return self.judge(image, tuple(dict.fromkeys([*layers.content, *([layers.encoder] if layers.encoder else [])])))


def style_distances(features: Mapping[str, Tensor], layers: Layers, wanted: Sequence[Tensor]) -> dict[str, Tensor]:
    """{layer: (B,)}: squared Gram distances relative to the style's own."""
    pairs = zip(layers.style, wanted, strict=True)
    return {name: gram_distance(gram(features[name]), target) for name, target in pairs}


class FeedForward(StyleTransfer):
    """A transformer network for the styles of the run. Their Gram matrices are computed once, and are buffers."""

    def __init__(self, cfg: StyleConfig, judge: LossNetwork, pictures: Sequence[Tensor]):
        super().__init__(cfg, judge)
        self.net = Transformer(cfg.width, cfg.blocks, len(pictures))
        targets = grams(judge, pictures, judge.layers)
        for i, values in enumerate(targets.values()):
            self.register_buffer(f"gram{i}", values)  # (styles, C, C)

    def style_of(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Statistics | None]:
        return [getattr(self, f"gram{i}")[batch["style"]] for i in range(len(self.judge.layers.style))], None

    def transfer(self, image: Tensor, batch: Mapping[str, Any], style: Statistics | None) -> Tensor:
        return self.net(image, nn.functional.one_hot(batch["style"], self.net.styles).to(image))


class AdaptiveTransfer(StyleTransfer):
    """Encoder, exchange of statistics, decoder. `scale` brings the encoder's features to a deviation of about 1."""

    scale: Tensor

    def __init__(self, cfg: StyleConfig, judge: LossNetwork, pictures: Sequence[Tensor]):
        super().__init__(cfg, judge)
        assert judge.layers.encoder is not None
        channels, self.stride = judge.shapes[judge.layers.encoder]
        self.decoder = Decoder(channels, self.stride, cfg.blocks)
        # what the encoder pads with zeros must lie outside of the picture
        self.edge = max(16, 2 * self.stride)
        with torch.no_grad(), judging(judge.backbone):
            deviation = torch.stack([self.encoded(as_float(one)[None]).std() for one in pictures]).mean()
        self.register_buffer("scale", 1 / deviation.clamp(min=1e-6))

    @property
    def reach(self) -> int:
        """Pixels beyond which the input is not seen, for convolutions of 3 x 3; a bound, not the exact number."""
        return (16 + 2 * self.cfg.blocks) * self.stride

    def encoded(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w) at the encoder's layer."""
        assert self.judge.layers.encoder is not None
        return self.judge(image, (self.judge.layers.encoder,))[self.judge.layers.encoder].float()

    def style_statistics(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, h, w) 0..1 -> mean and deviation of its features, (B, C, 1, 1) each."""
        return statistics(self.encoded(picture))

    def padded(self, image: Tensor) -> Tensor:
        """Mirrored beyond its edges, with sides that the encoder's stride divides."""
        below, right = (self.edge + -side % self.stride for side in image.shape[2:])
        return extended(image, (self.edge, right, self.edge, below))

    def decoded(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Features of a padded picture -> (B, 3, H, W) 0..1, without the padding."""
        made = self.decoder(features * self.scale)
        right, below = (max(0, self.edge + size[i] - made.shape[i + 2]) for i in (1, 0))
        made = extended(made, (0, right, 0, below))
        return made[:, :, self.edge : self.edge + size[0], self.edge : self.edge + size[1]]

    @torch.no_grad()
    def style_of(self, batch: Mapping[str, Any]) -> tuple[list[Tensor], Statistics | None]:
        layers = self.judge.layers
        assert layers.encoder is not None
        names = tuple(dict.fromkeys((*layers.style, layers.encoder)))
        found = self.judge(as_float(batch["style"]), names)
        return [gram(found[name]) for name in layers.style], statistics(found[layers.encoder])

    def transfer(self, image: Tensor, batch: Mapping[str, Any], style: Statistics | None) -> Tensor:
        assert style is not None
        with torch.no_grad():
            features = adain(self.encoded(self.padded(image)), *style)
        return self.decoded(features, (image.shape[2], image.shape[3]))
