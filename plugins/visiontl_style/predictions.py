"""Painting whole photos of any size with a trained network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visiontl import ConfigError
from visiontl.kit.images import to_rgb, to_tensor
from visiontl.kit.words import did_you_mean
from visiontl_style.colors import with_colors_of
from visiontl_style.config import PredictOptions, StyleConfig
from visiontl_style.formulas import adain, statistics
from visiontl_style.model import AdaptiveTransfer, FeedForward
from visiontl_style.networks import statistics_of
from visiontl_style.pictures import as_picture, open_style, sized
from visiontl_style.tiles import FLOATS, in_tiles, reduced, resized, to_bytes

LEAST = 16  # pixels of a side that a photo is enlarged to before it is painted


def predict(
    cfg: StyleConfig,
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    meta: Mapping[str, Any],
    options: PredictOptions | None = None,
) -> Iterator[dict[str, Any]]:
    """Per photo {"style": {name: share}, "size": [H, W] of the result, "milliseconds", "stylized": the picture, with
    the photo's transparency where it has any}."""
    options = options or PredictOptions.model_validate({})
    shares = asked_styles(cfg, meta, options)
    painter = Painter(cfg, model, meta, options, shares)
    for batch in batches:
        for photo in batch["photo"]:
            began = time.perf_counter()
            result = painter.paint(photo)
            yield {
                "style": shares,
                "size": [result.height, result.width],
                "milliseconds": round(1000 * (time.perf_counter() - began), 1),
                "stylized": result,
            }


def asked_styles(cfg: StyleConfig, meta: Mapping[str, Any], options: PredictOptions) -> dict[str, float]:
    """{name or file: share}, the shares sum to 1. Raises ConfigError for a name that there is not."""
    names = [style["name"] for style in meta["styles"]]
    given = options.style
    if given is None:
        given = names[0]
    shares = {given: 1.0} if isinstance(given, str) else given if isinstance(given, dict) else dict.fromkeys(given, 1.0)
    if not shares:
        raise ConfigError("option style: names none; give a style, a list of them, or a mapping to their shares")
    for name in shares:
        if name not in names and cfg.way == "feed_forward":
            raise ConfigError(
                f"option style: {name!r} is none of the styles that this network was trained for"
                f"{did_you_mean(name, names)} (a network for any picture is trained with way: adain)"
            )
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


class Painter:
    """A network, ready for photos, with everything that does not depend on the photo computed once."""

    def __init__(
        self,
        cfg: StyleConfig,
        model: nn.Module,
        meta: Mapping[str, Any],
        options: PredictOptions,
        shares: Mapping[str, float],
    ):
        self.cfg, self.model, self.options, self.shares = cfg, model, options, shares
        self.device = next(model.parameters()).device
        self.names = [style["name"] for style in meta["styles"]]
        if isinstance(model, AdaptiveTransfer):
            self.styles = [self.style_statistics(model, name, meta) for name in shares]

    def style_statistics(self, model: AdaptiveTransfer, name: str, meta: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if name in self.names:
            picture = as_picture(meta["styles"][self.names.index(name)]["png"])
        else:
            picture, _ = open_style(name, "option style")
        picture = sized(picture, max(32, round(self.cfg.style_size * self.options.style_scale)))
        return model.style_statistics(to_tensor(picture)[None].to(self.device).float() / 255)

    def paint(self, photo: Tensor) -> Image.Image:
        """(3, H, W) uint8 -> the stylized picture, RGB; (4, H, W) with a transparency -> RGBA with the same, in the
        result's size. What is painted is the photo on white."""
        photo = photo.cpu()
        if self.options.size is not None:
            photo = rescaled(photo, self.options.size / max(photo.shape[1:]))
        photo, alpha = photo[:3], photo[3:]
        size = (photo.shape[1], photo.shape[2])
        scale = max(self.stroke_scale(), LEAST / min(size))
        result = self.stylized(rescaled(photo, scale))
        if result.shape[1:] != size:
            result = resized(result, size, "bicubic")
        if isinstance(self.model, FeedForward) and self.options.strength < 1:
            for own, made in zip(*(x.split(max(1, FLOATS // size[1]), 1) for x in (photo, result)), strict=True):
                made.copy_(to_bytes(torch.lerp(own.float(), made.float(), self.options.strength) / 255))
        picture = Image.fromarray(result.permute(1, 2, 0).numpy())
        if self.options.keep_colors:
            picture = with_colors_of(Image.fromarray(photo.permute(1, 2, 0).numpy()), picture)
        if len(alpha):
            picture.putalpha(Image.fromarray(alpha[0].numpy()))
        return picture

    def stroke_scale(self) -> float:
        """A feed-forward network paints strokes of one size: the photo is shrunk or enlarged under its brush."""
        return 1 / self.options.style_scale if isinstance(self.model, FeedForward) else 1.0

    def stylized(self, photo: Tensor) -> Tensor:
        """(3, H, W) uint8 -> the same, whole or in tiles."""
        tile = self.options.tile
        large = photo.shape[1] * photo.shape[2] > tile * tile
        if isinstance(self.model, FeedForward):
            net = self.model.net
            weights = torch.tensor([[self.shares.get(name, 0.0) for name in self.names]], device=self.device)
            if not large:
                return to_bytes(net(photo[None].to(self.device).float() / 255, weights)[0])
            with statistics_of(net, reduced(photo, tile).to(self.device), weights):
                return in_tiles(lambda x: net(x, weights), photo, tile, net.reach, net.stride, self.device)
        assert isinstance(self.model, AdaptiveTransfer)
        model = self.model
        own = statistics(model.encoded(reduced(photo, tile).to(self.device))) if large else None

        def paint(window: Tensor) -> Tensor:
            features = model.encoded(model.padded(window))
            mixed = sum(
                share * adain(features, *style, own)
                for share, style in zip(self.shares.values(), self.styles, strict=True)
            )
            assert isinstance(mixed, Tensor)
            features = torch.lerp(features, mixed, self.options.strength)
            return model.decoded(features, (window.shape[2], window.shape[3]))

        if not large:
            return to_bytes(paint(photo[None].to(self.device).float() / 255)[0])
        return in_tiles(paint, photo, tile, model.reach, 2 * model.stride, self.device)


def rescaled(photo: Tensor, scale: float) -> Tensor:
    """(C, H, W) uint8 -> the same with sides times `scale`."""
    size = [max(1, round(side * scale)) for side in photo.shape[1:]]
    if size == list(photo.shape[1:]):
        return photo
    return resized(photo, size, "bilinear")


def draw(image: Image.Image, prediction: Mapping[str, Any], meta: Mapping[str, Any]) -> Image.Image:
    """The photo with its result beside it, both in the result's size, never smaller than the photo, on white: a JPEG
    has no transparency."""
    result = prediction["stylized"]
    result = result if result.mode == "RGB" else to_rgb(result)
    if result.width < image.width:
        result = result.resize(image.size, Image.Resampling.LANCZOS)
    photo = image if image.mode == "RGB" else image.convert("RGB")
    if photo.size != result.size:
        photo = photo.resize(result.size, Image.Resampling.LANCZOS)
    both = Image.new("RGB", (2 * result.width, result.height))
    both.paste(photo, (0, 0))
    both.paste(result, (result.width, 0))
    return both
