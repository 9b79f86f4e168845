"""The six kinds of things in the world, each another one whenever it is drawn. Imports no torch.

Colors and skins come from the same lists for every kind: they tell nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visiontl.kit.drawn.forms import Part, mirrored, oval, smooth, strip
from visiontl.kit.drawn.textures import COATS, EARTHS, SKINS, Palette, cosine, picked, sine, upwards

DARK, PALE = ((24, 20, 18),), ((240, 236, 226),)


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def coat(rng: np.random.Generator) -> tuple[Palette, Palette, str]:
    """Colors for the body, other ones for what stands out, and a skin."""
    return picked(rng, COATS), picked(rng, COATS), SKINS[int(rng.integers(len(SKINS)))]


def beetle(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    wide, long = between(rng, 0.5, 0.68), between(rng, 0.66, 0.82)
    legs: list[Part] = []
    for side in (-1, 1):
        for y, reach, back in ((-0.25, 0.95, -0.35), (0.05, 1.02, 0.1), (0.35, 0.95, 0.55)):
            knee = (side * reach * 0.72, y + back * 0.35 - 0.06)
            legs.append(Part(strip([(side * wide * 0.7, y), knee, (side * reach, y + back * 0.9)], 0.055, 0.028), DARK))
    feelers = [
        Part(strip([(s * 0.1, -0.85), (s * 0.22, -1.05), (s * between(rng, 0.35, 0.5), -1.2)], 0.026, 0.018), DARK)
        for s in (-1, 1)
    ]
    head = Part(oval(0, -0.78, wide * 0.42, 0.2), DARK, gloss=0.5)
    neck = Part(
        smooth([(-wide * 0.75, -0.38), (-wide * 0.62, -0.72), (wide * 0.62, -0.72), (wide * 0.75, -0.38)]),
        second[:2] if rng.random() < 0.5 else colors[:2],
        "plain",
        2.0,
        gloss=0.5,
    )
    shell = Part(
        smooth(
            [(0, -0.5), (-wide * 0.85, -0.46), (-wide * 1.1, 0.1), (-wide * 0.75, long * 0.9), (-0.02, long * 1.12)]
        ),
        colors,
        skin,
        between(rng, 1.2, 2.4),
        between(rng, -0.06, 0.06),
        1.2,
        0.6,
        0.45,
    )
    seam = Part(strip([(0, -0.46), (0, long)], 0.016, 0.012, 0), DARK, bulge=0)
    return [*legs, *feelers, head, neck, shell, mirrored(shell), seam]


def butterfly(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    span, drop = between(rng, 0.88, 1.12), between(rng, 0.55, 0.8)
    upper = [(0.04, -0.25), (0.35, -0.85), (0.95 * span, -0.95), (1.05 * span, -0.6), (0.85 * span, -0.1), (0.3, 0.08)]
    lower = [(0.04, 0.0), (0.6, -0.05), (0.85 * span, 0.25), (0.65, drop + 0.12), (0.32, drop + 0.02), (0.08, 0.3)]
    scale, turn = between(rng, 1.2, 2.2), between(rng, -0.1, 0.1)
    wings: list[Part] = []
    for line, middle in ((lower, (0.42, 0.26)), (upper, (0.55, -0.46))):
        edge = smooth(line)
        inner = (edge - middle) * between(rng, 0.72, 0.84) + middle
        wings.append(Part(edge, second[:2], "plain", 2.0, bulge=0.5, gloss=0.05, rim=0.5))
        wings.append(Part(inner, colors, skin, scale, turn, 0.5, 0.05, 0.25))
        for _ in range(int(rng.integers(1, 4))):  # eyes and dots along the edge
            x, y = middle[0] * between(rng, 0.9, 1.45), middle[1] * between(rng, 0.8, 1.3)
            radius = between(rng, 0.05, 0.11)
            wings.append(Part(oval(x, y, radius, radius, corners=20), second[2:], bulge=0.3, gloss=0))
            wings.append(Part(oval(x, y, radius * 0.5, radius * 0.5, corners=14), DARK, bulge=0.3, gloss=0))
    both = [one for wing in wings for one in (wing, mirrored(wing))]
    body = [
        Part(oval(0, 0.12, 0.075, 0.42), DARK if rng.random() < 0.5 else second[:2], "fur", 3.0, gloss=0.3),
        Part(oval(0, -0.38, 0.085, 0.1), DARK, gloss=0.4),
    ]
    feelers = [
        Part(strip([(s * 0.03, -0.42), (s * 0.1, -0.75), (s * between(rng, 0.2, 0.4), -0.98)], 0.016, 0.026), DARK)
        for s in (-1, 1)
    ]
    return [*feelers, *both, *body]


def fish(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    high, tail = between(rng, 0.36, 0.58), between(rng, 0.3, 0.5)
    fins = [
        Part(
            smooth([(-0.5, 0), (-0.98, -tail), (-1.1, -tail * 0.9), (-0.85, 0.02), (-1.1, tail), (-0.95, tail)]),
            second,
            "stripes",
            2.2,
            0.25,
            0.4,
            0.1,
        ),
        Part(
            smooth([(-0.35, -high * 0.6), (-0.25, -high - between(rng, 0.2, 0.42)), (0.3, -high - 0.12), (0.4, -0.2)]),
            second,
            "stripes",
            2.2,
            0.05,
            0.4,
            0.1,
        ),
        Part(
            smooth([(-0.1, high * 0.5), (-0.35, high + between(rng, 0.12, 0.3)), (0.1, high * 0.95)]),
            second,
            "stripes",
            2.2,
            0.05,
            0.4,
            0.1,
        ),
    ]
    body = [(1.0, 0.02), (0.72, -high * 0.6), (0.25, -high * 1.12), (-0.35, -high * 0.72), (-0.75, -0.1)]
    body += [(-0.75, 0.1), (-0.35, high * 0.72), (0.25, high * 1.1), (0.75, high * 0.6)]
    side = Part(smooth(body), colors, skin, between(rng, 1.1, 2.0), between(rng, -0.05, 0.05), 1.1, 0.4, 0.4)
    gill = Part(strip([(0.5, -high * 0.6), (0.4, 0.0), (0.5, high * 0.6)], 0.012, 0.02), DARK, bulge=0)
    flap = Part(smooth([(0.3, 0.08), (-0.08, 0.0), (-0.02, 0.28)]), second, "stripes", 2.4, 0.2, 0.5, 0.1)
    eye = [
        Part(oval(0.68, -0.12, 0.105, 0.105, corners=24), PALE, gloss=0.2),
        Part(oval(0.7, -0.12, 0.06, 0.065, corners=20), DARK, gloss=0.9),
    ]
    mouth = Part(strip([(0.97, 0.1), (0.86, 0.14), (0.8, 0.12)], 0.014, 0.01), DARK, bulge=0)
    return [*fins, side, gill, flap, *eye, mouth]


def mushroom(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    wide, high, foot = between(rng, 0.72, 0.98), between(rng, 0.6, 0.9), between(rng, 0.15, 0.27)
    lean = between(rng, -0.12, 0.12)
    stem_line = [(-foot * 0.8, 0.0), (-foot * 0.75 + lean, 0.6), (-foot * 1.3 + lean, 0.98), (foot * 1.3 + lean, 0.98)]
    stem_line += [(foot * 0.75 + lean, 0.6), (foot * 0.8, 0.0)]
    pale = ((150, 132, 112), (246, 240, 226)) if rng.random() < 0.5 else second[1:]
    stem = Part(smooth(stem_line, 2), pale, "fur", 2.0, 0.0, 1.1, 0.1, 0.35)
    ring = Part(
        smooth([(-foot * 1.3, 0.3), (0, 0.2), (foot * 1.3, 0.3), (foot * 1.1, 0.4), (0, 0.46), (-foot, 0.4)]),
        pale,
        "fur",
        2.5,
        0.0,
        0.8,
        0.1,
    )
    under = Part(oval(0, 0.0, wide * 0.93, 0.17), (second[0], second[1]), "stripes", 2.6, 0.0, 0.3, 0.0, 0.5)
    top = [(-wide, 0.06), (-wide * 0.96, -high * 0.42), (-wide * 0.45, -high), (wide * 0.45, -high)]
    top += [(wide * 0.96, -high * 0.42), (wide, 0.06), (wide * 0.5, -0.06), (-wide * 0.5, -0.06)]
    cap = Part(smooth(top), colors, skin, between(rng, 1.0, 2.0), between(rng, -0.1, 0.1), 1.2, 0.45, 0.4)
    warts: list[Part] = []
    for _ in range(int(rng.integers(0, 9))):
        x, y = wide * between(rng, -0.7, 0.7), -high * between(rng, 0.1, 0.85)
        if (x / wide) ** 2 + (y / high) ** 2 < 0.62:
            size = between(rng, 0.05, 0.12)
            warts.append(Part(oval(x, y, size, size * 0.75, corners=18), second[2:], gloss=0.1))
    return [stem, *([ring] if rng.random() < 0.5 else []), under, cap, *warts]


def snail(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    foot = [(-1.05, 0.72), (-0.75, 0.48), (0.2, 0.35), (0.55, 0.05), (0.62, -0.2), (0.86, -0.22), (0.98, 0.02)]
    foot += [(0.85, 0.45), (0.6, 0.74), (-0.4, 0.78)]
    slug = Part(smooth(foot), second, "fur" if rng.random() < 0.5 else "plain", 2.2, 0.1, 1.1, 0.35, 0.35)
    horns: list[Part] = []
    for x, tip in ((0.7, between(rng, 0.6, 0.72)), (0.84, between(rng, 0.95, 1.08))):
        horns.append(Part(strip([(x, -0.12), (x + 0.02, -0.35), (tip, -0.62)], 0.045, 0.026), second[1:2]))
        horns.append(Part(oval(tip, -0.63, 0.05, 0.05, corners=16), DARK, gloss=0.6))
    size, x, y = between(rng, 0.6, 0.72), -0.12, -0.08
    scale, turn = between(rng, 1.2, 2.2), float(rng.random())
    shell = [Part(oval(x, y, size * 1.02, size * 0.96), colors, skin, scale, turn, 1.2, 0.5, 0.45)]
    turns = 2.6
    places = upwards(60) / 59
    radius = size * (1 - places) * 0.93 + 0.03
    around = places * turns + between(rng, 0, 0.2)
    coil = np.stack([x + radius * cosine(around), y + radius * 0.95 * sine(around)], axis=1)
    shell.append(Part(strip([(float(a), float(b)) for a, b in coil], 0.045, 0.018, 0), colors[:1], bulge=0.3, gloss=0))
    return [*horns, slug, *shell]


def turtle(rng: np.random.Generator) -> list[Part]:
    colors, second, skin = coat(rng)
    wide, long = between(rng, 0.56, 0.68), between(rng, 0.66, 0.78)
    limbs: list[Part] = []
    lift = between(rng, -0.15, 0.15)
    for side in (-1, 1):
        front = [(side * 0.4, -0.35), (side * 0.75, -0.72 + lift), (side * 0.98, -0.62 + lift), (side * 0.88, -0.4)]
        back = [(side * 0.35, 0.4), (side * 0.62, 0.86 - lift), (side * 0.82, 0.82 - lift), (side * 0.72, 0.45)]
        for line in ([*front, (side * 0.5, -0.1)], [*back, (side * 0.48, 0.2)]):
            limbs.append(Part(smooth(line), second, "scales", 2.6, 0.1 * side, 0.9, 0.15))
    tail = Part(smooth([(-0.08, long * 0.85), (0.0, long + 0.36), (0.08, long * 0.85)]), second, "plain", 2.0)
    head = [
        Part(
            smooth([(-0.13, -long * 0.8), (-0.19, -1.0), (-0.1, -1.2), (0.1, -1.2), (0.19, -1.0), (0.13, -long * 0.8)]),
            second,
            "scales",
            2.6,
            0.0,
            1.0,
            0.2,
        ),
        Part(oval(-0.12, -1.06, 0.04, 0.05, corners=14), DARK, gloss=0.8),
        Part(oval(0.12, -1.06, 0.04, 0.05, corners=14), DARK, gloss=0.8),
    ]
    rim = Part(smooth(oval(0, 0, wide * 1.06, long * 1.05, corners=18), 1), colors[:2], "bands", 2.6, 0.0, 0.8, 0.3)
    shell = [Part(oval(0, 0, wide * 0.93, long * 0.93), colors, skin, between(rng, 1.1, 1.8), 0.0, 1.2, 0.45, 0.4)]
    line = colors[:1]
    rows = np.array([-0.62, -0.22, 0.2, 0.6]) * long
    for y in rows:  # the plates: a column of hexagons, and seams to the rim
        for side in (-1, 1):
            shell.append(
                Part(
                    strip([(0, y), (side * wide * 0.36, y - 0.05), (side * wide * 0.88, y * 1.15)], 0.022, 0.014, 0),
                    line,
                    bulge=0,
                    gloss=0,
                )
            )
    for side in (-1, 1):
        zig = [(side * wide * (0.3 + 0.1 * (i % 2)), (i / 6 - 0.5) * 1.62 * long) for i in range(7)]
        shell.append(Part(strip(zig, 0.018, 0.018, 0), line, bulge=0, gloss=0))
    return [*limbs, tail, *head, rim, *shell]


FORMS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "beetle": beetle,
    "butterfly": butterfly,
    "fish": fish,
    "mushroom": mushroom,
    "snail": snail,
    "turtle": turtle,
}


# ---- what lies about and belongs to no class


def pebble(rng: np.random.Generator) -> list[Part]:
    around = upwards(8) / 8
    radius = 0.55 + 0.4 * rng.random(8)
    line = np.stack([radius * cosine(around), radius * 0.8 * sine(around)], axis=1)
    name = ("stone", "pebbles", "sand")[int(rng.integers(3))]
    colors, scale = picked(rng, EARTHS[name]), between(rng, 1.0, 2.2)
    return [Part(smooth(line), colors, "stone", scale, float(rng.random()), 1.0, 0.2, 0.35)]


def twig(rng: np.random.Generator) -> list[Part]:
    colors = picked(rng, EARTHS["bark"])
    bend = between(rng, -0.3, 0.3)
    parts = [Part(strip([(-1.3, 0), (-0.3, bend), (0.4, -bend), (1.3, 0.1)], 0.07, 0.04), colors, "fur", 2.4, 0.25)]
    for x, side in ((-0.4, -1), (0.35, 1)):
        tip = (x + between(rng, 0.25, 0.5), side * between(rng, 0.35, 0.6))
        parts.append(Part(strip([(x, bend * 0.5), tip], 0.04, 0.02), colors, "fur", 2.4))
    return parts


def blade(rng: np.random.Generator) -> list[Part]:
    """A leaf of grass."""
    colors = picked(rng, EARTHS["grass"])
    bend = between(rng, -0.5, 0.5)
    line = [(0, 1.3), (bend * 0.2, 0.3), (bend, -0.6), (bend * 1.8, -1.3)]
    return [Part(strip(line, between(rng, 0.09, 0.16), 0.02), colors, "fur", 2.0, 0.0, 0.7, 0.15)]


def leaf(rng: np.random.Generator) -> list[Part]:
    colors = picked(rng, EARTHS["litter"] if rng.random() < 0.6 else EARTHS["grass"])
    wide = between(rng, 0.35, 0.6)
    line = [(0, -1.05), (-wide * 0.8, -0.4), (-wide, 0.2), (-0.1, 0.85), (0.1, 0.85), (wide, 0.2), (wide * 0.8, -0.4)]
    parts = [Part(smooth(line), colors, "plain", between(rng, 1.2, 2.2), float(rng.random()), 0.5, 0.1, 0.3)]
    parts.append(Part(strip([(0, -0.9), (0.02, 0.2), (0.0, 1.2)], 0.012, 0.03), colors[:1], bulge=0.2, gloss=0))
    for i in range(4):
        y = -0.55 + 0.32 * i
        for side in (-1, 1):
            parts.append(
                Part(
                    strip([(0, y + 0.12), (side * wide * 0.7, y - 0.1)], 0.014, 0.006, 0), colors[:1], bulge=0, gloss=0
                )
            )
    return parts


CLUTTER: tuple[Callable[[np.random.Generator], list[Part]], ...] = (pebble, twig, blade, leaf)
