"""The painting network as one graph: a photo to its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import ConfigError, Export
from visiontl.kit.exporting import letterboxed
from visiontl_style.config import PredictOptions, StyleConfig
from visiontl_style.formulas import adain
from visiontl_style.model import AdaptiveTransfer, FeedForward, StyleTransfer
from visiontl_style.networks import LEAST
from visiontl_style.predictions import Painter, asked_styles


class Painted(nn.Module):
    """forward(image): {"picture": (B, 3, H, W) 0..1} of a feed-forward network. shares: (1, styles)."""

    shares: Tensor

    def __init__(self, net: nn.Module, shares: Tensor, strength: float):
        super().__init__()
        self.net, self.strength = net, strength
        self.register_buffer("shares", shares)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        made = self.net(image, self.shares.expand(image.shape[0], -1))
        return {"picture": made if self.strength == 1 else torch.lerp(image, made, self.strength)}


class Exchanged(nn.Module):
    """The same with the statistics of given styles exchanged in the features of an encoder. statistics: per style its
    share, and mean and deviation of its features, (1, C, 1, 1) each."""

    def __init__(self, model: AdaptiveTransfer, statistics: list[tuple[float, Tensor, Tensor]], strength: float):
        super().__init__()
        self.model, self.strength = model, strength
        self.shares = [share for share, _, _ in statistics]
        for number, (_, mean, deviation) in enumerate(statistics):
            self.register_buffer(f"mean{number}", mean.clone())
            self.register_buffer(f"deviation{number}", deviation.clone())

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        features = self.model.encoded(self.model.padded(image))
        styles = ((getattr(self, f"mean{i}"), getattr(self, f"deviation{i}")) for i in range(len(self.shares)))
        mixed = torch.stack([share * adain(features, *one) for share, one in zip(self.shares, styles, strict=True)])
        features = torch.lerp(features, mixed.sum(0), self.strength)
        return {"picture": self.model.decoded(features, (image.shape[2], image.shape[3]))}


def export(cfg: StyleConfig, model: StyleTransfer, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    """Raises ConfigError for options that are no part of a graph."""
    plain = PredictOptions.model_validate({})
    for name in ("keep_colors", "style_scale", "size"):
        if getattr(options, name) != getattr(plain, name):
            raise ConfigError(
                f"option {name}: is done before or after the network, and no part of a graph; leave it out"
            )
    shares = asked_styles(cfg, meta, options)
    names = [style["name"] for style in meta["styles"]]
    if isinstance(model, FeedForward):
        weights = torch.tensor([[shares.get(name, 0.0) for name in names]])
        module: nn.Module = Painted(model.net, weights, options.strength)
        multiple = model.net.stride
    else:
        assert isinstance(model, AdaptiveTransfer)
        painter = Painter(cfg, model, meta, options, shares)
        statistics = [(share, *one) for share, one in zip(shares.values(), painter.styles, strict=True)]
        module, multiple = Exchanged(model, statistics, options.strength), model.stride
    least = max(32, LEAST)
    size = max(least, -(-cfg.size // multiple) * multiple)
    return Export(
        module=module,
        view=letterboxed({"resize": "none"}, "bilinear", multiple, (least, least), "mirror"),
        answer={"kind": "picture", "output": "picture", "key": "stylized", "also": {"style": shares}},
        size=(size, size),
        multiple=multiple,
        wanted=True,
        outputs=outputs_of(model) if len(names) == 1 and size == cfg.size and cfg.way == "feed_forward" else None,
        notes=["photos of more than `tile` x `tile` pixels are painted whole, and by the run in tiles"],
    )


def outputs_of(model: StyleTransfer) -> Any:
    """The distances as the judge of the run measures them, of pictures that `run` makes."""

    def outputs(run: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
        model.transfer = lambda image, batch, style: run(image)["picture"]  # type: ignore[method-assign]
        try:
            return model(batch)
        finally:
            del model.transfer

    return outputs
