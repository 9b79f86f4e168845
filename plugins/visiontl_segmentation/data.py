"""From a config to the splits of a data set and the meta that a model is rebuilt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.headers import in_threads, possible_sizes
from visiontl.kit.images import open_image
from visiontl.kit.names import ALIKE, alike_notes
from visiontl.kit.words import count, refusal, some
from visiontl_segmentation import layouts
from visiontl_segmentation.classes import Classes, Naming, classes_of, in_the_models_classes, naming_of
from visiontl_segmentation.config import DataConfig, SegmentationConfig
from visiontl_segmentation.listing import Listing, MaskFile, MaskReader, Pair
from visiontl_segmentation.masks import IGNORED, UNKNOWN, Kind, Meaning, color_codes, open_mask, ranges, read_raw
from visiontl_segmentation.views import RandomView, StillView, still_view, training_view

LOOKED = 8  # masks that tell what kind they are of
SURVEYED = 5_000  # of COCO's masks, which have to be painted to be counted


@dataclass(frozen=True)
class Photos:
    """One split. base: the folder of all names. view: (image, (H, W) uint8 indices, seed) -> sample. tally: (N, K + 1)
    pixels per class and, last, ignored ones; a row of -1 where the mask could not be read or was not counted."""

    base: str
    names: Sequence[str]
    pairs: Sequence[Pair] = field(repr=False)
    reader: MaskReader = field(repr=False)
    view: StillView | RandomView = field(repr=False)
    tally: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Raises DataError where photo or mask cannot be read, or where their sizes differ."""
        number, seed = key
        image, mask = self.image(number), self.reader(self.pairs[number])
        if mask.shape != (image.height, image.width):
            raise DataError(f"{self.base}: {mismatch(self.pairs[number], mask.shape, (image.height, image.width))}")
        return self.view(image, mask, seed)

    def image(self, number: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return open_image(Path(self.base, self.names[number]))

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes, which do not need the tally."""
        return {**self.__dict__, "tally": np.zeros((0, 1), dtype=np.int64)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Survey:
    """What one mask holds. size: (H, W), None where it could not be read. values: its values, or colors as codes;
    pixels: of each."""

    size: tuple[int, ...] | None
    values: np.ndarray
    pixels: np.ndarray


NOTHING = Survey(None, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def mismatch(pair: Pair, mask: Sequence[int], photo: Sequence[int]) -> str:
    """Two sizes, (H, W), that differ, in a sentence."""
    what = f"its mask {pair.mask.name}" if isinstance(pair.mask, MaskFile) else "its annotation"
    said = f"{pair.name}: the photo has {photo[1]} x {photo[0]} pixels, {what} {mask[1]} x {mask[0]}"
    if tuple(mask) == tuple(photo[::-1]):
        said += "; width and height are swapped, as when the mask was made before the EXIF orientation turned the photo"
    return said


def data(cfg: SegmentationConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The splits that cfg.data describes. All masks are read once: their sizes, values and shares of pixels.

    meta: {"classes": names in index order, "ignored": names that are not learned, "background": index or None,
    "colors": one per class, "values": [value, index] pairs, "counts": training pixels per class}. Given (evaluating
    elsewhere), its class order holds, by name.
    Raises DataError for a source that cannot be read, masks of another size than their photo, and values without a
    meaning, naming the files. A damaged file is left to the core, which stops or skips as data.on_bad says.
    """
    section = cfg.data
    listing = layouts.read(section, evaluation=meta is not None)
    notes = list(listing.notes)
    kind = kind_of(section, listing, notes)
    surveys = {} if kind is None else survey(listing, kind)
    naming = naming_of(section, listing.base, kind, found_values(section, kind, surveys), listing.names)
    if meta is None:
        classes, meaning, labels = classes_of(section, listing.where, kind, naming)
        meta = new_meta(classes, naming, surveys, kind, notes, listing)
    else:
        meaning, labels = in_the_models_classes(section, listing.where, kind, naming, meta, notes)
    reader = MaskReader(listing.base, meaning, labels if kind is None else None)
    check_sizes(listing, surveys)
    number = len(meta["classes"])
    if meaning is None:
        tallies = {split: painted_tally(reader, pairs, number, split, notes) for split, pairs in listing.parts.items()}
    else:
        tallies = tally_files(listing, surveys, meaning, number)
    if "counts" not in meta:
        train = tallies["train"]
        meta = {**meta, "counts": train[train[:, 0] >= 0, :number].sum(0).tolist()}
        check_learnable(listing, meta, notes)
        notes += alike_notes("class", meta["classes"], ALIKE, loose=True)
    splits = {}
    for split, pairs in listing.parts.items():
        view = (training_view if split == "train" else still_view)(cfg, spec)
        splits[split] = Photos(listing.base, [pair.name for pair in pairs], pairs, reader, view, tallies[split])
        notes += absent_notes(split, tallies[split], meta["classes"])
    return Data(**splits, meta=meta, notes=notes)


def kind_of(cfg: DataConfig, listing: Listing, notes: list[str]) -> Kind | None:
    """What mask files hold; None where masks are COCO's regions. `auto` looks at the first ones."""
    if not all(isinstance(pair.mask, MaskFile) for pair in listing.pairs()):
        return None
    if cfg.values != "auto":
        return cfg.values
    if cfg.colors is not None:
        return "color"
    values: set[int] = set()
    for pair in listing.pairs()[:LOOKED]:
        assert isinstance(pair.mask, MaskFile)
        path = Path(listing.base, pair.mask.name)
        try:
            image = open_mask(path)
        except DataError:
            continue  # told later, by who reads it
        if image.mode in ("RGB", "RGBA", "CMYK", "YCbCr"):
            pixels = np.asarray(image.convert("RGB"))
            if (pixels != pixels[..., :1]).any():
                return "color"
        try:
            values |= set(np.unique(read_raw(path, "index")).tolist())
        except DataError:
            continue
    if values == {0, 255} and (cfg.classes is None or len(cfg.classes) == 2):
        notes.append(f"{listing.where}: masks hold 0 and 255 only: taken as background and foreground")
        return "binary"
    return "index"


def survey(listing: Listing, kind: Kind) -> dict[str, Survey]:
    """{name of the photo: what its mask file holds}."""

    def look(pair: Pair) -> Survey:
        assert isinstance(pair.mask, MaskFile)
        try:
            raw = read_raw(Path(listing.base, pair.mask.name), kind)
        except DataError:
            return NOTHING
        if kind == "color":
            values, pixels = np.unique(color_codes(raw), return_counts=True)
        else:
            pixels = np.bincount(raw.ravel(), minlength=256)
            values = np.flatnonzero(pixels)
            pixels = pixels[values]
        return Survey(raw.shape[:2], values, pixels)

    pairs = listing.pairs()
    return dict(zip([pair.name for pair in pairs], in_threads(look, pairs), strict=True))


def found_values(cfg: DataConfig, kind: Kind | None, surveys: Mapping[str, Survey]) -> list[int]:
    """The values of index masks that are not ignored by number."""
    if kind != "index":
        return []
    values = {int(value) for one in surveys.values() for value in one.values}
    return sorted(values - {one for one in cfg.ignore_index if isinstance(one, int)})


def new_meta(
    classes: Classes,
    naming: Naming,
    surveys: Mapping[str, Survey],
    kind: Kind | None,
    notes: list[str],
    listing: Listing,
) -> dict[str, Any]:
    if "train" not in listing.parts:
        raise DataError(f"{listing.where}: has {some(listing.parts)} and no train; a model needs images to learn from")
    if not naming.stated and kind == "index":
        if not surveys or all(one.size is None for one in surveys.values()):
            raise DataError(f"{listing.where}: no mask could be read, so there are no classes")
        notes.append(
            f"{listing.where}: nothing names the classes; they are called by their values: {some(classes.names)}; "
            "a classes.txt with one name a line, or task.data.classes, names them"
        )
    return classes.to_meta()


def check_sizes(listing: Listing, surveys: Mapping[str, Survey]) -> None:
    """Raises DataError, naming the files, where a photo's header says that it has another size than its mask."""
    pairs = listing.pairs()
    sizes = in_threads(lambda pair: possible_sizes(Path(listing.base, pair.name)), pairs)
    problems = []
    for pair, possible in zip(pairs, sizes, strict=True):
        size = surveys[pair.name].size if isinstance(pair.mask, MaskFile) else pair.mask.size
        if size is not None and possible and tuple(size) not in possible:
            problems.append(mismatch(pair, size, min(possible)))
    if problems:
        raise refusal(listing.where, problems)


def tally_files(
    listing: Listing, surveys: Mapping[str, Survey], meaning: Meaning, number: int
) -> dict[str, np.ndarray]:
    """Per split (N, K + 1) pixels. Raises DataError naming the files that hold values without a meaning."""
    problems: list[str] = []
    tallies = {}
    for split, pairs in listing.parts.items():
        rows = np.full((len(pairs), number + 1), -1, dtype=np.int64)
        for row, pair in zip(rows, pairs, strict=True):
            assert isinstance(pair.mask, MaskFile)
            one = surveys[pair.name]
            if one.size is None:
                continue
            indices = meaning.lookup(one.values)
            unknown = indices == UNKNOWN
            if unknown.any():
                values = (ranges if meaning.kind != "color" else colors_in_words)(one.values[unknown].tolist())
                pixels = count(int(one.pixels[unknown].sum()), "pixel")
                verb = "means" if int(unknown.sum()) == 1 else "mean"
                problems.append(f"{pair.mask.name}: {values} on {pixels} {verb} nothing")
            row[:] = 0
            np.add.at(row, np.where(indices == IGNORED, number, np.minimum(indices, number)), one.pixels)
        tallies[split] = rows
    if problems:
        advice = (
            "name more classes, or let task.data.ignore_index leave values out"
            if meaning.kind != "color"
            else "add them to the table of colors; stray colors come from blurred or JPEG-compressed masks"
        )
        raise refusal(f"{listing.where}: masks hold what is not {meaning.expected} ({advice})", problems)
    return tallies


def colors_in_words(codes: Sequence[int]) -> str:
    return some([f"[{code >> 16}, {code >> 8 & 255}, {code & 255}]" for code in codes], 3)


def painted_tally(reader: MaskReader, pairs: Sequence[Pair], number: int, split: str, notes: list[str]) -> np.ndarray:
    """(N, K + 1) pixels of COCO's masks, which have to be painted: of large sets only some are, evenly spread."""
    step = -(-len(pairs) // SURVEYED)
    chosen = range(0, len(pairs), step)
    if step > 1:
        notes.append(f"{split}: shares of pixels are counted on {len(chosen):,} of {len(pairs):,} masks")

    def look(place: int) -> np.ndarray:
        row = np.bincount(reader(pairs[place]).ravel(), minlength=256)
        return np.append(row[:number], row[IGNORED])

    tally = np.full((len(pairs), number + 1), -1, dtype=np.int64)
    tally[list(chosen)] = np.stack(in_threads(look, chosen))
    return tally


def check_learnable(listing: Listing, meta: Mapping[str, Any], notes: list[str]) -> None:
    """Raises DataError where train has no pixel of any class; a class without one is noted by `absent_notes`."""
    if not any(meta["counts"]):
        raise DataError(f"{listing.where}: train has no pixel of any class; everything in its masks is ignored")


def absent_notes(split: str, tally: np.ndarray, names: Sequence[str]) -> list[str]:
    counted = tally[tally[:, 0] >= 0]
    absent = [name for name, pixels in zip(names, counted[:, :-1].sum(0).tolist(), strict=True) if not pixels]
    empty = int((counted[:, :-1].sum(1) == 0).sum())
    notes = []
    if absent and len(counted):
        notes.append(f"{split}: no pixel of {count(len(absent), 'class')}: {some(absent)}")
    if empty:
        notes.append(f"{split}: {count(empty, 'mask')} with nothing but ignored pixels")
    return notes
