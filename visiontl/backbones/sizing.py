"""Which image sizes a body takes, and its strides: found by running it on the meta device, not declared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from visiontl.errors import BackboneError

Shapes = tuple[list[tuple[int, int, int]], int]  # [(C, h, w) of each map], width of pooled
Run = Callable[[int, int], Shapes]  # (H, W) -> shapes; raises for a size that does not work


@dataclass(frozen=True)
class Geometry:
    """channels, strides: per pyramid level. embed_dim: width of pooled. pad_to, sizing: as in ImageSpec."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    embed_dim: int
    pad_to: int
    sizing: str


def nominal_strides(
    size: tuple[int, int], shapes: Sequence[tuple[int, int, int]], declared: Sequence[int] | None = None
) -> tuple[int, ...]:
    """What the library declares (else the nearest power of two) where the map is that large, give or take the
    rounding; else H / h where that is whole: patches of 14 pixels, or a declaration that is wrong."""
    strides = []
    for level, (_, height, _) in enumerate(shapes):
        nominal = nearest_power(size[0] / height) if declared is None else int(declared[level])
        if abs(size[0] / nominal - height) >= 1 and size[0] % height == 0:
            nominal = size[0] // height
        strides.append(nominal)
    return tuple(strides)


def nearest_power(ratio: float) -> int:
    """The power of two nearest to the ratio in log space. ceil() would mislabel unpadded nets."""
    return 2 ** max(round(math.log2(ratio)), 0)


def same_geometry(size: tuple[int, int], shapes: Shapes, geometry: Geometry, at: tuple[int, int], base: Shapes) -> bool:
    """True if the maps at `size` lie on the same grid as those at `at`: each side within one cell of size / stride,
    counted from where it lay at `at` (nets without padding lose a constant number of pixels)."""
    if shapes[1] != base[1] or len(shapes[0]) != len(base[0]):
        return False
    for (c, h, w), (c0, h0, w0), stride in zip(shapes[0], base[0], geometry.strides, strict=True):
        shift_h = (h - size[0] / stride) - (h0 - at[0] / stride)
        shift_w = (w - size[1] / stride) - (w0 - at[1] / stride)
        if c != c0 or abs(shift_h) > 1 or abs(shift_w) > 1:
            return False
    return True


def measure(run: Run, size: tuple[int, int], declared: Sequence[int] | None = None) -> Geometry:
    """The geometry of a body whose own image size is `size`, with its sizing found by trying other sizes."""
    base = run(*size)
    maps, width = base
    strides = nominal_strides(size, maps, declared)
    fixed = Geometry(tuple(c for c, _, _ in maps), strides, width, 1, "fixed")
    step = max(strides)

    def works(height: int, width: int) -> bool:
        try:
            return same_geometry((height, width), run(height, width), fixed, size, base)
        except Exception:  # whatever the library raises at a size that it cannot take
            return False

    height, width = (-(-side // step) * step for side in size)
    if works(height + 2 * step + 1, width + 3 * step + 3):
        return _with(fixed, 1, "any")
    for pad in (step, 2 * step, 4 * step, 7 * step, 8 * step):
        up = [-(-side // pad) * pad for side in size]
        if works(up[0] + 2 * pad, up[1] + 3 * pad):
            return _with(fixed, pad, "multiple")
    return fixed


def takes(geometry: Geometry, size: tuple[int, int]) -> bool:
    """True if a body of this geometry takes images of `size`, whatever it was made for."""
    if geometry.sizing == "multiple":
        return all(side % geometry.pad_to == 0 for side in size)
    return geometry.sizing == "any"


def check_size(name: str, size: tuple[int, int], native: tuple[int, int], geometry: Geometry, reason: str = "") -> None:
    """Raise BackboneError, in words, for a size that a body made for `native` cannot take.

    reason: why it cannot be made for that size either.
    """
    if takes(geometry, size) or tuple(size) == tuple(native):
        return
    asked = f"{size[0]} x {size[1]} was asked for" + (f", which it cannot be made for ({reason})" if reason else "")
    if geometry.sizing == "fixed":
        raise BackboneError(
            f"{name} takes images of {native[0]} x {native[1]} pixels only; {asked}; leave backbone.image_size out, "
            "or choose a backbone of another size"
        )
    near = tuple(max(round(side / geometry.pad_to), 1) * geometry.pad_to for side in size)
    raise BackboneError(
        f"{name} takes images whose height and width are multiples of {geometry.pad_to} pixels; {asked}; the nearest "
        f"is {near[0]} x {near[1]}"
    )


def _with(geometry: Geometry, pad_to: int, sizing: str) -> Geometry:
    return Geometry(geometry.channels, geometry.strides, geometry.embed_dim, pad_to, sizing)
