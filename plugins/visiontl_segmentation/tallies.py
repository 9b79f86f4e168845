"""How many pixels of each class every mask holds, and what in masks has no meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from visiontl import DataError
from visiontl.kit.words import count, refusal
from visiontl_segmentation.deciding import in_percent, said_lossy
from visiontl_segmentation.levels import NEAR, SOFT, SOLID, distance, levels_of
from visiontl_segmentation.listing import Listing, MaskFile
from visiontl_segmentation.looks import Counted, Look, summed
from visiontl_segmentation.masks import IGNORED, UNKNOWN, Meaning, colors_in_words, nearest_color, ranges

CLOSE = 64.0  # distance of two colors, of 442 at most, from which on one is no compressed form of the other
MOST_STRANGE = 0.5  # share of a mask's pixels


def in_meaning(look: Look, meaning: Meaning) -> Counted | None:
    """What a file holds in the channel that is read; None where it cannot be read so, which reading it tells."""
    if look.size is None:
        return None
    if meaning.channel == "color":
        return look.colors()
    if meaning.channel == "alpha":
        pixels = np.array([look.size[0] * look.size[1]])
        return look.alpha or Counted(np.array([255]), pixels, pixels)
    if look.form == "color" or (not meaning.wide and look.form == "wide" and look.found.values.max(initial=0) > 255):
        return None
    if meaning.channel == "gray":
        gray = look.colors()
        return summed([Counted(gray.values & 255, gray.pixels, gray.solid)])
    return look.found


def tally_files(
    listing: Listing, looks: Mapping[str, Look], meaning: Meaning, number: int, notes: list[str]
) -> tuple[Meaning, dict[str, np.ndarray]]:
    """(the meaning, in which stray colors count as the nearest where that is sound, {split: (N, K + 1) pixels}).

    Raises DataError naming the files that hold values without a meaning.
    """
    meaning = with_stray_colors(listing, looks, meaning, notes)
    problems: list[str] = []
    lossy: list[str] = []
    tallies = {}
    for split, pairs in listing.parts.items():
        rows = np.full((len(pairs), number + 1), -1, dtype=np.int64)
        strange, files = 0, 0
        odd = new_areas(listing, split, looks, meaning)
        for row, (name, look) in zip(rows, looks_of(listing, split, looks), strict=True):
            found = in_meaning(look, meaning)
            if found is None:
                continue
            indices = meaning.lookup(found.values)
            other = ~np.isin(found.values, meaning.exact) if meaning.channel != "color" else indices == UNKNOWN
            pixels = int(found.pixels[other].sum())
            if pixels and not tolerable(found, look, meaning, odd):
                values = (colors_in_words if meaning.channel == "color" else ranges)(found.values[other].tolist())
                verb = "means" if int(other.sum()) == 1 else "mean"
                problems.append(f"{name}: {values} on {count(pixels, 'pixel')} {verb} nothing")
                lossy += [name] if look.lossy else []
                continue
            strange, files = strange + pixels, files + (pixels > 0)
            row[:] = 0
            np.add.at(row, np.where(indices == IGNORED, number, np.minimum(indices, number)), found.pixels)
        tallies[split] = rows
        if strange and split != "train":
            share = strange / max(1, int(rows[rows[:, 0] >= 0].sum()))
            what = f"{count(strange, 'pixel')} ({in_percent(share)}) of {count(files, 'mask')}"
            notes.append(f"{split}: other values on {what} count as the nearest of them")
    if problems:
        raise refused(listing, meaning, problems, lossy)
    return meaning, tallies


def tolerable(found: Counted, look: Look, meaning: Meaning, odd: np.ndarray) -> bool:
    """Whether the values of a mask that stand for nothing by themselves may count as the nearest that do."""
    if not meaning.near or meaning.channel == "color" or np.isin(found.values, odd).any():
        return False
    far = distance(found.values, meaning.exact) > NEAR
    return bool(found.pixels[far].sum() <= MOST_STRANGE * row_total(look))


def new_areas(listing: Listing, split: str, looks: Mapping[str, Look], meaning: Meaning) -> np.ndarray:
    """Values that areas of a split's masks have and the training masks lack: they are no soft edges of theirs."""
    if split == "train" or not meaning.near or meaning.channel == "color":
        return np.zeros(0, dtype=np.int64)
    own = [look for _, look in looks_of(listing, split, looks)]
    drawn = np.array(levels_of(summed([in_meaning(look, meaning) or Counted() for look in own]), False).drawn)
    if any(look.lossy for look in own):
        drawn = drawn[distance(drawn, meaning.exact) > NEAR]
    train = [look for _, look in looks_of(listing, "train", looks)] if "train" in listing.parts else []
    known = summed([in_meaning(look, meaning) or Counted() for look in train]).values
    return drawn[~np.isin(drawn, meaning.exact) & ~np.isin(drawn, known)]


def row_total(look: Look) -> int:
    assert look.size is not None
    return look.size[0] * look.size[1]


def looks_of(listing: Listing, split: str, looks: Mapping[str, Look]) -> Iterator[tuple[str, Look]]:
    for pair in listing.parts[split]:
        assert isinstance(pair.mask, MaskFile)
        yield pair.mask.name, looks[pair.mask.name]


def refused(listing: Listing, meaning: Meaning, problems: list[str], lossy: list[str]) -> DataError:
    if meaning.channel == "color":
        advice = "add them to the table of colors; stray colors come from blurred or JPEG-compressed masks"
    elif meaning.near:
        advice = "task.data.values says what masks hold; task.data.ignore_index leaves values out"
    else:
        advice = "name more classes, let task.data.ignore_index leave values out, or say task.data.values"
    return refusal(
        f"{listing.where}: masks hold what is not {meaning.expected} ({advice}){said_lossy(lossy)}", problems
    )


def with_stray_colors(listing: Listing, looks: Mapping[str, Look], meaning: Meaning, notes: list[str]) -> Meaning:
    """A meaning in which colors beside the table count as the nearest one, where all of them are soft edges,
    compression or stray pixels; else the meaning as it is."""
    if meaning.channel != "color":
        return meaning
    every = [
        (look, look.colors()) for split in listing.parts for _, look in looks_of(listing, split, looks) if look.size
    ]
    strange = [
        (look, Counted(found.values[odd], found.pixels[odd], found.solid[odd]))
        for look, found in every
        if (odd := ~np.isin(found.values, meaning.exact)).any()
    ]
    if not strange:
        return meaning
    exact = summed([found for look, found in strange if not look.lossy])
    drawn = exact.values[exact.solid >= SOLID * exact.pixels]
    pixels = 0
    for look, found in strange:
        far = nearest_color(found.values, meaning.colors)[1] > CLOSE if look.lossy else np.isin(found.values, drawn)
        solid, area = int(found.solid[far].sum()), int(found.pixels[far].sum())
        many = area if look.lossy else int(found.pixels.sum())
        if (solid > SOLID * area if look.lossy else far.any()) or many > SOFT * row_total(look):
            return meaning
        pixels += int(found.pixels.sum())
    share = pixels / sum(row_total(look) for look, _ in every)
    examples = colors_in_words(summed([found for _, found in strange]).values.tolist())
    lossy = [name for split in listing.parts for name, look in looks_of(listing, split, looks) if look.lossy]
    notes.append(
        f"{listing.where}: {count(len(strange), 'mask')} hold colors beside the table, {examples}, on "
        f"{count(pixels, 'pixel')} ({in_percent(share)}), which count as the nearest color{said_lossy(lossy)}"
    )
    return replace(meaning, near=True)
