"""Landscapes like photos: a sky, hills in the haze, a ground in perspective, trees and houses with their shadows.
Imports no torch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from visiontl.kit.drawn.forms import Light, Part, cast, draw, drawn_light, lay, oval, pose, smooth
from visiontl.kit.drawn.kinds import DARK, between
from visiontl.kit.drawn.textures import COATS, EARTHS, Palette, cosine, hexes, picked, ramp, sine, tile, upwards

SEED = 7117
SKIES = [
    hexes(one)
    for one in (
        "4f8fd0 9cc6ea e6f0f4",
        "2f5f9a 7fa9d6 f2dcc0",
        "5a6f94 c98f8a f7cf9a",
        "6d8196 a9b7c2 dde3e4",
        "1f3f74 5f7fb8 f3b6a0",
        "3f9ab8 a6d8e0 f7f3e0",
    )
]
FAR = [hexes(one) for one in ("3f5f7a 7f9db4", "4a6a55 8fae90", "5f5470 a294b2", "6b5a4a b09a80")]
LANDS = ("grass", "sand", "water", "pebbles", "litter", "stone")
LEAVES = [
    hexes(one)
    for one in ("12280f 3f7a2c a9c95a", "2a1d0a b3661f f0b452", "10302a 2f7d60 9fd8a0", "33101a a83a3a f0967a")
]


def photo(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """One landscape of (width, height) pixels, RGB: the same for the same number."""
    rng = np.random.default_rng([SEED, seed])
    width, height = size
    light = drawn_light(rng)
    light = replace(light, y=-abs(light.y) - 0.3, x=light.x or 0.5)  # from above
    horizon = height * between(rng, 0.36, 0.58)
    picture = np.zeros((height, width, 3), np.float32)
    sky(rng, picture, horizon)
    for layer in range(int(rng.integers(1, 4))):
        hills(rng, picture, horizon, layer, picked(rng, FAR))
    land = LANDS[int(rng.integers(len(LANDS)))]
    floor(rng, picture, horizon, land)
    things = [boat, boat, rock] if land == "water" else [tree, tree, house, bush, rock]
    count = int(rng.integers(3, 8))
    depths = sorted(between(rng, 0.06, 0.75) for _ in range(count))
    for depth in depths:  # the nearer ones last
        make = things[int(rng.integers(len(things)))]
        scale = height * (0.13 + 0.42 * depth) * (0.6 if make in (bush, rock) else 1.0)
        x, y = width * between(rng, 0.02, 0.98), horizon + (height - horizon) * depth * 0.9
        stand(picture, make(rng), x, y, scale, light)
    grain = rng.integers(-4, 5, (height, width), dtype=np.int8)
    picture += grain[..., None]
    return Image.fromarray(np.round(picture.clip(0, 255)).astype(np.uint8))


def sky(rng: np.random.Generator, picture: np.ndarray, horizon: float) -> None:
    height, width = picture.shape[:2]
    down = np.minimum(upwards(height) * 255 / max(1.0, horizon), 255).astype(np.uint8)
    picture[:] = ramp(picked(rng, SKIES))[down][:, None, :]
    left, top, share = int(rng.integers(0, 300)), int(rng.integers(0, 300)), between(rng, 0.5, 1.1)
    box = (left, top, left + round(400 * share), top + round(260 * share))
    clouds = np.asarray(tile("clouds").resize((width, height), Image.Resampling.BILINEAR, box=box), dtype=np.float32)
    cover = clouds / np.float32(255) * np.float32(between(rng, 0.3, 0.95))
    picture += (np.array([252, 248, 242], np.float32) - picture) * cover[..., None]


def hills(rng: np.random.Generator, picture: np.ndarray, horizon: float, layer: int, colors: Palette) -> None:
    """A ridge, nearer ones darker and lower."""
    height, width = picture.shape[:2]
    high = height * (0.24 - 0.07 * layer) * between(rng, 0.5, 1.1)
    x = upwards(width) / width
    ridge = np.zeros(width)
    for wave, weight in ((1.3, 0.5), (3.1, 0.28), (7.3, 0.14), (17.0, 0.08)):
        ridge += weight * (0.5 + 0.5 * sine(x * wave * between(rng, 0.7, 1.3) + float(rng.random())))
    edge = horizon - high * ridge
    rows = upwards(height)[:, None]
    cover = (rows + 0.5 - edge[None, :]).clip(0, 1).astype(np.float32)
    cover[rows[:, 0] > horizon + 1] = 0
    left = int(rng.integers(0, 400))
    rough = np.asarray(tile("stone").resize((width, height), Image.Resampling.BILINEAR, box=(left, 0, left + 400, 300)))
    paint = ramp(colors)[rough].astype(np.float32)
    haze = np.float32(0.55 - 0.22 * layer)
    paint += (
        picture[max(0, int(horizon) - 1)].mean(axis=0, dtype=np.float64).round().astype(np.float32) - paint
    ) * haze
    picture += (paint - picture) * cover[..., None]


def floor(rng: np.random.Generator, picture: np.ndarray, horizon: float, land: str) -> None:
    """The ground, finer towards the horizon: row y shows what lies 1 / (y - horizon) away."""
    height, width = picture.shape[:2]
    top = int(horizon)
    down = (upwards(height - top) + (top + 3.5 - horizon)) / (height - horizon + 3.0)  # 0 at the horizon, 1 in front
    reach = 1.0 / down
    x = (upwards(width) / width - 0.5)[None, :] * reach[:, None] * 230 + 512
    y = np.broadcast_to(reach[:, None] * 200 + float(rng.integers(0, 512)), x.shape)
    values = np.asarray(tile(land))[np.floor(y).astype(np.int64) & 511, np.floor(x).astype(np.int64) & 511]
    near = down[:, None].clip(0, 1)
    mean = 128.0
    flat = mean + (values - mean) * near.clip(0.15, 1)  # what is far is too fine to be seen
    paint = ramp(picked(rng, EARTHS[land]))[np.floor(flat).astype(np.uint8)].astype(np.float32)
    paint *= np.float32(1.2)
    far = picture[max(0, top - 2)].astype(np.float32)
    haze = (np.float32(0.55) * (1 - near.astype(np.float32)) ** 3)[..., None]
    paint += (far[None] - paint) * haze
    picture[top:] = paint


def stand(picture: np.ndarray, parts: list[Part], x: float, y: float, scale: float, light: Light) -> None:
    """A thing on the ground: its foot (0, 0 of its parts) at x, y; its shadow lies flat beside it."""
    height, width = picture.shape[:2]
    place = pose(x, y, scale, 0.0)
    outline = parts[0].outline
    low, high = outline.min(axis=0), outline.max(axis=0)
    lean = -light.x * 0.5
    shadow = oval((low[0] + high[0]) / 2 + lean * 0.6, 0.0, (high[0] - low[0]) * 0.55 + abs(lean) * 0.3, 0.09)
    dark = draw([Part(shadow, ((0, 0, 0),), bulge=0)], place, light, (width, height))
    if dark is not None:
        cast(picture, dark, replace(light, x=0.0, y=0.0, shadow=0.6), scale * 0.06)
    drawn = draw(parts, place, light, (width, height))
    if drawn is not None:
        lay(picture, drawn)


def tree(rng: np.random.Generator) -> list[Part]:
    colors, bark = picked(rng, LEAVES), picked(rng, EARTHS["bark"])
    trunk = Part(np.array([(-0.07, 0.02), (-0.045, -0.6), (0.045, -0.6), (0.07, 0.02)]), bark, "bark", 2.0)
    if rng.random() < 0.4:  # a fir
        made = [trunk]
        for level in range(4):
            y, wide = -0.3 - 0.27 * level, 0.42 - 0.085 * level
            line = [(-wide, y), (-wide * 0.4, y - 0.2), (0, y - 0.5), (wide * 0.4, y - 0.2), (wide, y), (0, y + 0.06)]
            made.append(Part(smooth(line, 2), colors, "foliage", 2.0, 0.0, 0.8, 0.0, 0.4))
        return made
    crown: list[Part] = []
    for _ in range(int(rng.integers(4, 7))):
        x, y, size = between(rng, -0.3, 0.3), between(rng, -1.15, -0.62), between(rng, 0.2, 0.36)
        around = upwards(14) / 14
        radius = size * (0.85 + 0.3 * rng.random(14))
        line = np.stack([x + radius * cosine(around), y + radius * 0.9 * sine(around)], axis=1)
        crown.append(Part(smooth(line, 2), colors, "foliage", 1.7, float(rng.random()), 1.0, 0.0, 0.4))
    return [trunk, *crown]


def bush(rng: np.random.Generator) -> list[Part]:
    colors = picked(rng, LEAVES)
    made: list[Part] = []
    for x in (-0.32, 0.3, 0.0):
        line = oval(x, -0.22, between(rng, 0.25, 0.4), between(rng, 0.22, 0.36), corners=18)
        made.append(Part(line, colors, "foliage", 2.2, float(rng.random()), 1.0, 0.0, 0.4))
    return made


def rock(rng: np.random.Generator) -> list[Part]:
    line = [(-0.5, 0.03), (-0.45, -0.25), (-0.1, -between(rng, 0.35, 0.6)), (0.3, -0.35), (0.52, -0.1), (0.45, 0.05)]
    return [Part(smooth(line, 2), picked(rng, EARTHS["stone"]), "stone", 1.6, float(rng.random()), 1.2, 0.1, 0.4)]


def boat(rng: np.random.Generator) -> list[Part]:
    high, side = between(rng, 0.75, 1.0), 1.0 if rng.random() < 0.5 else -1.0
    hull = np.array([(-0.48, -0.16), (0.52, -0.16), (0.36, 0.02), (-0.36, 0.02)]) * (side, 1)
    mast = np.array([(-0.02, -0.15), (-0.015, -high - 0.08), (0.015, -high - 0.08), (0.02, -0.15)])
    main = np.array([(-0.04, -0.22), (-0.04, -high), (-0.3, -0.5), (-0.42, -0.22)]) * (side, 1)
    fore = np.array([(0.05, -0.22), (0.04, -high * 0.95), (0.28, -0.55), (0.45, -0.2)]) * (side, 1)
    pale = ((190, 180, 165), (250, 246, 236))
    colors = picked(rng, COATS)
    return [
        Part(hull, colors[:2], "wood", 1.5, 0.0, 0.5, 0.2, 0.3),
        Part(mast, picked(rng, EARTHS["bark"]), "bark", 2.0),
        Part(main, pale if rng.random() < 0.6 else colors[1:], "cloth", 2.0, 0.0, 0.6, 0.0, 0.2),
        Part(fore, pale if rng.random() < 0.6 else colors[1:], "cloth", 2.0, 0.0, 0.6, 0.0, 0.2),
    ]


def house(rng: np.random.Generator) -> list[Part]:
    wide, high = between(rng, 0.42, 0.65), between(rng, 0.5, 0.75)
    name = "bricks" if rng.random() < 0.55 else "wood"
    wall = Part(
        np.array([(-wide, 0.02), (-wide, -high), (wide, -high), (wide, 0.02)]),
        picked(rng, EARTHS[name]),
        name,
        1.1,
        0.0,
        0.25,
        0.0,
        0.2,
    )
    peak = high + between(rng, 0.3, 0.5)
    roof_line = np.array([(-wide - 0.1, -high), (-wide * 0.3, -peak), (wide * 0.3, -peak), (wide + 0.1, -high)])
    roof = Part(roof_line, picked(rng, COATS), "scales", 1.5, 0.0, 0.3, 0.0, 0.25)
    glass = ((40, 58, 78), (168, 196, 210))
    made = [wall, roof]
    for x in (-0.55, 0.55):
        for edge, paint in ((0.125, ((238, 232, 220),)), (0.095, glass)):
            box = np.array([(-edge, -edge * 1.25), (edge, -edge * 1.25), (edge, edge * 1.25), (-edge, edge * 1.25)])
            made.append(Part(box + np.array([x * wide, -high * 0.6]), paint, "clouds", 3.0, bulge=0))
    door = np.array([(-0.08, 0.02), (-0.08, -0.32), (0.08, -0.32), (0.08, 0.02)])
    made.append(Part(door, picked(rng, COATS)[:2], "wood", 2.0, 0.25, 0.2, 0.0, 0.2))
    if rng.random() < 0.6:
        x = wide * 0.35
        line = np.array(
            [(x - 0.06, -high - 0.1), (x - 0.06, -peak - 0.16), (x + 0.06, -peak - 0.16), (x + 0.06, -high - 0.1)]
        )
        made.insert(0, Part(line, picked(rng, EARTHS["bricks"]), "bricks", 2.0, 0.0, 0.3, 0.0, 0.2))
        made[0], made[1] = made[1], made[0]  # the wall stays first: its outline is the shadow's
    made.append(Part(oval(0.05, -0.15, 0.012, 0.012, corners=8), DARK, bulge=0))
    return made
