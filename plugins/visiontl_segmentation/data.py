"""From a config to the splits of a data set and the meta that a model is rebuilt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.headers import in_threads, possible_sizes
from visiontl.kit.images import open_image
from visiontl.kit.words import count, refusal, some, told
from visiontl_segmentation import layouts
from visiontl_segmentation.classes import (
    Classes,
    Naming,
    Stated,
    classes_of,
    in_the_models_classes,
    naming_of,
    stated_of,
)
from visiontl_segmentation.config import DataConfig, SegmentationConfig
from visiontl_segmentation.deciding import Decision, decide, in_channel
from visiontl_segmentation.levels import SOLID, is_dense
from visiontl_segmentation.listing import Listing, MaskFile, MaskReader, Pair
from visiontl_segmentation.looks import Look
from visiontl_segmentation.masks import IGNORED
from visiontl_segmentation.remembered import look_at
from visiontl_segmentation.tallies import tally_files
from visiontl_segmentation.views import RandomView, StillView, still_view, training_view
from visiontl_segmentation.written import manner, trained_decision, written_as

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
    "colors": one per class, "values": [value, index] pairs, "masks": how they are written (see written.py), "counts":
    training pixels per class}. Given (evaluating elsewhere), its class order holds, by name.
    Raises DataError for a source that cannot be read, masks of another size than their photo, and values without a
    meaning, naming the files. A damaged file is left to the core, which stops or skips as data.on_bad says.
    """
    section = cfg.data
    listing = layouts.read(section, evaluation=meta is not None)
    notes = list(listing.notes)
    stated = stated_of(section, listing.base, listing.names, meta)
    looks, decision = seen_and_decided(section, listing, stated, meta, notes)
    found = found_values(section, decision, looks, listing)
    naming = naming_of(section, listing.base, decision, found, stated)
    if meta is None:
        classes, meaning, labels = classes_of(section, listing.where, decision, naming)
        meta = new_meta(classes, naming, decision, looks, notes, listing)
    else:
        meaning, labels = in_the_models_classes(section, listing.where, decision, naming, meta, notes)
    check_sizes(listing, looks)
    number = len(meta["classes"])
    if meaning is None:
        reader = MaskReader(listing.base, None, labels)
        tallies = {split: painted_tally(reader, pairs, number, split, notes) for split, pairs in listing.parts.items()}
    else:
        meaning, tallies = tally_files(listing, looks, meaning, number, notes)
        reader = MaskReader(listing.base, meaning)
    if "counts" not in meta:
        train = tallies["train"]
        meta = {**meta, "counts": train[train[:, 0] >= 0, :number].sum(0).tolist()}
        check_learnable(listing, meta)
    splits = {}
    for split, pairs in listing.parts.items():
        view = (training_view if split == "train" else still_view)(cfg, spec)
        splits[split] = Photos(listing.base, [pair.name for pair in pairs], pairs, reader, view, tallies[split])
        notes += absent_notes(split, tallies[split], meta["classes"])
    if "train" in splits:
        splits["still"] = replace(splits["train"], view=still_view(cfg, spec))
    return Data(**splits, meta=meta, notes=notes)


def seen_and_decided(
    cfg: DataConfig, listing: Listing, stated: Stated, meta: Mapping[str, Any] | None, notes: list[str]
) -> tuple[dict[str, Look], Decision | None]:
    """What the mask files hold, and what they are taken for (None where masks are COCO's regions). Where a model is
    there already, masks that hold nothing but what it was trained on are taken as then."""
    pairs = listing.pairs()
    if not all(isinstance(pair.mask, MaskFile) for pair in pairs):
        return {}, None
    looks = look_at(listing.base, {mask_name(pair): pair.name for pair in pairs})
    trained = None
    if meta is not None and cfg.values in ("auto", manner(meta).get("kind")):
        same = stated.names is None or list(stated.names) == manner(meta).get("names")
        trained = trained_decision(meta, looks) if same else None
    if trained is not None:
        return looks, trained
    deciding = {mask_name(pair): looks[mask_name(pair)] for pair in listing.parts.get("train", pairs)}
    decision = decide(cfg, listing.where, deciding, stated.names, stated.colors)
    notes += decision.notes
    return looks, decision


def mask_name(pair: Pair) -> str:
    assert isinstance(pair.mask, MaskFile)
    return pair.mask.name


def found_values(cfg: DataConfig, decision: Decision | None, looks: Mapping[str, Look], listing: Listing) -> list[int]:
    """The values of index masks that are not ignored by number: those of the training masks, and of the others as far
    as they still look like class numbers then."""
    if decision is None or decision.kind != "index":
        return []

    numbers = [one for one in cfg.ignore_index if isinstance(one, int)]

    def values(pairs: Sequence[Pair], least: float) -> set[int]:
        found = in_channel([looks[mask_name(pair)] for pair in pairs], "values")
        sound = (found.values < 256) & ~np.isin(found.values, numbers) & (found.solid >= least * found.pixels)
        return {*found.values[sound].tolist()}

    train = values(listing.parts.get("train", ()), 0.0)
    every = train | values(listing.pairs(), SOLID)  # a stray pixel of val makes no class
    return sorted(every if not train or is_dense(np.array(sorted(every)), tuple(every)) else train)


def new_meta(
    classes: Classes,
    naming: Naming,
    decision: Decision | None,
    looks: Mapping[str, Look],
    notes: list[str],
    listing: Listing,
) -> dict[str, Any]:
    if "train" not in listing.parts:
        raise DataError(f"{listing.where}: has {some(listing.parts)} and no train; a model needs images to learn from")
    if not naming.stated and decision is not None and decision.kind in ("index", "levels"):
        notes.append(
            f"{listing.where}: nothing names the classes; they are called by their values: {some(classes.names)}; "
            "a classes.txt with one name a line, or task.data.classes, names them"
        )
    train = [looks[mask_name(pair)] for pair in listing.parts["train"]] if decision is not None else []
    return {**classes.to_meta(), "masks": written_as(classes, naming, decision, train, listing)}


def check_sizes(listing: Listing, looks: Mapping[str, Look]) -> None:
    """Raises DataError, naming the files, where a photo's header says that it has another size than its mask."""
    pairs = listing.pairs()
    sizes = in_threads(lambda pair: possible_sizes(Path(listing.base, pair.name)), pairs)
    problems = []
    for pair, possible in zip(pairs, sizes, strict=True):
        size = looks[pair.mask.name].size if isinstance(pair.mask, MaskFile) else pair.mask.size
        if size is not None and possible and tuple(size) not in possible:
            problems.append(mismatch(pair, size, min(possible)))
    if problems:
        raise refusal(listing.where, problems)


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
    tally[list(chosen)] = np.stack(in_threads(look, chosen, "masks painted"))
    return tally


def check_learnable(listing: Listing, meta: Mapping[str, Any]) -> None:
    """Raises DataError where train has pixels of one class or none; a class without one is noted by `absent_notes`."""
    held = [name for name, pixels in zip(meta["classes"], meta["counts"], strict=True) if pixels]
    if not held:
        raise DataError(f"{listing.where}: train has no pixel of any class; everything in its masks is ignored")
    if len(held) == 1:
        others = [name for name in meta["classes"] if name != held[0]]
        raise DataError(
            f"{listing.where}: train has pixels of one class only, {told(held[0])}, and none of "
            f"{some(others) if others else 'another'}: nothing can be learned, and every score would be 1; "
            "task.data.values, task.data.classes and task.data.ignore_index say what masks hold"
        )


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


def probe(cfg: SegmentationConfig, sample: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """(H, W) class of each pixel of the image, -1 where none is learned."""
    mask = np.asarray(sample["mask"]).astype(np.int64)
    return {"labels": np.where(mask == IGNORED, -1, mask)}
