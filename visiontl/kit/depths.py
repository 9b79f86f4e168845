"""Pictures of more than 8 bits a value: which of their values become black and which white. Imports no torch.

One rule, for each picture by itself, whatever the others are (`data.depth`):

    auto         none below 0, and real numbers up to 1: 0 to 1; else by the fewest of 8, 10, 12, 14 and 16 bits that
                 hold the highest value; values below 0 or beyond 65,535: the picture's own lowest to highest
    8 to 16      so many bits: 0 becomes black, 2^bits - 1 white
    range        the picture's own lowest value becomes black, its highest white
    [low, high]  these become black and white

What lies beyond becomes black or white. Pictures of 8 bits a value are read as they are.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from visiontl.kit.strips import strips
from visiontl.kit.words import count

Depth = str | int | tuple[float, float]

BITS = (8, 10, 12, 14, 16)  # what cameras, scanners and microscopes give
STRIP = 1 << 20  # values that are floats at one time
FLOATS = 2  # share of a strip that is floats at one time
LITTLE = 0.01  # share of black to white, below which a picture shows next to nothing
OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}  # the byte order that swaps both bytes

_depth: ContextVar[Depth] = ContextVar("depth", default="auto")


@contextmanager
def reading(depth: Depth) -> Generator[None]:
    """Within the block pictures are read by this value of `data.depth`."""
    token = _depth.set(depth)
    try:
        yield
    finally:
        _depth.reset(token)


def current() -> Depth:
    """The value of `data.depth` by which pictures are read here."""
    return _depth.get()


@dataclass(frozen=True, slots=True)
class Levels:
    """How a picture of more than 8 bits was read. low, high: of its values; black, white: what became 0 and 255."""

    low: float
    high: float
    black: float
    white: float
    own: bool  # black and white are this picture's own

    @property
    def used(self) -> float:
        """Share of black to white that the picture takes, 0..1."""
        low, high = (min(max(value, self.black), self.white) for value in (self.low, self.high))
        return (high - low) / (self.white - self.black) if self.white > self.black else 0.0

    def __str__(self) -> str:
        return "its own range" if self.own else f"{self.black:g} to {self.white:g}"


def levels(low: float, high: float, real: bool, depth: Depth) -> Levels:
    """low, high: of a picture's values. real: they are floating-point numbers."""
    if isinstance(depth, tuple):
        return Levels(low, high, *depth, own=False)
    if isinstance(depth, int):
        return Levels(low, high, 0, 2**depth - 1, own=False)
    if depth == "auto" and low >= 0:
        if real and high <= 1:
            return Levels(low, high, 0, 1, own=False)
        bits = next((bits for bits in BITS if high < 2**bits), None)
        if bits is not None:
            return Levels(low, high, 0, 2**bits - 1, own=False)
    return Levels(low, high, low, high, own=True)


def in_8_bits(values: np.ndarray, real: bool) -> tuple[np.ndarray, Levels]:
    """(H, W) or (H, W, C) of any range -> uint8 of that shape, and how. Raises ValueError for what is not finite."""
    found = _levels((values[rows] for rows in slices(values)), real)
    made = np.empty(values.shape, dtype=np.uint8)
    for rows in slices(values):
        made[rows] = _scaled(values[rows], found)
    return made, found


def slices(values: np.ndarray) -> Iterator[slice]:
    """Slices of rows: of a picture of 89 million pixels the floats of a few rows at a time, not 3 GB of them."""
    rows = max(1, STRIP // max(1, values[:1].size))
    return (slice(top, top + rows) for top in range(0, len(values), rows))


def _levels(parts: Iterable[np.ndarray], real: bool) -> Levels:
    """Of a picture that comes in parts. Raises ValueError for what is not finite."""
    low, high = math.inf, -math.inf
    for part in parts:
        if real and not np.isfinite(part).all():
            raise ValueError("pixel values that are not finite")
        if part.size:
            low, high = min(low, float(part.min())), max(high, float(part.max()))
    found = levels(low, high, real, _depth.get()) if low <= high else levels(0.0, 0.0, real, _depth.get())
    if not np.isfinite(found.white - found.black):  # beyond what floats can tell apart
        raise ValueError("pixel values too large to be told apart")
    return found


def _scaled(values: np.ndarray, found: Levels) -> np.ndarray:
    """-> uint8 of that shape."""
    span = found.white - found.black
    scaled = (values.astype(np.float64) - found.black) * (255 / span if span > 0 else 0)
    return scaled.clip(0, 255).round().astype(np.uint8)


def gray(image: Image.Image) -> tuple[Image.Image, Levels]:
    """A loaded image of one of Pillow's modes I, I;16 and F -> L."""
    found = _levels((np.asarray(part) for _, part in strips(image, FLOATS)), image.mode == "F")
    made = Image.new("L", image.size)
    for top, part in strips(image, FLOATS):
        made.paste(Image.fromarray(_scaled(np.asarray(part), found)), (0, top))
    return made, found


def raw_mode(image: Image.Image) -> str | None:
    """How an opened image that is not loaded lies in its file, where it is in color (or gray with transparency) of 16
    bits a value, such as RGB;16B: Pillow keeps the upper 8 of them. None for others."""
    tiles: list[Any] = getattr(image, "tile", [])
    if image.mode not in ("RGB", "RGBA") or not tiles:
        return None
    modes = {_raw_mode(tile) for tile in tiles}
    mode = modes.pop()
    known = mode in ("LA;16B", *(f"{kind};16{order}" for kind in ("RGB", "RGBA") for order in OTHER))
    return mode if known and not modes else None


def color(upper: Image.Image, again: Any, mode: str) -> tuple[Image.Image, Levels]:
    """An image of 16 bits a value in color, loaded as Pillow does, and the same opened again -> by `data.depth`.

    Where that is 16 bits, it is `upper` as it is.
    """
    highest = max(int(np.asarray(part)[..., :3].max(initial=0)) for _, part in strips(upper))  # of the upper 8 bits
    if _upper_serves(highest):
        return upper, Levels(0, highest * 257, 0, 65535, own=False)
    one = mode == "LA;16B"  # both bytes of both values fit into four of 8 bits; else read the lower bytes in place of
    swapped = "RGBA" if one else mode[:-1] + OTHER[mode[-1]]  # the upper ones
    again.tile = [_with_raw_mode(tile, swapped) for tile in again.tile]
    again.load()
    found = _levels((part for _, part in _wide(upper, again, one)), real=False)
    image = Image.new("RGB", upper.size)
    for top, part in _wide(upper, again, one):
        scaled = _scaled(part, found)
        image.paste(Image.fromarray(scaled[..., 0] if one else scaled).convert("RGB"), (0, top))
    if upper.mode == "RGBA" or "transparency" in upper.info:
        image.putalpha(upper.convert("RGBA").getchannel("A"))
    return image, found


def _wide(upper: Image.Image, again: Image.Image, one: bool) -> Iterator[tuple[int, np.ndarray]]:
    """(top, (h, W, 3 or 1) uint16) of strips. one: both bytes of a single value are the first two bands of `again`."""
    for (top, first), (_, second) in zip(strips(upper, FLOATS), strips(again, FLOATS), strict=True):
        lower = np.asarray(second)  # (h, W, C) uint8
        high, low = (lower[..., :1], lower[..., 1:2]) if one else (np.asarray(first)[..., :3], lower[..., :3])
        yield top, high.astype(np.uint16) << 8 | low


def color_in_8_bits(values: np.ndarray) -> tuple[np.ndarray, Levels]:
    """(H, W, 3) uint16 in memory -> uint8, and how: as `color` reads a file that holds these values."""
    highest = int(values.max(initial=0)) >> 8
    if _upper_serves(highest):
        return (values >> 8).astype(np.uint8), Levels(0, highest * 257, 0, 65535, own=False)
    return in_8_bits(values, real=False)


def _upper_serves(highest: int) -> bool:
    """Whether the upper 8 of 16 bits are the picture. highest: of them, in the whole picture."""
    depth = _depth.get()
    return depth == 16 or (depth == "auto" and highest >= 1 << BITS[-2] - 8)


def _raw_mode(tile: Any) -> str:
    args = tile[3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _with_raw_mode(tile: Any, mode: str) -> Any:
    args = tile[3]
    return type(tile)(*tile[:3], mode if isinstance(args, str) else (mode, *args[1:]))


def doubts(found: Sequence[Levels], depth: Depth = "auto") -> list[str]:
    """What is to be said of how pictures of more than 8 bits were read by `depth`, in sentences: next to nothing of the
    range is used, or equal values of two pictures became unequal grays although nobody asked for that."""
    said: list[str] = []
    little = [one for one in found if one.used < LITTLE and one.low < one.high]
    if little:
        low, high = min(one.low for one in little), max(one.high for one in little)
        said.append(
            f"{count(len(little), 'picture')} of more than 8 bits {'uses' if len(little) == 1 else 'use'} less than 1 "
            f"% of the range that they are read by (values {low:g} to {high:g}, read by {_kinds(little)}): next to "
            f"nothing is to be seen; data.depth={_covering(little)} would show it"
        )
    if depth == "auto" and len({(one.black, one.white) for one in found}) > 1:
        said.append(
            f"{count(len(found), 'picture')} of more than 8 bits are read by unequal ranges ({_kinds(found)}): equal "
            f"values become unequal grays; data.depth={_covering(found)} reads all alike"
        )
    return said


def _kinds(found: Sequence[Levels]) -> str:
    kinds = Counter(str(one) for one in found)
    if len(kinds) == 1:
        return next(iter(kinds))
    return ", ".join(f"{number:,} by {kind}" for kind, number in kinds.most_common(4))


def _covering(found: Sequence[Levels]) -> str:
    """A value of `data.depth` that holds all values of these pictures."""
    low, high = min(one.low for one in found), max(one.high for one in found)
    bits = next((bits for bits in BITS if high < 2**bits), None)
    if low >= 0 and high > 1 and bits is not None:
        return str(bits)
    return f"[{low:g},{high:g}]"
