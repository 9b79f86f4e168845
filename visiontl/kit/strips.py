"""Large pictures a strip of rows at a time: what is computed of one takes the memory of a strip beside it, and gives
the same bits as of the whole. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

PIXELS = 1 << 20  # of a strip


def strips(image: Image.Image, share: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """(top, the rows from there) from the first row to the last, at most PIXELS / share at a time or one row; a picture
    that is no larger comes as it is. share: for what needs many bytes a pixel."""
    rows = max(1, PIXELS // share // max(1, image.width))
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def values(image: Image.Image) -> np.ndarray:
    """(H, W) or (H, W, C): as `np.array(image)`, which holds all of them twice or three times meanwhile."""
    made: np.ndarray | None = None
    for top, part in strips(image):
        found = np.array(part)
        if part is image:
            return found
        if made is None:
            made = np.empty((image.height, *found.shape[1:]), dtype=found.dtype)
        made[top : top + len(found)] = found
    assert made is not None
    return made
