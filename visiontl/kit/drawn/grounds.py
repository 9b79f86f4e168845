"""What lies under things and what comes over the whole picture: a ground, light that falls off, shade, grain.

Imports no torch.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from visiontl.kit.drawn.forms import Light
from visiontl.kit.drawn.kinds import between
from visiontl.kit.drawn.textures import EARTHS, GROUNDS, direction, picked, ramp, tile


def ground(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) float32: a texture, turned and scaled, lighter and darker in places."""
    width, height = size
    name = GROUNDS[int(rng.integers(len(GROUNDS)))]
    turn = between(rng, -0.04, 0.04) if name in ("grass", "bricks") else float(rng.random())
    scale = between(rng, 0.7, 1.3) * 224 / max(size)
    c, s = (scale * one for one in direction(turn))
    middle = 512 + between(rng, -120, 120), 512 + between(rng, -120, 120)
    data = (
        c,
        -s,
        middle[0] - c * width / 2 + s * height / 2,
        s,
        c,
        middle[1] - s * width / 2 - c * height / 2,
    )
    values = tile(name).transform(size, Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    picture = ramp(picked(rng, EARTHS[name]))[np.asarray(values)].astype(np.float32)
    left, top = int(rng.integers(0, 400)), int(rng.integers(0, 400))
    cloud = tile("clouds").resize(size, Image.Resampling.BILINEAR, box=(left, top, left + 300, top + 300))
    shade = np.asarray(cloud, dtype=np.float32) / np.float32(255)
    picture *= (np.float32(1.22) - np.float32(between(rng, 0.05, 0.35)) * shade)[..., None]
    return picture


def finish(rng: np.random.Generator, picture: np.ndarray, light: Light) -> None:
    """Light that falls off to one side, now and then a shadow from outside, and grain."""
    height, width = picture.shape[:2]
    x = (np.arange(width, dtype=np.float32) / np.float32(width) - np.float32(0.5)) * np.float32(light.x)
    y = (np.arange(height, dtype=np.float32) / np.float32(height) - np.float32(0.5)) * np.float32(light.y)
    fall = np.float32(between(rng, 0.1, 0.5)) * (x[None, :] + y[:, None])
    shade = 1 + fall
    if rng.random() < 0.35:  # a shadow with a soft edge
        a, b = direction(float(rng.random()))
        c = between(rng, -0.3, 0.3)
        across = np.arange(width, dtype=np.float32) / np.float32(width) - np.float32(0.5)
        down = np.arange(height, dtype=np.float32) / np.float32(height) - np.float32(0.5)
        side = across[None, :] * np.float32(a) + down[:, None] * np.float32(b) - np.float32(c)
        shade = shade * (1 - np.float32(between(rng, 0.25, 0.5)) * (side * np.float32(9) + np.float32(0.5)).clip(0, 1))
    picture *= shade[..., None]
    grain = rng.integers(-6, 7, (height, width), dtype=np.int8)
    picture += grain[..., None]
