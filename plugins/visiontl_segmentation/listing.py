"""What every layout is read into: photos and where their masks come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visiontl import DataError
from visiontl_segmentation.masks import IGNORED, Meaning, indices_of, read_raw


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file of its own. name: relative to the base, with forward slashes."""

    name: str


@dataclass(frozen=True)
class Regions:
    """A mask as COCO states it. size: (H, W) as annotated. labels: of each region, into the listing's names; -1 is a
    crowd without a class. encoded: compressed RLE of each, the largest first, so that small ones lie on top."""

    size: tuple[int, int]
    labels: Sequence[int]
    encoded: Sequence[Mapping[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Pair:
    """A photo, by its name relative to the base, and its mask."""

    name: str
    mask: MaskFile | Regions


@dataclass(frozen=True)
class Listing:
    """A data set as found. base: the folder of all names. parts: split -> pairs, in a fixed order. names: class names
    that the annotations themselves state, or None. notes: what was assumed or left out, in sentences. ids: COCO's
    category ids, one per name."""

    base: str
    parts: Mapping[str, Sequence[Pair]]
    names: Sequence[str] | None
    notes: Sequence[str]
    where: str
    ids: Sequence[int] | None = None

    def pairs(self) -> list[Pair]:
        return [pair for part in self.parts.values() for pair in part]


@dataclass(frozen=True)
class MaskReader:
    """Pairs -> class indices. base: the folder of all names. meaning: of the values of mask files. labels: of Regions,
    (names + 2,) uint8: their class index, then that of what no region covers, and IGNORED for crowds."""

    base: str
    meaning: Meaning | None
    labels: np.ndarray | None = field(default=None, repr=False)

    def __call__(self, pair: Pair) -> np.ndarray:
        """(H, W) uint8 class indices and IGNORED. Raises DataError naming the file."""
        if isinstance(pair.mask, MaskFile):
            assert self.meaning is not None
            path = Path(self.base, pair.mask.name)
            raw = read_raw(path, self.meaning.channel, self.meaning.wide, Path(self.base, pair.name))
            return indices_of(path, raw, self.meaning)
        assert self.labels is not None
        return painted(pair.mask, self.labels, Path(self.base, pair.name))


def painted(regions: Regions, labels: np.ndarray, photo: Path) -> np.ndarray:
    """Regions over one another -> (H, W) uint8 class indices and IGNORED."""
    from pycocotools import mask as coco

    height, width = regions.size
    mask = np.full((width, height), labels[-2], dtype=np.uint8)  # column by column, as RLE goes
    for label, encoded in zip(regions.labels, regions.encoded, strict=True):
        try:
            inside = coco.decode(encoded)  # type: ignore[arg-type]
        except Exception as error:  # a code that does not fill its image
            raise DataError(f"{photo}: a region of its annotation cannot be decoded ({error})") from None
        mask[inside.T.astype(bool)] = labels[label] if label >= 0 else IGNORED
    return np.ascontiguousarray(mask.T)
