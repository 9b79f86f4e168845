"""Portraits of creatures that nobody has met: each with ears, eyes, coat and markings of its own, which stay while it
turns, squints, and the light changes. Imports no torch.

Features are drawn on the front of a ball, which is turned before they are flattened onto the picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from visiontl.kit.drawn.forms import Part, cast, draw, drawn_light, lay, oval, pose, smooth, strip
from visiontl.kit.drawn.grounds import finish, ground
from visiontl.kit.drawn.kinds import DARK, PALE, between
from visiontl.kit.drawn.textures import Palette, direction, hexes, picked

SEED = 4051
FURS = [
    hexes(one)
    for one in (
        "2a1a10 8a5a33 d9b48a",
        "1c1a1a 4a4542 8f8880",
        "4a2410 c06a2a f2b878",
        "6b5a48 b8a288 efe4d0",
        "23262c 5d6672 a8b3bd",
        "3a2c20 75604a b39c80",
        "8a8078 d0c8bc faf6ee",
        "2e1812 6e3a28 a86a4e",
        "1a1412 33282a 6b5a58",
        "6a4418 cf9a3f f6dc9a",
    )
]  # what creatures wear: few, so that a color alone names nobody
IRISES = [hexes(one) for one in ("1c3d2b 5fae6b", "14324f 5b9bd5", "4a2a08 d9962f", "2e1f14 8a5a34", "3d1450 b07ad1")]
SKINS = ("fur", "plain", "marble", "spots", "bands", "stripes")


@dataclass(frozen=True)
class Portrait:
    """image: RGB. landmarks: x, y in pixels of the eye on the left of the picture, the one on the right, the tip of
    the nose, the left and the right corner of the mouth. box: of the head without ears, x1 y1 x2 y2 in pixels."""

    image: Image.Image
    landmarks: tuple[tuple[float, float], ...]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Traits:
    """What stays the same in all pictures of one creature; lengths in radii of its head."""

    coat: Palette
    other: Palette
    iris: Palette
    skin: str
    skin_scale: float
    skin_turn: float
    wide: float
    cheek: float
    ears: str
    ear_size: float
    ear_apart: float
    eye: float
    apart: float
    eye_height: float
    slit: bool
    nose: float
    muzzle: float
    pale_muzzle: bool
    markings: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Turned:
    """A direction of the head; x, y, z of its front are brought into the picture. In full turns."""

    yaw: float
    pitch: float

    def flat(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) on the front of the head, seen straight -> (N, 2) as seen now. What lies beyond the edge of the ball
        stays in the plane through its middle."""
        x, y = points[:, 0], points[:, 1]
        z = np.sqrt(np.maximum(0.0, 1.0 - np.minimum(x * x + y * y * 0.9, 1.0))) * 0.9
        c, s = direction(self.yaw)
        x, z = x * c + z * s, z * c - x * s
        c, s = direction(self.pitch)
        return np.stack([x, y * c + z * s], axis=1)


def portrait(person: int, view: int, side: int = 160) -> Portrait:
    """One picture of one creature, (side, side) pixels: another direction, mood, light and place in each view."""
    traits = drawn_traits(np.random.default_rng([SEED, person]))
    rng = np.random.default_rng([SEED, person, view, 1])
    light = drawn_light(rng)
    picture = far(ground(rng, (side, side)), 14)
    turned = Turned(between(rng, -0.085, 0.085), between(rng, -0.045, 0.05))
    place = pose(
        side * between(rng, 0.46, 0.54),
        side * between(rng, 0.53, 0.57),
        side * between(rng, 0.285, 0.335),
        between(rng, -0.045, 0.045),
    )
    body = draw(shoulders(traits), pose(place.x, place.y, side * 0.31, 0), light, (side, side))
    if body is not None:
        lay(picture, body)
    parts = head(traits, turned, rng)
    drawn = draw(parts, place, light, (side, side))
    assert drawn is not None  # the head is in the middle
    cast(picture, drawn, replace(light, shadow=0.35), side * 0.04)
    lay(picture, drawn)
    finish(rng, picture, light)
    spots = np.array(
        [
            (-traits.apart, traits.eye_height),
            (traits.apart, traits.eye_height),
            (0, NOSE),
            (-MOUTH, MOUTH_HEIGHT),
            (MOUTH, MOUTH_HEIGHT),
        ]
    )
    landmarks = place.placed(turned.flat(spots))
    edge = place.placed(outline(traits))
    low, high = np.floor(edge.min(axis=0)), np.ceil(edge.max(axis=0))
    box = (*(max(0, int(v)) for v in low), *(min(side, int(v)) for v in high))
    image = Image.fromarray(np.round(picture.clip(0, 255)).astype(np.uint8))
    return Portrait(image, tuple((float(x), float(y)) for x, y in landmarks), box)  # type: ignore[arg-type]


NOSE, MOUTH, MOUTH_HEIGHT = 0.3, 0.22, 0.6  # on the front of the head, in radii


def drawn_traits(rng: np.random.Generator) -> Traits:
    names = ("mask", "blaze", "tabby", "cheeks", "freckles", "half", "rings", "brow", "chin")
    chosen = rng.permutation(len(names))[: int(rng.integers(2, 5))]
    return Traits(
        coat=picked(rng, FURS),
        other=picked(rng, FURS),
        iris=picked(rng, IRISES),
        skin=SKINS[int(rng.integers(len(SKINS)))],
        skin_scale=between(rng, 1.2, 2.2),
        skin_turn=float(rng.random()),
        wide=between(rng, 0.88, 1.12),
        cheek=between(rng, 0.0, 0.3),
        ears=("pointed", "round", "long", "folded")[int(rng.integers(4))],
        ear_size=between(rng, 0.75, 1.2),
        ear_apart=between(rng, 0.42, 0.68),
        eye=between(rng, 0.15, 0.25),
        apart=between(rng, 0.32, 0.46),
        eye_height=between(rng, -0.2, -0.02),
        slit=bool(rng.random() < 0.5),
        nose=between(rng, 0.1, 0.18),
        muzzle=between(rng, 0.36, 0.5),
        pale_muzzle=bool(rng.random() < 0.5),
        markings=tuple((names[int(i)], float(rng.random()), float(rng.random())) for i in chosen),
    )


def outline(traits: Traits) -> np.ndarray:
    wide, cheek = traits.wide, traits.cheek
    line = [(0, -1.04), (-0.62 * wide, -0.92), (-1.04 * wide, -0.35), (-(1.0 + cheek) * wide, 0.35)]
    line += [(-0.72 * wide, 0.85), (0, 1.08), (0.72 * wide, 0.85), ((1.0 + cheek) * wide, 0.35)]
    line += [(1.04 * wide, -0.35), (0.62 * wide, -0.92)]
    return smooth(line)


def shoulders(traits: Traits) -> list[Part]:
    line = [(-0.55, 0.4), (-1.35, 1.25), (-1.5, 2.4), (1.5, 2.4), (1.35, 1.25), (0.55, 0.4)]
    bib = [(-0.3, 0.6), (-0.55, 1.5), (-0.4, 2.4), (0.4, 2.4), (0.55, 1.5), (0.3, 0.6)]
    pale = traits.other[1:] if traits.pale_muzzle else traits.coat[1:]
    return [
        Part(smooth(line), traits.coat, traits.skin, traits.skin_scale, traits.skin_turn, 1.0, 0.05, 0.4),
        Part(smooth(bib), pale, "fur", 2.2, 0.0, 0.6, 0.05, 0.3),
    ]


def head(traits: Traits, turned: Turned, rng: np.random.Generator) -> list[Part]:
    """The head as it is seen; rng: for what changes from view to view."""

    def on_front(part: Part) -> Part:
        return replace(part, outline=turned.flat(part.outline))

    base = Part(outline(traits), traits.coat, traits.skin, traits.skin_scale, traits.skin_turn, 1.15, 0.08, 0.45)
    front = [mark for kind, a, b in traits.markings for mark in marking(kind, a, b, traits)]
    return [
        *(on_front(one) for one in ears(traits)),
        base,
        *(on_front(one) for one in (*front, *muzzle(traits, rng), *eyes(traits, turned, rng))),
    ]


def ears(traits: Traits) -> list[Part]:
    size, apart = traits.ear_size, traits.ear_apart
    x, y = apart * traits.wide, -0.72
    if traits.ears == "pointed":
        line = [
            (x - 0.36, y - 0.05),
            (x + 0.12 * size, y - 0.82 * size),
            (x + 0.22, y - 0.7 * size),
            (x + 0.42, y + 0.3),
        ]
    elif traits.ears == "round":
        line = [(v[0], v[1]) for v in oval(x + 0.12, y - 0.12, 0.42 * size, 0.42 * size, corners=10)]
    elif traits.ears == "long":
        line = [(x - 0.24, y), (x - 0.2, y - 0.8 * size), (x + 0.05, y - 1.1 * size), (x + 0.25, y - 0.7 * size)]
        line += [(x + 0.22, y + 0.1)]
    else:
        line = [(x - 0.2, y - 0.12), (x + 0.35, y - 0.28), (x + 0.75 * size, y + 0.35), (x + 0.62 * size, y + 0.95)]
        line += [(x + 0.3, y + 0.6)]
    edge = smooth(line)
    middle = edge.mean(axis=0)
    inner = (edge - middle) * 0.58 + middle
    made: list[Part] = []
    for side in (1.0, -1.0):
        made.append(
            Part(edge * (side, 1), traits.coat, traits.skin, traits.skin_scale, traits.skin_turn, 0.9, 0.05, 0.4)
        )
        if traits.ears != "folded":
            made.append(Part(inner * (side, 1), ((120, 70, 70), (232, 176, 160)), "fur", 2.4, 0.0, 0.7, 0.0, 0.45))
    return made


def marking(kind: str, a: float, b: float, traits: Traits) -> list[Part]:
    """Patches of the other coat; a and b (0..1) say how large and where, the same in every view."""
    dark, light = (traits.other[0], traits.other[1]), (traits.other[1], traits.other[2])
    if kind in ("mask", "rings"):
        rings = [(0.3 + 0.14 * a, 0.26 + 0.1 * b, dark)]
        if kind == "rings":
            rings = [(traits.eye + 0.16 + 0.06 * a,) * 2 + (light,), (traits.eye + 0.08,) * 2 + (dark,)]
        lines = [(oval(traits.apart, traits.eye_height, rx, ry, corners=24), tone) for rx, ry, tone in rings]
        return [patch(line * (side, 1), tone) for line, tone in lines for side in (1.0, -1.0)]
    if kind == "brow":
        lift = traits.eye_height - traits.eye - 0.16 - 0.1 * a
        line = strip([(0.14, lift + 0.1 * b), (traits.apart, lift - 0.05), (0.7, lift + 0.12)], 0.075, 0.03)
        return [patch(line * (side, 1), light if b < 0.5 else dark) for side in (1.0, -1.0)]
    if kind == "blaze":
        wide = 0.07 + 0.16 * a
        line = [(-wide * 0.5, -0.96), (-wide, -0.3 - 0.3 * b), (-wide * 1.3, 0.3), (wide * 1.3, 0.3)]
        return [patch(smooth([*line, (wide, -0.3 - 0.3 * b), (wide * 0.5, -0.96)]), light)]
    if kind == "half":
        line = [(0.02, -0.96), (0.08, 0.0), (0.02, 0.98), (0.6, 0.78), (0.9, 0.2), (0.9, -0.3), (0.55, -0.78)]
        side = 1.0 if a < 0.5 else -1.0
        return [Part(smooth(line) * (side, 1), traits.other, traits.skin, 1.8, b, 0.4, 0.0, 0.0)]
    if kind == "chin":
        line = [(-0.5 - 0.2 * a, 0.62), (-0.3, 0.92), (0, 1.0), (0.3, 0.92), (0.5 + 0.2 * a, 0.62), (0, 0.5 - 0.2 * b)]
        return [patch(smooth(line), light)]
    if kind == "freckles":
        rng = np.random.default_rng([round(a * 1000), round(b * 1000)])
        spots = [
            (between(rng, -0.7, 0.7), between(rng, -0.8, 0.7), between(rng, 0.05, 0.12))
            for _ in range(4 + round(5 * a))
        ]
        return [patch(oval(x, y, size, size, corners=16), dark) for x, y, size in spots]
    lines = tabby(a, b) if kind == "tabby" else cheeks(a, b)
    return [Part(line * (side, 1), dark[:1], bulge=0) for line in lines for side in (1.0, -1.0)]


def patch(line: np.ndarray, colors: Palette) -> Part:
    """A spot of fur that lies flat on the head."""
    return Part(line, colors, "fur", 2.0, 0.0, 0.25, 0.0, 0.0)


def tabby(a: float, b: float) -> list[np.ndarray]:
    """Stripes on the right half of the forehead."""
    places = [0.14 + (0.17 + 0.05 * b) * i for i in range(2 + round(2 * a))]
    return [
        strip([(x * 0.7, -0.42), (x * 0.9, -0.62), (x, -0.86 + 0.3 * x * x)], 0.03 + 0.04 * b, 0.02) for x in places
    ]


def cheeks(a: float, b: float) -> list[np.ndarray]:
    heights = [0.18 + 0.24 * i for i in range(2 + round(a))]
    return [strip([(0.93 - 0.1 * y, y - 0.12), (0.74, y), (0.55 - 0.1 * b, y + 0.02)], 0.055, 0.015) for y in heights]


def muzzle(traits: Traits, rng: np.random.Generator) -> list[Part]:
    size, nose = traits.muzzle, traits.nose
    pale = ((176, 150, 130), (250, 244, 234)) if traits.pale_muzzle else (traits.other[1], traits.other[2])
    pads = [
        Part(
            oval(side * size * 0.45, 0.47, size * 0.58, size * 0.5, corners=28), pale, "fur", 2.4, 0.0, 0.8, 0.05, 0.25
        )
        for side in (-1.0, 1.0)
    ]
    gap = between(rng, 0.0, 0.14)  # how far the mouth is open
    made: list[Part] = []
    if gap > 0.05:
        line = [(-0.14, MOUTH_HEIGHT), (0, MOUTH_HEIGHT + 0.03), (0.14, MOUTH_HEIGHT), (0.0, MOUTH_HEIGHT + 0.14 + gap)]
        made.append(Part(smooth(line), ((60, 16, 20), (150, 52, 60)), "plain", 2.0, 0.0, 0.4, 0.1, 0.2))
    made += pads
    made.append(Part(strip([(0, NOSE + 0.05), (0, MOUTH_HEIGHT - 0.06)], 0.022, 0.022, 0), DARK, bulge=0))
    for side in (-1.0, 1.0):
        curve = [(0, MOUTH_HEIGHT - 0.08), (side * 0.12, MOUTH_HEIGHT + 0.03), (side * MOUTH, MOUTH_HEIGHT - 0.02)]
        made.append(Part(strip(curve, 0.024, 0.014), DARK, bulge=0))
        for i in range(3):
            x, y = side * (0.24 + 0.05 * i), 0.42 + 0.07 * i
            made.append(Part(oval(x, y, 0.016, 0.016, corners=10), DARK, bulge=0))
    tip = smooth(
        [
            (-nose, NOSE - nose * 0.55),
            (nose, NOSE - nose * 0.55),
            (nose * 0.35, NOSE + nose * 0.5),
            (-nose * 0.35, NOSE + nose * 0.5),
        ],
        2,
    )
    made.append(Part(tip, ((52, 30, 32), (120, 74, 76)) if traits.slit else DARK, "plain", 2.0, 0.0, 1.2, 0.8, 0.2))
    return made


def eyes(traits: Traits, turned: Turned, rng: np.random.Generator) -> list[Part]:
    size, apart, y = traits.eye, traits.apart, traits.eye_height
    lid = between(rng, 0.0, 0.45)  # how far the lids are down
    look = np.array([between(rng, -0.25, 0.25), between(rng, -0.15, 0.2)]) * size * 0.5
    made: list[Part] = []
    for side in (-1.0, 1.0):
        x = side * apart
        made.append(Part(oval(x, y, size * 1.14, size * 1.08, corners=28), DARK, bulge=0))
        made.append(Part(oval(x, y, size, size * 0.95, corners=28), PALE, bulge=0.5, gloss=0.1))
        ix, iy = x + look[0], y + look[1]
        made.append(
            Part(oval(ix, iy, size * 0.74, size * 0.74, corners=26), traits.iris, "stripes", 3.0, 0.1, 0.6, 0.0, 0.5)
        )
        made.append(
            Part(
                oval(
                    ix,
                    iy,
                    size * (0.2 if traits.slit else 0.42),
                    size * 0.55 if traits.slit else size * 0.42,
                    corners=22,
                ),
                ((8, 8, 10),),
                bulge=0,
            )
        )
        made.append(Part(oval(ix - size * 0.24, iy - size * 0.26, size * 0.17, size * 0.17, corners=14), PALE, bulge=0))
        if lid > 0.12:
            drop = y - size * 1.1 + 2.0 * size * lid
            line = [(x - size * 1.2, y - size * 0.1), (x - size * 0.8, y - size), (x + size * 0.8, y - size)]
            line += [(x + size * 1.2, y - size * 0.1), (x + size * 0.6, drop), (x - size * 0.6, drop)]
            made.append(Part(smooth(line), traits.coat[:2], "fur", 2.0, 0.0, 0.6, 0.1, 0.35))
    return made


def far(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture as a lens shows what is far behind: (H, W, 3) float32, no finer than size x size points."""
    height, width = picture.shape[:2]
    image = Image.fromarray(np.round(picture.clip(0, 255)).astype(np.uint8))
    soft = image.resize((size, size), Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(soft, dtype=np.float32).copy()
