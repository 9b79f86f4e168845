"""The network as one graph: pixels to logits on the decoder's grid."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visiontl import ConfigError, Export
from visiontl.kit.exporting import letterboxed
from visiontl_segmentation.config import PredictOptions, SegmentationConfig
from visiontl_segmentation.model import Segmenter
from visiontl_segmentation.predictions import known
from visiontl_segmentation.views import LARGEST, STRIDE, Frame, frame_of, mean_color
from visiontl_segmentation.written import manner, mask_image


class Cells(nn.Module):
    """forward(image): {"logits": (B, K, h, w)}, which stand for the whole image."""

    def __init__(self, model: Segmenter):
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return {"logits": self.model.small(image)[0]}


def export(cfg: SegmentationConfig, model: Segmenter, meta: Mapping[str, Any], options: PredictOptions) -> Export:
    """Raises ConfigError for what takes several passes, which no graph holds."""
    refuse(cfg, model, options)
    spec = model.decode.backbone.spec
    frame = frame_of(cfg, spec)
    if options.resize is not None:
        frame = Frame(frame.spec, options.resize, frame.least)
    one_size = frame.resize in ("fit", "stretch")
    step = math.lcm(STRIDE, spec.pad_to) if spec.sizing == "multiple" else STRIDE
    size = frame.canvas(spec.size if isinstance(frame.resize, str) else (frame.resize, frame.resize))
    resize: dict[str, Any] = {"resize": "short", "short": frame.resize, "pixels": LARGEST}
    if isinstance(frame.resize, str):
        kind = {"fit": "inside", "original": "none"}.get(frame.resize, frame.resize)
        resize = {"resize": kind} if kind == "none" else {"resize": kind, "size": list(spec.size)}
    fixed = spec.sizing == "fixed"
    least = size if one_size else (frame.least, frame.least)
    names = list(meta["classes"])
    reported = range(len(names)) if options.classes is None else [known(name, names) for name in options.classes]
    return Export(
        module=Cells(model),
        view=letterboxed(resize, spec.interpolation, 1 if fixed else step, least, mean_color(spec)),
        answer={"kind": "mask", "output": "logits", "classes": names, "reported": list(reported), **written(meta)},
        size=size,
        multiple=1 if fixed else step,
        varies=not fixed,
        wanted=not one_size,
        outputs=outputs,
    )


def refuse(cfg: SegmentationConfig, model: Segmenter, options: PredictOptions) -> None:
    if cfg.windows is not None or options.windows == "always":
        raise ConfigError(
            "a photo in windows takes many passes, which no graph holds; export a run without task.windows"
        )
    if options.flip or options.scales != [1.0]:
        raise ConfigError("options flip and scales take several passes, which no graph holds; leave them out")
    spec = model.decode.backbone.spec
    if model.decode.patch is not None and spec.sizing != "fixed" and spec.pad_to % model.decode.patch:
        raise ConfigError(
            f"{spec.pad_to} pixels are no whole number of patches of {model.decode.patch}: the grid of logits would "
            "stand for more than the image"
        )


def outputs(run: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    images = batch["image"]
    if isinstance(images, Tensor):
        return {"logits": run(images)["logits"], "extent": torch.tensor([list(images.shape[2:])] * len(images))}
    maps = [run(image[None])["logits"][0] for image in images]
    return {"logits": maps, "extent": torch.tensor([list(image.shape[1:]) for image in images])}


def written(meta: Mapping[str, Any]) -> dict[str, Any]:
    """{"mode", "values", "palette"}: the pixel that stands for each class in a mask, as `mask_image` writes it."""
    how = manner(meta)
    every = mask_image(np.arange(len(meta["classes"]), dtype=np.uint8)[None], meta)  # a pixel of each class
    palette = every.getpalette() if every.mode == "P" else None
    if how["form"] == "wide":
        return {"mode": "I;16", "values": list(how["values"]), "palette": None}
    return {"mode": every.mode, "values": np.asarray(every)[0].tolist(), "palette": palette}
