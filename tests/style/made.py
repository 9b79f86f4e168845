"""Small models and pictures for the tests of style transfer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from visiontl_style.config import StyleConfig
from visiontl_style.example import dots, waves
from visiontl_style.model import model
from visiontl_style.pictures import encoded

import visiontl
from visiontl import seeded

META = {"styles": [{"name": "waves", "png": encoded(waves())}, {"name": "dots", "png": encoded(dots())}]}


def config(**keys: Any) -> StyleConfig:
    small: dict[str, Any] = {"width": 4, "blocks": 1, "size": 48, "crop": 32, "style_size": 48, "jitter": 4}
    return StyleConfig.model_validate({"data": {"photos": ["x"]}, **small, **keys})


def network(seed: int = 0, **keys: Any) -> Any:
    """A model on the tiny backbone with random weights, in eval mode."""
    with seeded(seed):
        return model(config(**keys), visiontl.load_backbone("visiontl/tiny", "none"), META).eval()


def batch(count: int = 2, size: int = 48, seed: int = 0, **more: Any) -> dict[str, Any]:
    image = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator(seed))
    return {"image": image, "style": torch.arange(count) % 2, "id": torch.arange(count), **more}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft colored blobs with some noise: a picture with both smooth and busy places."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return Image.fromarray((pixels + rng.normal(0, 8, pixels.shape)).clip(0, 255).astype(np.uint8))
