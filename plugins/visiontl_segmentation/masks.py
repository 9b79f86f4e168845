"""From a mask's file to class indices, and what its pixels mean."""

from __future__ import annotations

import stat
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from visiontl import DataError
from visiontl.kit.images import FORMATS, MAX_PIXELS
from visiontl.kit.words import count, some

IGNORED = 255  # of a pixel that is neither learned nor scored, in masks of class indices
UNKNOWN = 254  # of a value that means nothing; never leaves this module
MOST_CLASSES = 254  # indices 0 to 253

Kind = Literal["index", "color", "binary"]


@dataclass(frozen=True)
class Meaning:
    """What the values of a data set's masks stand for.

    kind: index, color or binary. table: (256,) uint8, value -> class index, IGNORED or UNKNOWN. colors: (N,) codes
    r << 16 | g << 8 | b in rising order, and indices: (N,) uint8, what each stands for; of color masks only.
    expected: in words, for errors.
    """

    kind: Kind
    table: np.ndarray = field(repr=False)
    colors: np.ndarray = field(repr=False)
    indices: np.ndarray = field(repr=False)
    expected: str

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """(H, W) values, or (H, W, 3) colors, uint8 -> (H, W) uint8 of class indices, IGNORED or UNKNOWN."""
        return self.lookup(color_codes(raw) if self.kind == "color" else raw)

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Values, or colors as codes, of any shape -> class indices, IGNORED or UNKNOWN."""
        if self.kind != "color":
            return self.table[codes]
        place = np.searchsorted(self.colors, codes).clip(max=len(self.colors) - 1)
        return np.where(self.colors[place] == codes, self.indices[place], np.uint8(UNKNOWN))


def color_codes(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, r << 16 | g << 8 | b."""
    wide = pixels.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def value_table(known: Mapping[int, int]) -> np.ndarray:
    """{value: class index or IGNORED} -> (256,) uint8."""
    table = np.full(256, UNKNOWN, dtype=np.uint8)
    for value, index in known.items():
        table[value] = index
    return table


def meaning_of_values(kind: Kind, known: Mapping[int, int]) -> Meaning:
    numbers = np.zeros(0, dtype=np.int32)
    return Meaning(kind, value_table(known), numbers, numbers.astype(np.uint8), f"one of {ranges(known)}")


def meaning_of_colors(known: Mapping[tuple[int, int, int], int]) -> Meaning:
    """{(r, g, b): class index or IGNORED} -> Meaning."""
    codes = {(r << 16) | (g << 8) | b: index for (r, g, b), index in known.items()}
    order = sorted(codes)
    return Meaning(
        "color",
        value_table({}),
        np.array(order, dtype=np.int32),
        np.array([codes[code] for code in order], dtype=np.uint8),
        f"one of the {len(order)} colors of the table",
    )


def ranges(values: Any) -> str:
    """{0, 1, 2, 3, 255} -> "0 to 3, 255"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in runs)


def read_raw(path: Path, kind: Literal["index", "color", "binary"]) -> np.ndarray:
    """A mask's file -> (H, W) uint8 values, or (H, W, 3) uint8 for color. Raises DataError naming the file.

    A palette image gives its indices for index masks. EXIF is not applied: a mask has the size of the upright photo.
    """
    image = open_mask(path)
    if kind == "color":
        return np.asarray(image.convert("RGB"))
    if image.mode in ("L", "P", "1"):
        return np.asarray(image.convert("L") if image.mode == "1" else image)
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[2] >= 3:  # gray, saved as RGB by many tools
        if (values[..., 1:3] != values[..., :1]).any():
            raise DataError(
                f"{path}: holds colors ({image.mode}), not class indices; for color-coded masks give "
                "task.data.values=color and a table of colors"
            )
        return values[..., 0]
    if values.ndim == 3:  # LA
        return values[..., 0]
    low, high = values.min(initial=0), values.max(initial=0)
    if not np.isfinite(values).all() or low < 0 or high > 255 or (values != np.floor(values)).any():
        raise DataError(
            f"{path}: values from {low:g} to {high:g} ({image.mode}); class indices are whole numbers from 0 to 255"
        )
    return values.astype(np.uint8)


def open_mask(path: Path) -> Image.Image:
    """A loaded image in its own mode. Raises DataError naming the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, not a mask")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{path}: more than {MAX_PIXELS:,} pixels; cut it into parts first")
        image.load()
        return image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read (no permission)") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture that Pillow can read") from None
    except Exception as error:  # Pillow's decoders raise many kinds; each means the same to the user
        raise DataError(f"{path}: damaged mask ({getattr(error, 'strerror', None) or error})") from None


def indices_of(path: Path, raw: np.ndarray, meaning: Meaning) -> np.ndarray:
    """Values or colors of a file -> (H, W) class indices and IGNORED. Raises DataError naming file and values."""
    indices = meaning.apply(raw)
    unknown = indices == UNKNOWN
    if unknown.any():
        raise DataError(f"{path}: {strangers(raw, unknown, meaning)}")
    return indices


def strangers(raw: np.ndarray, unknown: np.ndarray, meaning: Meaning) -> str:
    """Which values of a mask mean nothing, and on how many pixels."""
    if meaning.kind == "color":
        codes, pixels = np.unique(color_codes(raw)[unknown], return_counts=True)
        names: Sequence[str] = [f"[{c >> 16}, {c >> 8 & 255}, {c & 255}]" for c in codes[np.argsort(-pixels)].tolist()]
        what = "color"
    else:
        values, pixels = np.unique(raw[unknown], return_counts=True)
        names, what = [str(value) for value in values.tolist()], "value"
    said = f"{count(len(names), what)} on {count(int(unknown.sum()), 'pixel')} that mean nothing: {some(names)}"
    hint = ""
    if looks_lossy(len(names)):
        hint = "; so many come from blurred or JPEG-compressed masks: save masks without loss, as PNG"
    elif meaning.kind == "index":
        hint = "; name more classes, or let task.data.ignore_index leave them out"
    return f"{said}; expected {meaning.expected}{hint}"


def looks_lossy(values: int) -> bool:
    """Whether so many stray values look like a mask that was compressed or resampled."""
    return values > 16
