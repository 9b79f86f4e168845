"""Sizes of pictures from the beginning of their files, many at a time. Imports no torch."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from visiontl.kit.images import FORMATS, orientation, without_warnings
from visiontl.outlet import say

THREADS = 8  # that read files: they wait for the disk, and decoders let others run
BETWEEN = 10.0  # seconds between two lines of progress
ON_ITS_SIDE = (5, 6, 7, 8)  # EXIF orientations that turn a picture by a quarter

T = TypeVar("T")
R = TypeVar("R")


def in_threads(function: Callable[[T], R], items: Iterable[T], what: str = "") -> list[R]:
    """[function(item), ...], several at a time. what: such as "masks read"; a line every ten seconds says how many."""
    items = list(items)
    found: list[R] = []
    told = time.monotonic()
    with without_warnings(), ThreadPoolExecutor(THREADS) as pool:
        for one in pool.map(function, items):
            found.append(one)
            if what and time.monotonic() - told >= BETWEEN and os.environ.get("RANK", "0") == "0":
                told = time.monotonic()
                say(f"{what}: {len(found):,} of {len(items):,}", sys.stderr)
    return found


def possible_sizes(path: str | Path) -> set[tuple[int, int]]:
    """The (H, W) that a picture may have once it is upright, from its header; empty where that cannot be read.

    Two where it would have to be decoded whole to know: a PNG may have its EXIF behind the pixels, and TIFF is turned
    as it is loaded.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
                return {(height, width), (width, height)}
            turned = orientation(image) in ON_ITS_SIDE
            return {(width, height) if turned else (height, width)}
    except Exception:  # Pillow's decoders raise many kinds; who opens the picture is told which
        return set()


def upright_size(path: str | Path) -> tuple[tuple[int, int], bool] | None:
    """((H, W) of the upright picture, whether EXIF turned it by a quarter), decoded where `possible_sizes` leaves a
    doubt; None where it cannot be read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            stored = image.size
            if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):
                image.load()  # which turns a TIFF, and finds a PNG's EXIF
            if orientation(image) in ON_ITS_SIDE:
                return image.size, True
            return (image.height, image.width), image.size != stored
    except Exception:  # Pillow's decoders raise many kinds; who opens the picture is told which
        return None


def image_size(path: str | Path) -> tuple[int, int] | None:
    """(H, W) of the upright picture; None where it cannot be read."""
    found = upright_size(path)
    return found and found[0]


def image_sizes(base: str, names: Sequence[str]) -> list[tuple[int, int] | None]:
    """`image_size` of each name below the base."""
    return in_threads(lambda name: image_size(os.path.join(base, name)), names)


def upright_sizes(base: str, names: Sequence[str]) -> list[tuple[tuple[int, int], bool] | None]:
    """`upright_size` of each name below the base."""
    return in_threads(lambda name: upright_size(os.path.join(base, name)), names)
