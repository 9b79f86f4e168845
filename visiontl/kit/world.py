"""One small world that every task can learn from, drawn on the spot: six kinds of things on grounds, under changing
light, shade and pose, partly hidden, each with its class, box and mask. Imports no torch.

Everything is a function of the numbers it is asked with. Colors, skins, sizes, places, grounds and light are drawn from
the same lists whatever the class; what tells a class is its form with the texture that belongs to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from visiontl.kit.drawn import paintings, photos, portraits
from visiontl.kit.drawn.forms import Drawn, Light, Pose, cast, draw, drawn_light, lay, pose
from visiontl.kit.drawn.grounds import finish, ground
from visiontl.kit.drawn.kinds import CLUTTER, FORMS, between
from visiontl.kit.drawn.portraits import Portrait

SEED = 2026
PAINTINGS = tuple(paintings.PAINTINGS)  # strokes, waves, shards, dots
KINDS = tuple(FORMS)  # beetle, butterfly, fish, mushroom, snail, turtle
UPRIGHT = ("fish", "mushroom", "snail")  # seen from the side; the others from above, turned anyhow

Box = tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels; x2 and y2 are the first ones outside


@dataclass(frozen=True)
class Thing:
    """kind: one of KINDS. mask: (H, W) bool, what of it is seen. box: the bounds of the mask."""

    kind: str
    box: Box
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """A picture with its things, those behind first. image: RGB."""

    image: Image.Image
    things: tuple[Thing, ...]

    def labels(self, kinds: Sequence[str] = KINDS) -> np.ndarray:
        """(H, W) uint8: 0 for the ground, 1 + the index of its kind for each thing."""
        made = np.zeros((self.image.height, self.image.width), np.uint8)
        for thing in self.things:
            made[thing.mask] = 1 + kinds.index(thing.kind)
        return made


def scene(seed: int | Sequence[int], kinds: Sequence[str], size: tuple[int, int] = (224, 224)) -> Scene:
    """A ground with things of these kinds on it, and with stones, twigs and leaves that are nothing.

    size: (width, height) in pixels, 64 at least. A thing of which less than a third would be seen is not there: with
    several kinds fewer things may be. Raises KeyError for a kind that is not in KINDS.
    """
    rng = np.random.default_rng([SEED, *([seed] if isinstance(seed, int) else seed)])
    light = drawn_light(rng)
    picture = ground(rng, size)
    shortest = min(size)
    for _ in range(int(rng.integers(1, 5))):
        scatter(rng, picture, light, shortest * between(rng, 0.05, 0.14))
    covers: list[tuple[str, np.ndarray]] = []
    for kind, place in zip(kinds, places(rng, kinds, size), strict=True):
        drawn = draw(FORMS[kind](rng), place, light, size)
        if drawn is not None:
            cast(picture, drawn, light, shortest * between(rng, 0.02, 0.06))
            lay(picture, drawn)
            covers = hidden(covers, drawn, size)
            covers.append((kind, spread(drawn, size)))
    whole = [mask.sum() for _, mask in covers]
    for _ in range(int(rng.integers(0, 4)) // 2):  # none, one in half of the pictures
        front = scatter(rng, picture, light, shortest * between(rng, 0.1, 0.24), thin=True)
        if front is not None:
            covers = hidden(covers, front, size)
    finish(rng, picture, light)
    things = tuple(
        Thing(kind, bounds(mask), mask)
        for (kind, mask), all_of_it in zip(covers, whole, strict=True)
        if mask.sum() > 0.3 * all_of_it and mask.sum() > 40
    )
    return Scene(Image.fromarray(np.round(picture.clip(0, 255)).astype(np.uint8)), things)


def crowd(part: int, number: int, most: int = 4, size: tuple[int, int] = (256, 192)) -> Scene:
    """A scene with one to `most` things of any kinds, two of one kind among them. part: of a data set, such as a split,
    that shall not share scenes with another."""
    rng = np.random.default_rng([SEED, part, number, most])
    kinds = [KINDS[int(rng.integers(len(KINDS)))] for _ in range(1 + number % most)]
    return scene([100 + part, number], kinds, size)


def name(person: int) -> str:
    """What one of 60 creatures of `portrait` is called: Bako, Memi ... Raises ValueError beyond."""
    if not 0 <= person < 60:
        raise ValueError(f"{person} has no name; they are numbered 0 to 59")
    starts, ends = (
        ["Ba", "Du", "Fi", "Ke", "Lo", "Mi", "Na", "Po", "Ru", "Sa", "Ti", "Wo"],
        ["ko", "mi", "ra", "lu", "so"],
    )
    return starts[person % 12] + ends[(person // 12 + person) % 5]


def portrait(person: int, view: int, side: int = 160) -> Portrait:
    """One picture of one creature, (side, side) pixels, with its landmarks and the box of its head. person says who it
    is: ears, eyes, coat and markings; view: direction, mood, light and place."""
    return portraits.portrait(person, view, side)


def photo(number: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """A landscape of (width, height) pixels like a photo, RGB: sky, hills, ground, things with their shadows."""
    return photos.photo(number, size)


def painting(name: str, side: int = 256) -> Image.Image:
    """One of PAINTINGS, (side, side) pixels, RGB. Raises KeyError for another name."""
    return paintings.painting(name, side)


def places(rng: np.random.Generator, kinds: Sequence[str], size: tuple[int, int]) -> list[Pose]:
    """A pose for each thing; several things keep some distance where there is room."""
    width, height = size
    alone = len(kinds) == 1
    taken: list[tuple[float, float, float]] = []
    made: list[Pose] = []
    for kind in kinds:
        radius = min(size) * (between(rng, 0.24, 0.4) if alone else between(rng, 0.14, 0.24))
        edge = radius + 0.06 * min(size) if alone else 0.8 * radius  # a network may see the middle of a picture only
        x, y = width / 2, height / 2
        for _ in range(20):
            x = edge + (width - 2 * edge) * rng.random()
            y = edge + (height - 2 * edge) * rng.random()
            if all((x - a) ** 2 + (y - b) ** 2 > (0.95 * (radius + r)) ** 2 for a, b, r in taken):
                break
        taken.append((x, y, radius))
        turn = between(rng, -0.1, 0.1) if kind in UPRIGHT else float(rng.random())
        made.append(pose(x, y, radius, turn, between(rng, 0.88, 1.14), rng.random() < 0.5))
    return made


def scatter(
    rng: np.random.Generator, picture: np.ndarray, light: Light, radius: float, thin: bool = False
) -> Drawn | None:
    """Something that belongs to no class, anywhere in the picture. thin: something that hides little."""
    height, width = picture.shape[:2]
    make = CLUTTER[int(rng.integers(1, 3)) if thin else int(rng.integers(len(CLUTTER)))]
    place = pose(width * rng.random(), height * rng.random(), radius * (2.2 if thin else 1), float(rng.random()))
    drawn = draw(make(rng), place, light, (width, height))
    if drawn is not None:
        cast(picture, drawn, light, radius * 0.25)
        lay(picture, drawn)
    return drawn


def spread(drawn: Drawn, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: what a thing covers of a picture of (width, height)."""
    mask = np.zeros((size[1], size[0]), bool)
    mask[drawn.slices()] = drawn.cover >= 0.5
    return mask


def hidden(
    covers: Sequence[tuple[str, np.ndarray]], front: Drawn, size: tuple[int, int]
) -> list[tuple[str, np.ndarray]]:
    """What is still seen of the things behind another one."""
    before = spread(front, size)
    return [(kind, mask & ~before) for kind, mask in covers]


def bounds(mask: np.ndarray) -> Box:
    """x1 y1 x2 y2 of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
