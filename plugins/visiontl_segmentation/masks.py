"""From a mask's file to class indices, and what its pixels mean."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from visiontl import DataError
from visiontl.kit.depths import slices
from visiontl.kit.headers import possible_sizes
from visiontl.kit.images import FORMATS, MAX_PIXELS, without_warnings
from visiontl.kit.strips import strips
from visiontl.kit.words import count, some

IGNORED = 255  # of a pixel that is neither learned nor scored, in masks of class indices
UNKNOWN = 254  # of a value that means nothing; never leaves this module
MOST_CLASSES = 254  # indices 0 to 253

Kind = Literal["index", "color", "binary", "levels"]
Channel = Literal["values", "gray", "color", "alpha"]  # gray: a palette's colors, which are all gray, as values
LOSSY = ("JPEG", "MPO")
LARGE = 1 << 22  # pixels from which a mask's header is compared with its photo's before it is read
TINT = 16  # between the channels of a gray pixel that was compressed with loss


@dataclass(frozen=True)
class Meaning:
    """What the values of a data set's masks stand for.

    kind: index: class numbers; color: colors of a table; binary, levels: so many values, whatever they are. channel:
    which part of a picture is read. table: (256,) or (65536,) uint8, value -> class index, IGNORED or UNKNOWN. colors:
    (N,) codes r << 16 | g << 8 | b in rising order, and indices: (N,) uint8, what each stands for; of color masks only.
    exact: the values (or codes) that stand for something by themselves; others of the table are nearest to one of them.
    near: whether a color that is not in the table counts as the nearest one. expected: in words, for errors.
    """

    kind: Kind
    channel: Channel
    table: np.ndarray = field(repr=False)
    colors: np.ndarray = field(repr=False)
    indices: np.ndarray = field(repr=False)
    exact: np.ndarray = field(repr=False)
    near: bool
    expected: str

    def apply(self, raw: np.ndarray) -> np.ndarray:
        """(H, W) values, or (H, W, 3) colors -> (H, W) uint8 of class indices, IGNORED or UNKNOWN."""
        made = np.empty(raw.shape[:2], dtype=np.uint8)
        for rows in slices(raw):
            made[rows] = self.lookup(color_codes(raw[rows]) if self.channel == "color" else raw[rows])
        return made

    def lookup(self, codes: np.ndarray) -> np.ndarray:
        """Values, or colors as codes, of any shape -> class indices, IGNORED or UNKNOWN."""
        if self.channel != "color":
            return self.table[codes]
        place = np.searchsorted(self.colors, codes).clip(max=len(self.colors) - 1)
        found = np.where(self.colors[place] == codes, self.indices[place], np.uint8(UNKNOWN))
        if self.near and (strange := found == UNKNOWN).any():
            others, inverse = np.unique(codes[strange], return_inverse=True)
            found[strange] = self.indices[nearest_color(others, self.colors)[0]][inverse.ravel()]
        return found

    @property
    def wide(self) -> bool:
        """Whether values may lie above 255."""
        return len(self.table) > 256


def nearest_color(codes: np.ndarray, colors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) codes -> (n,) places of the nearest of `colors` (the first of equals), and how far away it is (Euclid)."""
    places, distances = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    table = parts(colors)
    for start in range(0, len(codes), 4096):
        squared = ((parts(codes[start : start + 4096])[:, None] - table) ** 2).sum(2)  # (n, N)
        places.append(squared.argmin(1))
        distances.append(np.sqrt(squared.min(1)))
    return np.concatenate(places), np.concatenate(distances)


def parts(codes: np.ndarray) -> np.ndarray:
    """(n,) codes of colors -> (n, 3) int32."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.int32)


def color_codes(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 -> (...) int32, r << 16 | g << 8 | b."""
    codes = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):
        codes <<= 8
        codes |= pixels[..., channel]
    return codes


def value_table(known: Mapping[int, int]) -> np.ndarray:
    """{value: class index or IGNORED} -> (256,) uint8, or (65536,) where a value is above 255."""
    table = np.full(256 if max(known, default=0) < 256 else 65536, UNKNOWN, dtype=np.uint8)
    for value, index in known.items():
        table[value] = index
    return table


def nearest_table(known: Mapping[int, int]) -> np.ndarray:
    """The same with every other value as the nearest of the known ones, the upper one in the middle."""
    values = np.array(sorted(known), dtype=np.int64)
    every = np.arange(256 if values[-1] < 256 else 65536)
    above = np.searchsorted(values, every).clip(max=len(values) - 1)
    below = (above - 1).clip(min=0)
    chosen = np.where(np.abs(values[above] - every) <= np.abs(every - values[below]), above, below)
    return np.array([known[int(value)] for value in values], dtype=np.uint8)[chosen]


def meaning_of_values(kind: Kind, known: Mapping[int, int], channel: Channel = "values") -> Meaning:
    numbers = np.zeros(0, dtype=np.int32)
    table = nearest_table(known) if kind in ("binary", "levels") else value_table(known)
    exact = np.array(sorted(known), dtype=np.int64)
    near = kind in ("binary", "levels")
    return Meaning(kind, channel, table, numbers, numbers.astype(np.uint8), exact, near, f"one of {ranges(known)}")


def meaning_of_colors(known: Mapping[tuple[int, int, int], int], near: bool = False) -> Meaning:
    """{(r, g, b): class index or IGNORED} -> Meaning."""
    codes = {(r << 16) | (g << 8) | b: index for (r, g, b), index in known.items()}
    order = np.array(sorted(codes), dtype=np.int32)
    indices = np.array([codes[code] for code in order.tolist()], dtype=np.uint8)
    expected = f"one of the {len(order)} colors of the table"
    return Meaning("color", "color", value_table({}), order, indices, order.astype(np.int64), near, expected)


def ranges(values: Any) -> str:
    """{0, 1, 2, 3, 255} -> "0 to 3, 255"."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low} to {high}" for low, high in runs)


def colors_in_words(codes: Sequence[int]) -> str:
    """[0x804080] -> "[128, 64, 128]"; the first three of many."""
    return some([f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]" for code in codes], 3)


def read_raw(path: Path, channel: Channel, wide: bool = False, photo: Path | None = None) -> np.ndarray:
    """A mask's file -> (H, W) uint8 values, or (H, W, 3) uint8 for color. Raises DataError naming the file.

    A palette image gives its indices as values. EXIF is not applied: a mask has the size of the upright photo.
    wide: values up to 65535 are sound, and given as uint16. photo: whose size it must have, see `open_mask`.
    """
    return raw_of(path, open_mask(path, photo), channel, wide)


def raw_of(path: Path, image: Image.Image, channel: Channel, wide: bool = False) -> np.ndarray:
    """What `read_raw` gives, of an image that is open."""
    if channel == "color":
        return np.asarray(image.convert("RGB"))
    if channel == "alpha":
        return alpha_of(image)
    if image.mode in ("L", "P", "1"):
        return np.asarray(image.convert("L") if image.mode == "1" or channel == "gray" else image)
    values = np.asarray(image)  # of PA, palette with alpha, the indices are the first channel
    if values.ndim == 3 and values.shape[2] >= 3:  # gray, saved as RGB by many tools
        gray = gray_of(path, image)
        if gray is None:
            raise DataError(
                f"{path}: holds colors ({image.mode}), not class indices; for color-coded masks give "
                "task.data.values=color and a table of colors"
            )
        return gray
    if values.ndim == 3:  # LA
        return values[..., 0]
    low, high = values.min(initial=0), values.max(initial=0)
    if (
        not np.isfinite(values).all()
        or low < 0
        or high > (65535 if wide else 255)
        or (values != np.floor(values)).any()
    ):
        broken = values[values != np.floor(values)]
        said = f" and {broken[0]:g} among them" if broken.size else ""
        raise DataError(
            f"{path}: values from {low:g} to {high:g}{said} ({image.mode}); class indices are whole numbers from 0 to "
            "255: save masks as such"
        )
    return values.astype(np.uint16 if wide else np.uint8)


def gray_of(path: Path, image: Image.Image) -> np.ndarray | None:
    """(H, W) uint8 of a picture of colors that are all gray, or nearly so where compression changed them; else None."""
    made = np.empty((image.height, image.width), dtype=np.uint8)
    lossy = is_lossy(path, image)
    for top, part in strips(image):
        pixels = np.asarray(part if part.mode in ("RGB", "RGBA") else part.convert("RGB"))[..., :3]
        made[top : top + len(pixels)] = pixels[..., 1]
        if all(np.array_equal(pixels[..., 1], pixels[..., k]) for k in (0, 2)):
            continue
        if not lossy or (pixels.max(2) - pixels.min(2)).max() > TINT:
            return None
    return made


def is_lossy(path: Path, image: Image.Image) -> bool:
    """Whether the file's format changes values: JPEG, and WebP where it is not the lossless kind."""
    if image.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8 " in file.read(64)
    return image.format in LOSSY


def has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def alpha_of(image: Image.Image) -> np.ndarray:
    """(H, W) uint8: how opaque each pixel is; 255 where the picture has no alpha."""
    if has_alpha(image):
        return np.asarray(image.convert("RGBA"))[..., 3]
    return np.full((image.height, image.width), 255, dtype=np.uint8)


def open_mask(path: Path, photo: Path | None = None) -> Image.Image:
    """A loaded image in its own mode. photo: whose size it must have, or a large one is refused before it is read.
    Raises DataError naming the file."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, not a mask")
        with without_warnings(), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(f"{path}: more than {MAX_PIXELS:,} pixels; cut it into parts first")
            if photo is not None and image.width * image.height > LARGE:
                require_size_of(photo, image, path)
            image.load()
            if image.mode in ("P", "PA") and has_alpha(image):
                image.convert("RGBA")  # raises where a pixel has a color that the palette lacks
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


def require_size_of(photo: Path, mask: Image.Image, path: Path) -> None:
    """Raises DataError where the headers of a photo and of its mask say unequal sizes."""
    possible = possible_sizes(photo)
    if possible and (mask.height, mask.width) not in possible:
        height, width = min(possible)
        raise DataError(
            f"{path}: the mask has {mask.width} x {mask.height} pixels, its photo {photo.name} {width} x {height}"
        )


def indices_of(path: Path, raw: np.ndarray, meaning: Meaning) -> np.ndarray:
    """Values or colors of a file -> (H, W) class indices and IGNORED. Raises DataError naming file and values."""
    indices = meaning.apply(raw)
    unknown = indices == UNKNOWN
    if unknown.any():
        raise DataError(f"{path}: {strangers(raw, unknown, meaning)}")
    return indices


def strangers(raw: np.ndarray, unknown: np.ndarray, meaning: Meaning) -> str:
    """Which values of a mask mean nothing, and on how many pixels."""
    if meaning.channel == "color":
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
