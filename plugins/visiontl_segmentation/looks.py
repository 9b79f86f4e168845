"""What each mask file holds, whatever it may mean: every file is read once, several at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.depths import slices
from visiontl_segmentation.masks import alpha_of, color_codes, gray_of, has_alpha, is_lossy, open_mask, raw_of

Form = Literal["", "gray", "wide", "rgb", "palette", "color"]
MOST = 20_000  # values or colors of one file that are kept; a photo may have more
NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Counted:
    """values: rising. pixels: of each. solid: of those, the pixels whose four neighbors have the same value: an area
    has many, a soft edge, a compressed one or a stray pixel none."""

    values: np.ndarray = field(default_factory=lambda: NOTHING)
    pixels: np.ndarray = field(default_factory=lambda: NOTHING)
    solid: np.ndarray = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True)
class Look:
    """One mask file. size: (H, W), None where it cannot be read as a mask at all; problem: why.

    form: gray; wide: whole numbers above 255, or in a mode that may hold such; rgb: gray saved as RGB; palette; color.
    found: its values, a palette's indices, or colors as codes r << 16 | g << 8 | b. palette: the codes of the colors of
    found.values, -1 where the palette ends before; alpha: how opaque pixels are, where that differs among them. lossy:
    saved so that values change. more: whether some of the values were left out.
    """

    size: tuple[int, int] | None
    form: Form = ""
    found: Counted = field(default_factory=Counted)
    palette: np.ndarray = field(default_factory=lambda: NOTHING)
    alpha: Counted | None = None
    lossy: bool = False
    more: bool = False
    problem: str = ""

    def colors(self) -> Counted:
        """What `found` is in colors."""
        if self.form == "color":
            return self.found
        codes = self.palette if self.form == "palette" else self.found.values * 0x010101
        return summed([Counted(codes, self.found.pixels, self.found.solid)])


def look(path: Path) -> Look:
    """Never raises for what is in the file."""
    try:
        image = open_mask(path)
        raw, form = pixels_of(path, image)
    except DataError as error:
        return Look(None, problem=str(error))
    codes = color_codes(raw) if form == "color" else raw
    found = counted(codes)
    more = len(found.values) > MOST
    if more:
        kept = np.sort(np.argsort(-found.pixels, kind="stable")[:MOST])
        found = Counted(found.values[kept], found.pixels[kept], found.solid[kept])
    alpha = counted(alpha_of(image)) if has_alpha(image) else Counted()
    palette = NOTHING
    if form == "palette":
        colors = np.array(image.convert("P").getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
        codes = np.full(256, -1, dtype=np.int64)
        codes[: len(colors)] = color_codes(colors)
        palette = codes[found.values]
    size = int(raw.shape[0]), int(raw.shape[1])
    return Look(size, form, found, palette, alpha if len(alpha.values) > 1 else None, is_lossy(path, image), more)


def pixels_of(path: Path, image: Image.Image) -> tuple[np.ndarray, Form]:
    """(H, W) values or (H, W, 3) colors, and which of them. Raises DataError for values that are none of a mask."""
    if image.mode in ("P", "PA"):
        return raw_of(path, image, "values"), "palette"
    if image.mode in ("1", "L", "LA"):
        return raw_of(path, image, "values"), "gray"
    if len(image.getbands()) == 1:
        return raw_of(path, image, "values", wide=True), "wide"
    gray = gray_of(path, image)
    return (raw_of(path, image, "color"), "color") if gray is None else (gray, "rgb")


def counted(codes: np.ndarray) -> Counted:
    """(H, W) whole numbers -> what there is of each."""
    solid = np.ones(codes.shape, dtype=bool)
    across, down = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    solid[:, 1:] &= across
    solid[:, :-1] &= across
    solid[1:] &= down
    solid[:-1] &= down
    if codes.dtype != np.int32:
        size = int(codes.max(initial=0)) + 1
        pixels, inside = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        for rows in slices(codes):
            pixels += np.bincount(codes[rows].ravel(), minlength=size)
            inside += np.bincount(codes[rows][solid[rows]], minlength=size)
        values = np.flatnonzero(pixels)
        return Counted(values, pixels[values], inside[values])
    return summed([runs(codes[rows].ravel(), solid[rows].ravel()) for rows in slices(codes) if codes.size])


def runs(line: np.ndarray, inside: np.ndarray) -> Counted:
    """(N,) int32 -> each run of equal values, of which there are far fewer than pixels, and how many are inside."""
    starts = np.flatnonzero(np.concatenate([[True], line[1:] != line[:-1]]))
    return Counted(
        line[starts].astype(np.int64),
        np.diff(np.append(starts, len(line))),
        np.add.reduceat(inside.astype(np.int64), starts),
    )


def summed(several: Sequence[Counted]) -> Counted:
    """All of them together."""
    values = np.concatenate([one.values for one in several] or [NOTHING])
    unique, place = np.unique(values, return_inverse=True)
    pixels, solid = np.zeros(len(unique), dtype=np.int64), np.zeros(len(unique), dtype=np.int64)
    np.add.at(pixels, place, np.concatenate([one.pixels for one in several] or [NOTHING]))
    np.add.at(solid, place, np.concatenate([one.solid for one in several] or [NOTHING]))
    return Counted(unique, pixels, solid)
