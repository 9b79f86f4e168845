"""What a file says of how weights want their images, checked before anything is prepared by it. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, cast

from visiontl.spec import ImageSpec

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
SIZINGS = ("any", "multiple", "fixed")
SIDES = 1, 16384  # pixels
CHANNELS = 64
DEVIATIONS = 1e-6, 1e6  # beyond them prepared pixels leave what 32 bits can compute with


def sound(spec: ImageSpec) -> ImageSpec:
    """The specification as it is. Raises ValueError, saying which value is none and what was expected: of another kind,
    not finite, or such that every prepared pixel would be NaN or the picture be empty."""
    _require(_whole(spec.size, SIDES) and len(spec.size) == 2, "size", spec.size, "two numbers of pixels, 1 to 16,384")
    mean = _numbers(spec.mean) and 0 < len(spec.mean) <= CHANNELS and _within(map(abs, spec.mean), (0, DEVIATIONS[1]))
    _require(mean, "mean", spec.mean, "a finite number a channel, of at most 1e6")
    _require(
        _numbers(spec.std) and len(spec.std) == len(spec.mean) and _within(spec.std, DEVIATIONS),
        "std",
        spec.std,
        f"a number above 0 for each of {len(spec.mean)} channels, from 1e-6 to 1e6",
    )
    interpolation = spec.interpolation
    _require(interpolation in INTERPOLATIONS, "interpolation", interpolation, f"one of {', '.join(INTERPOLATIONS)}")
    _require(_numbers((spec.crop,)) and 0 < spec.crop <= 1, "crop", spec.crop, "a share above 0, up to 1")
    low_high = spec.value_range
    increasing = _numbers(low_high) and len(low_high) == 2 and low_high[0] < low_high[1]
    _require(increasing, "value_range", low_high, "a lower and a higher number")
    _require(_whole((spec.pad_to,), SIDES), "pad_to", spec.pad_to, "a number of pixels, 1 to 16,384")
    _require(spec.sizing in SIZINGS, "sizing", spec.sizing, f"one of {', '.join(SIZINGS)}")
    return spec


def _require(right: bool, key: str, value: Any, expected: str) -> None:
    if not right:
        shown: Any = list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value
        raise ValueError(f"{key} is {shown!r:.80}; expected {expected}")


def _numbers(values: Any) -> bool:
    """Whether it is a tuple of finite numbers; true and false are none, nor is what no float can hold."""
    if not isinstance(values, tuple):
        return False
    found = cast(tuple[Any, ...], values)
    return all(abs(one) < 1 << 53 if type(one) is int else type(one) is float and math.isfinite(one) for one in found)


def _within(values: Iterable[float], bounds: tuple[float, float]) -> bool:
    return all(bounds[0] <= one <= bounds[1] for one in values)


def _whole(values: Any, bounds: tuple[int, int]) -> bool:
    found = cast(tuple[Any, ...], values)
    return isinstance(values, tuple) and all(type(one) is int and bounds[0] <= one <= bounds[1] for one in found)
