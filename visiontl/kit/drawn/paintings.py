"""Pictures in the way of paintings, as styles: waves, dots, brush strokes, shards. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.drawn.textures import cells_of, direction, hexes, noise, ramp, sine, smooth_step, tile, upwards

SEED = 9091
SEA = hexes("0b1f3f 1f4f82 5b93b8 bcd3d0 f4ecd6")
NIGHT = hexes("0a1436 1c3f7c 3f7fb0 8fc0c4 f3d873 fbf2c4")
FIELD = hexes("243b2a 4f7f3f c9a13b e8c468 d9733f 8a3b3f 2f5f8f")
CLAY = hexes("2b2220 6f4a37 b98050 e0bf8f f2e6cc 7f8f86 3f5560")


def painting(name: str, side: int = 256) -> Image.Image:
    """One of PAINTINGS, (side, side) pixels, RGB. Raises KeyError for another name."""
    picture = PAINTINGS[name]()
    return picture if side == picture.width else picture.resize((side, side), Image.Resampling.BICUBIC)


def waves() -> Image.Image:
    """Rows of crests with foam, over each other, as in woodcuts."""
    side = 512
    x = upwards(side) / side
    picture = ramp(((233, 222, 196), (205, 200, 180)))[np.minimum(np.arange(side), 255)][:, None].repeat(side, 1)
    rows = upwards(side)[:, None]
    rng = np.random.default_rng(SEED)
    paper = np.asarray(tile("fur").crop((0, 0, side, side)), dtype=np.int64)
    for level in range(11):
        base, high = 60 + 45 * level, 26 + 2.2 * level
        shift, waves_in = float(rng.random()), 3 + level % 3
        crest = sine(x * waves_in + shift)
        curl = sine(2 * (x * waves_in + shift) + 0.12)
        edge = base - high * (smooth_step(crest, -1, 1) * 1.6 + 0.35 * curl)
        below = rows - edge[None, :]
        stripes = np.floor(below / (7 + 0.5 * level)).astype(np.int64)
        tone = (40 + 45 * (stripes % 3) + (paper - 128) // 6 + 6 * level).clip(0, 200)
        color = ramp(SEA[:4])[tone.astype(np.uint8)]
        foam = (below < 5 + 5 * smooth_step(sine(x * waves_in * 9 + shift), -1, 1)[None, :])[..., None]
        line = ((below < 1.6) & (below >= 0))[..., None]
        color = np.where(foam, np.array(SEA[4], np.uint8), color)
        color = np.where(line, np.array(SEA[0], np.uint8), color)
        picture = np.where((below >= 0)[..., None], color, picture)
    return Image.fromarray(picture.astype(np.uint8)).reduce(2)


def dots() -> Image.Image:
    """A hill under a sun in dots of pure colors."""
    side = 512
    rng = np.random.default_rng([SEED, 1])
    image = Image.new("RGB", (side, side), (240, 230, 208))
    pen = ImageDraw.Draw(image)
    land = noise(SEED, 4, 3)
    for _ in range(9000):
        x, y = rng.random() * side, rng.random() * side
        ground = y > 300 + 90 * (land[128, int(x)] - 0.5) + 0.15 * x
        sun = (x - 360) ** 2 + (y - 130) ** 2 < 70**2
        colors = FIELD[:4] if ground else (FIELD[3:6] if sun else (*hexes("3f6fb5 7fb0d9 b9d7e4 f0c9a8"),))
        depth = int((land[int(y), int(x)] + 0.5 * (rng.random() - 0.5)) * len(colors))
        color = colors[min(max(depth, 0), len(colors) - 1)]
        if rng.random() < 0.12:
            color = FIELD[int(rng.integers(len(FIELD)))]
        radius = 4.5 + 3 * rng.random()
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
    return image.reduce(2)


def strokes() -> Image.Image:
    """Thick strokes that follow whirls."""
    side = 512
    rng = np.random.default_rng([SEED, 2])
    field = noise(SEED + 2, 3, 2)
    tone = noise(SEED + 3, 3, 3)
    image = Image.new("RGB", (side, side), NIGHT[0])
    pen = ImageDraw.Draw(image)
    whirls = [(140.0, 150.0), (370.0, 110.0), (300.0, 330.0), (90.0, 400.0)]
    colors = ramp(NIGHT)
    for _ in range(5200):
        x, y = rng.random() * side, rng.random() * side
        near = min(whirls, key=lambda one: (one[0] - x) ** 2 + (one[1] - y) ** 2)
        dx, dy = x - near[0], y - near[1]
        away = float(np.sqrt(dx * dx + dy * dy)) + 1e-6
        swirl = 1 - min(away / 150, 1.0)
        turn = np.array([field[int(y), int(x)] * 0.7, field[int(y), int(x)] * 0.7 + 0.25])
        u, v = (float(one) for one in sine(turn))
        u, v = (1 - swirl) * u - swirl * dy / away, (1 - swirl) * v + swirl * dx / away
        length = float(np.sqrt(u * u + v * v)) + 1e-6
        u, v, reach, thick = u / length, v / length, 10 + 12 * rng.random(), 2.2 + 2.6 * rng.random()
        rings = 0.5 + 0.5 * direction(away / 46)[1]
        value = (1 - swirl) * tone[int(y), int(x)] * 0.75 + swirl * (0.35 + 0.65 * rings) + 0.22 * (rng.random() - 0.5)
        color = tuple(int(one) for one in colors[int(min(max(value, 0), 1) * 255)])
        ends = [(-1, 0.5), (-0.6, 1), (0.6, 1), (1, 0.5), (1, -0.5), (0.6, -1), (-0.6, -1), (-1, -0.5)]
        pen.polygon(
            [(round(x + u * a * reach - v * b * thick), round(y + v * a * reach + u * b * thick)) for a, b in ends],
            fill=color,
        )
    return image.reduce(2)


def shards() -> Image.Image:
    """Planes that meet at edges, each shaded from one side to the other."""
    number = 7
    near, far, value = cells_of(SEED + 4, number, 1.0)
    _, _, second = cells_of(SEED + 5, 4, 1.0)
    line = upwards(512) / 512
    turn = np.stack([value * 3.7, value * 3.7 + 0.25])
    u, v = sine(turn)
    slope = (line[None, :] * u + line[:, None] * v) * 6
    shade = np.abs(slope - np.floor(slope) - 0.5) * 2
    mixed = (value * 0.62 + second * 0.38) * 255
    color = ramp(CLAY)[mixed.astype(np.uint8)].astype(np.float64) * (0.55 + 0.65 * shade[..., None])
    edge = smooth_step(far - near, 0.0, 0.045)[..., None]
    paper = (np.asarray(tile("cloth").crop((0, 0, 512, 512)), dtype=np.float64)[..., None] - 128) * 0.12
    whole: np.ndarray = color * (0.2 + 0.8 * edge) + paper
    return Image.fromarray(np.round(whole.clip(0, 255)).astype(np.uint8)).reduce(2)


PAINTINGS: dict[str, Callable[[], Image.Image]] = {"strokes": strokes, "waves": waves, "shards": shards, "dots": dots}
