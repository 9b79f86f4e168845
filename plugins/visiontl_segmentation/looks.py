"""What each mask file holds, whatever it may mean: every file is read once, several at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.depths import slices
from visiontl.kit.strips import strips
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


def look(path: Path, photo: Path | None = None) -> Look:
    """Never raises for what is in the file. photo: whose size it must have, see `open_mask`."""
    try:
        image = open_mask(path, photo)
        form, parts = pixels_of(path, image)
    except DataError as error:
        return Look(None, problem=str(error))
    found = counted(parts)
    more = len(found.values) > MOST
    if more:
        kept = np.sort(np.argsort(-found.pixels, kind="stable")[:MOST])
        found = Counted(found.values[kept], found.pixels[kept], found.solid[kept])
    alpha = counted(alpha_of(part) for _, part in strips(image)) if has_alpha(image) else Counted()
    palette = NOTHING
    if form == "palette":
        colors = np.array(image.convert("P").getpalette("RGB") or [], dtype=np.int64).reshape(-1, 3)
        codes = np.full(256, -1, dtype=np.int64)
        codes[: len(colors)] = color_codes(colors)
        palette = codes[found.values]
    size = image.height, image.width
    return Look(size, form, found, palette, alpha if len(alpha.values) > 1 else None, is_lossy(path, image), more)


def pixels_of(path: Path, image: Image.Image) -> tuple[Form, Iterable[np.ndarray]]:
    """What they are, and the (h, W) values, or codes of colors, of strips. Raises DataError for values that are none
    of a mask."""
    if image.mode in ("P", "PA"):
        return "palette", [raw_of(path, image, "values")]
    if image.mode in ("1", "L", "LA"):
        return "gray", [raw_of(path, image, "values")]
    if len(image.getbands()) == 1:
        return "wide", [raw_of(path, image, "values", wide=True)]
    gray = gray_of(path, image)
    if gray is not None:
        return "rgb", [gray]
    return "color", (color_codes(raw_of(path, part, "color")) for _, part in strips(image))


def counted(parts: Iterable[np.ndarray]) -> Counted:
    """Whole numbers (h, W) of strips that follow each other -> what there is of each."""
    found: list[Counted] = []
    pixels, inside = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for codes, solid in with_solid(part[rows] for part in parts if part.size for rows in slices(part)):
        if codes.dtype == np.int32:
            found.append(runs(codes.ravel(), solid.ravel()))
            continue
        size = max(int(codes.max()) + 1, len(pixels))
        pixels = np.bincount(codes.ravel(), minlength=size) + np.pad(pixels, (0, size - len(pixels)))
        inside = np.bincount(codes[solid], minlength=size) + np.pad(inside, (0, size - len(inside)))
    if found:
        return summed(found)
    values = np.flatnonzero(pixels)
    return Counted(values, pixels[values], inside[values])


def with_solid(parts: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(h, W) strips that follow each other -> each, and where all four neighbors have the same value. What lies beyond
    an edge counts as the same."""
    before: np.ndarray | None = None
    above: np.ndarray | None = None
    for strip in parts:
        if before is not None:
            yield before, solid_in(before, above, strip[:1])
            above = before[-1:]
        before = strip
    if before is not None:
        yield before, solid_in(before, above, None)


def solid_in(codes: np.ndarray, above: np.ndarray | None, below: np.ndarray | None) -> np.ndarray:
    """(h, W) bool. above, below: (1, W), the rows before and behind."""
    solid = np.ones(codes.shape, dtype=bool)
    across, down = codes[:, 1:] == codes[:, :-1], codes[1:] == codes[:-1]
    solid[:, 1:] &= across
    solid[:, :-1] &= across
    solid[1:] &= down
    solid[:-1] &= down
    if above is not None:
        solid[:1] &= codes[:1] == above
    if below is not None:
        solid[-1:] &= codes[-1:] == below
    return solid


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
