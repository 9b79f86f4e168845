"""Where two answers differ first, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Real
from typing import Any

import numpy as np
import torch
from PIL import Image

TIMES = ("seconds", "milliseconds")  # what was measured of the machine may be another the next time


def difference(a: Any, b: Any, relative: float = 0.0, place: str = "") -> str:
    """ "" where both are equal; otherwise the first place at which they are not, with both values.

    relative: how far two numbers may be apart, as a share of the larger one of them and 1; in arrays, of the largest
    value. Whole numbers, texts and truth values must be equal; what is called `seconds` or `milliseconds` need not.
    """
    if isinstance(a, torch.Tensor):
        a = a.detach().cpu().numpy()
    if isinstance(b, torch.Tensor):
        b = b.detach().cpu().numpy()
    if isinstance(a, Image.Image) and isinstance(b, Image.Image):
        return _arrays(np.asarray(a), np.asarray(b), relative, f"{place} (picture)")
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return _arrays(a, b, relative, place)
    if is_dataclass(a) and type(a) is type(b):
        a, b = ({one.name: getattr(value, one.name) for one in fields(value)} for value in (a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        a, b = ({key: value for key, value in one.items() if key not in TIMES} for one in (a, b))
        if a.keys() != b.keys():
            return f"{place or 'keys'}: {sorted(map(str, a))} and {sorted(map(str, b))}"
        return _first(difference(a[key], b[key], relative, f"{place}[{key!r}]") for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str | bytes):
        if len(a) != len(b):
            return f"{place}: {len(a)} and {len(b)} items"
        return _first(difference(x, y, relative, f"{place}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if isinstance(a, Real) and isinstance(b, Real) and not isinstance(a, bool):
        near = abs(float(a) - float(b)) <= relative * max(1.0, abs(float(a)), abs(float(b)))
        return "" if a == b or near or (a != a and b != b) else f"{place}: {a!r} and {b!r}"
    return "" if type(a) is type(b) and a == b else f"{place}: {a!r:.60} and {b!r:.60}"


def _arrays(a: np.ndarray, b: np.ndarray, relative: float, place: str) -> str:
    if a.shape != b.shape:
        return f"{place}: shapes {a.shape} and {b.shape}"
    if a.size == 0 or np.array_equal(a, b):
        return ""
    if not np.issubdtype(a.dtype, np.floating):
        unequal = a != b
        # of a picture or a mask: a pixel at an edge may fall to either side
        return (
            "" if relative and unequal.mean() <= 0.001 else f"{place}: {int(unequal.sum())} of {a.size} values differ"
        )
    apart = float(np.nanmax(np.abs(a - b)))
    allowed = relative * max(1.0, float(np.nanmax(np.abs(a))))
    return "" if apart <= allowed else f"{place}: values that are up to {apart:.3g} apart"


def _first(found: Any) -> str:
    return next((one for one in found if one), "")
