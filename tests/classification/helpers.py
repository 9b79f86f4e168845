"""Small data sets, a small backbone and short calls that the tests of classification share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from visiontl_classification import TASK
from visiontl_classification.config import ClassificationConfig

import visiontl
from visiontl import Backbone, Features, ImageSpec, OriginalHead

SPEC = ImageSpec(size=(32, 32))


def config(data: Any = "somewhere", **keys: Any) -> ClassificationConfig:
    return ClassificationConfig.model_validate({"data": data if isinstance(data, dict) else str(data), **keys})


def read(data: Any, meta: Any = None, spec: ImageSpec = SPEC, **keys: Any) -> visiontl.Data:
    return TASK.data(config(data, **keys), spec, meta)


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """Writes a picture of noise, (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def folders(root: Path, counts: dict[str, int]) -> Path:
    """{"train/ants": 3} -> root/train/ants/0.png, 1.png, 2.png; 0 makes an empty folder."""
    for number, (place, count) in enumerate(counts.items()):
        (root / place).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            picture(root / place / f"{i}.png", 1000 * number + i)
    return root


class StubBackbone(Backbone):
    """One convolution; pooled is its mean, the one map is its output."""

    def __init__(self, in_channels: int = 3, head: OriginalHead | None = None):
        super().__init__("stub", SPEC, in_channels)
        self.conv = nn.Conv2d(in_channels, 6, 4, stride=4)
        self.stages = ("stem", "final")
        self.stage_of = {"conv": "stem", "conv.weight": "stem", "conv.bias": "stem"}
        self.channels, self.strides, self.embed_dim = (6,), (4,), 6
        self.original = [head]  # in a list: no submodule of the backbone

    def extract(self, x: Tensor, maps: tuple[int, ...], pooled: bool, layers: tuple[str, ...]) -> Features:
        y = self.conv(x)  # (B, 6, H/4, W/4)
        return Features([y for _ in maps], y.mean((2, 3)) if pooled else None)

    def classifier(self) -> OriginalHead:
        head = self.original[0]
        return head if head is not None else super().classifier()


def one_batch(data: visiontl.Data, cfg: ClassificationConfig, split: str = "train", count: int = 4) -> dict:
    part = data.splits()[split]
    return TASK.collate(cfg, [part[i, 0] for i in range(count)], None, data.meta)


def shapes_meta(classes: list[str], labels: str = "single") -> dict[str, Any]:
    return {"labels": labels, "classes": classes, "ids": classes, "counts": [2] * len(classes), "images": 2}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
