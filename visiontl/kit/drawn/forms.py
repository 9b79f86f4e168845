"""Forms: outlines filled with a texture, shaded as if they were cushions, under one light. Imports no torch.

A form lies in coordinates of its own, about -1..1, y down; a pose brings it into a picture. Corners are rounded to
sixteenths of a pixel before they are filled, so that the last bits of a processor decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from visiontl.kit.drawn.textures import Palette, cosine, direction, ramp, sine, tile, upwards

FINE = 2  # pictures are filled at this many times their size, and averaged


@dataclass(frozen=True)
class Part:
    """outline: (N, 2) corners in the form's coordinates. colors: of the texture, dark to light, or a single one.
    skin: a texture's name; scale: of its tile (1: a tile's pixel is a 90th of a unit); turn: of the texture, in full
    turns. bulge: how round it is shaded; gloss: 0..1; rim: how dark its edge is, 0..1."""

    outline: np.ndarray
    colors: Palette
    skin: str = "plain"
    scale: float = 1.0
    turn: float = 0.0
    bulge: float = 1.0
    gloss: float = 0.15
    rim: float = 0.3


@dataclass(frozen=True)
class Pose:
    """x, y: where the middle of a form comes to, in pixels; matrix: (2, 2), the form's units to pixels."""

    x: float
    y: float
    matrix: np.ndarray

    def placed(self, points: np.ndarray) -> np.ndarray:
        """(N, 2) of the form -> pixels, rounded to sixteenths."""
        m = self.matrix
        x = self.x + m[0, 0] * points[:, 0] + m[0, 1] * points[:, 1]
        y = self.y + m[1, 0] * points[:, 0] + m[1, 1] * points[:, 1]
        return np.round(np.stack([x, y], axis=1) * 16) / 16


@dataclass(frozen=True)
class Light:
    """x, y: towards where it comes from, in the picture, of length 1; strength: how much of the light has a
    direction, 0..1; tint: of what is lit, three factors around 1; shadow: how dark a thing's shadow is, 0..1."""

    x: float
    y: float
    strength: float
    tint: tuple[float, float, float]
    shadow: float


@dataclass(frozen=True)
class Drawn:
    """A form in its place: color (h, w, 3) float 0..255 and cover (h, w) float 0..1 of the picture's part that begins
    at left, top."""

    color: np.ndarray
    cover: np.ndarray
    left: int
    top: int

    def slices(self) -> tuple[slice, slice]:
        return (
            slice(self.top, self.top + self.cover.shape[0]),
            slice(self.left, self.left + self.cover.shape[1]),
        )


def pose(x: float, y: float, size: float, turn: float, stretch: float = 1.0, flip: bool = False) -> Pose:
    """turn: in full turns, clockwise; stretch: across over down, before the turn; flip: mirrored first."""
    c, s = direction(turn)
    across = size * (-stretch if flip else stretch)
    down = size / stretch
    return Pose(x, y, np.array([[c * across, -s * down], [s * across, c * down]]))


def drawn_light(rng: np.random.Generator) -> Light:
    x, y = direction(float(rng.random()))
    warm = (rng.random() - 0.5) * 0.24
    level = 0.98 + 0.3 * rng.random()
    return Light(
        x,
        y,
        0.35 + 0.4 * rng.random(),
        (level * (1 + warm), level, level * (1 - warm)),
        0.3 + 0.3 * rng.random(),
    )


def draw(parts: Sequence[Part], place: Pose, light: Light, size: tuple[int, int]) -> Drawn | None:
    """The parts, each over those before it, in a picture of (width, height); None where they lie outside."""
    outlines = [place.placed(part.outline) for part in parts]
    corners = np.concatenate(outlines)
    left, top = (max(0, int(v)) for v in np.floor(corners.min(axis=0)) - 2)
    right, bottom = (min(side, int(v)) for side, v in zip(size, np.ceil(corners.max(axis=0)) + 2, strict=True))
    if right - left < 4 or bottom - top < 4:
        return None
    color = np.zeros((bottom - top, right - left, 3), np.float32)
    cover = np.zeros((bottom - top, right - left), np.float32)
    for part, outline in zip(parts, outlines, strict=True):
        low = np.maximum(np.floor(outline.min(axis=0)).astype(int) - 2, (left, top))
        high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + 2, (right, bottom))
        if (high - low).min() < 3:
            continue
        mask = filled(outline - low, (int(high[0] - low[0]), int(high[1] - low[1])))
        here = (slice(low[1] - top, high[1] - top), slice(low[0] - left, high[0] - left))
        paint = shaded(part, mask, place, light, (int(low[0]), int(low[1])))
        under = color[here]
        under += (paint - under) * mask[..., None]
        cover[here] = np.maximum(cover[here], mask)
    return Drawn(color, cover, left, top)


def filled(outline: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, 2) corners in pixels -> (h, w) float32 0..1, how much of each pixel lies inside."""
    picture = Image.new("L", (size[0] * FINE, size[1] * FINE), 0)
    ImageDraw.Draw(picture).polygon([float(v) for v in (outline * FINE).ravel()], fill=255)
    return np.asarray(picture.reduce(FINE), dtype=np.float32) / np.float32(255)


def shaded(part: Part, mask: np.ndarray, place: Pose, light: Light, corner: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) float32: the part's texture, lit. corner: of the mask in the picture."""
    colors = textured(part, mask.shape, place, corner) * np.array(light.tint, np.float32)
    if not part.bulge:
        return colors
    near = blurred(mask, 8)
    reach = np.float32(0.22 * part.bulge * min(mask.shape))
    height = (blurred(mask, 3) * np.float32(1.4) + near * np.float32(0.5)) * reach
    slope_x, slope_y = np.zeros_like(height), np.zeros_like(height)
    slope_x[:, 1:-1] = height[:, :-2] - height[:, 2:]
    slope_y[1:-1] = height[:-2] - height[2:]
    length = np.sqrt(slope_x * slope_x + slope_y * slope_y + np.float32(1))
    towards = (slope_x * np.float32(light.x) + slope_y * np.float32(light.y) + np.float32(0.9)) / length
    strength = np.float32(light.strength)
    towards = np.maximum(towards, 0)
    bright = (1 - strength) + strength * np.float32(1.15) * towards
    if part.rim:
        bright *= 1 - np.float32(part.rim) * (1 - near.clip(0, 1))
    colors *= bright[..., None]
    if part.gloss:
        shine = towards / np.float32(1.35)
        for _ in range(4):  # the 16th power
            shine *= shine
        colors += (np.float32(part.gloss * 200) * shine * strength)[..., None]
    return colors


def textured(part: Part, shape: tuple[int, ...], place: Pose, corner: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) uint8: the texture as it lies on the form; (1, 1, 3) for a single color without a shape."""
    if len(part.colors) == 1:
        flat = np.array(part.colors[0], np.uint8)[None, None]
        return flat if not part.bulge else np.broadcast_to(flat, (*shape, 3))
    m = place.matrix
    det = m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]
    unit = 90 * part.scale / det
    across = m[1, 1] * unit, -m[1, 0] * unit  # the texture's pixels to one of the picture, to the right
    down = -m[0, 1] * unit, m[0, 0] * unit
    c, s = direction(part.turn)
    a, b = c * across[0] - s * across[1], c * down[0] - s * down[1]
    d, e = s * across[0] + c * across[1], s * down[0] + c * down[1]
    dx, dy = corner[0] - place.x, corner[1] - place.y
    data = (a, b, 512 + a * dx + b * dy, d, e, 512 + d * dx + e * dy)
    values = tile(part.skin).transform((shape[1], shape[0]), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return ramp(part.colors)[np.asarray(values)]


def blurred(values: np.ndarray, parts: int) -> np.ndarray:
    """(h, w) float32, as smooth as a picture with `parts` pixels on its shorter side."""
    height, width = values.shape
    step = max(2, min(height, width) // parts)
    small = max(2, -(-width // step)), max(2, -(-height // step))
    picture = Image.fromarray(values).resize(small, Image.Resampling.BOX)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def cast(picture: np.ndarray, thing: Drawn, light: Light, reach: float) -> None:
    """Darkens the picture (H, W, 3) float32 where the thing's shadow falls; reach: how far, in pixels."""
    height, width = picture.shape[:2]
    dx, dy = round(-light.x * reach), round(-light.y * reach)
    pad = max(3, round(reach * 0.6))
    soft = np.pad(thing.cover, pad)
    step = max(2, pad)
    small = Image.fromarray(soft).resize(
        (max(2, soft.shape[1] // step), max(2, soft.shape[0] // step)), Image.Resampling.BOX
    )
    soft = np.asarray(small.resize((soft.shape[1], soft.shape[0]), Image.Resampling.BICUBIC)).clip(0, 1)
    left, top = thing.left + dx - pad, thing.top + dy - pad
    rows = slice(max(0, top), min(height, top + soft.shape[0]))
    columns = slice(max(0, left), min(width, left + soft.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = soft[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    picture[rows, columns] *= (1 - np.float32(light.shadow) * part)[..., None]


def lay(picture: np.ndarray, thing: Drawn) -> None:
    """Puts a thing into the picture (H, W, 3) float32."""
    under = picture[thing.slices()]
    under += (thing.color - under) * thing.cover[..., None]


# ---- outlines


def smooth(points: Sequence[tuple[float, float]] | np.ndarray, rounds: int = 3) -> np.ndarray:
    """A closed line with its corners cut (Chaikin 1974)."""
    line = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        after = np.roll(line, -1, axis=0)
        line = np.stack([0.75 * line + 0.25 * after, 0.25 * line + 0.75 * after], axis=1).reshape(-1, 2)
    return line


def oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0, corners: int = 36) -> np.ndarray:
    around = upwards(corners) / corners
    c, s = direction(turn)
    u, v = rx * cosine(around), ry * sine(around)
    return np.stack([x + c * u - s * v, y + s * u + c * v], axis=1)


def strip(points: Sequence[tuple[float, float]], start: float, end: float, rounds: int = 2) -> np.ndarray:
    """A line with a thickness: half of it at the start and at the end."""
    line = np.asarray(points, dtype=np.float64)
    for _ in range(rounds):
        cut = np.stack([0.75 * line[:-1] + 0.25 * line[1:], 0.25 * line[:-1] + 0.75 * line[1:]], axis=1)
        line = np.concatenate([line[:1], cut.reshape(-1, 2), line[-1:]])
    along = np.empty_like(line)
    along[1:-1], along[0], along[-1] = line[2:] - line[:-2], line[1] - line[0], line[-1] - line[-2]
    along /= np.sqrt(along[:, :1] ** 2 + along[:, 1:] ** 2) + 1e-9
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    width = (start + (end - start) * np.arange(len(line)) / (len(line) - 1))[:, None]
    return np.concatenate([line + across * width, (line - across * width)[::-1]])


def mirrored(part: Part) -> Part:
    return replace(part, outline=part.outline * (-1.0, 1.0))
