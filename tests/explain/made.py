"""Photos with a known place, a linear network, and Built models without a training, shared by the tests of explain."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from visiontl_classification import TASK

from tests.classification.helpers import StubBackbone
from visiontl import ImageSpec
from visiontl.config.resolve import resolve
from visiontl.engine.model import Built
from visiontl.processes.seeds import seeded

CLASSES = ["ant", "bee", "cat"]


def ramp(width: int, height: int) -> Image.Image:
    """Red says the column, green the row: 0 at the left and upper edge, 255 at the others."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = ((np.arange(width) + 0.5) / width * 255).round()
    pixels[..., 1] = ((np.arange(height) + 0.5) / height * 255).round()[:, None]
    return Image.fromarray(pixels)


def spotted(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """White in the box, black around it."""
    photo = Image.new("RGB", size)
    photo.paste("white", box)
    return photo


def linear_classifier(crop: float = 1.0) -> Built:
    """A convolution, the mean of each of its maps, and a linear layer: all of it without an activation."""
    section = {"name": "classification", "data": "nowhere"}
    resolved = resolve({"task": section, "backbone": {"name": "visiontl/tiny", "weights": "none"}})
    meta = {"classes": CLASSES, "counts": dict.fromkeys(CLASSES, 1)}
    with seeded(0):
        backbone = StubBackbone()
        backbone.set_spec(ImageSpec(size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3, crop=crop))
        model: Any = TASK.model(resolved.cfg, backbone, meta).eval()
        torch.nn.init.normal_(model.head[-1].weight)  # of either sign, whatever the class
    return Built(resolved, backbone, model, meta)


def brightness_classifier(crop: float = 1.0) -> Built:
    """Its maps are the brightness of 4 x 4 pixels, and class `bee` is the more certain the brighter they are."""
    built = linear_classifier(crop)
    backbone: Any = built.backbone
    model: Any = built.model
    with torch.no_grad():
        backbone.conv.weight.fill_(1 / 48)
        backbone.conv.bias.zero_()
        model.head[-1].weight.zero_()
        model.head[-1].weight[1] = 1.0
    return built
