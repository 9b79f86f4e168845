"""Photos that EXIF turns, and boxes that were drawn on them before they were turned. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visiontl.kit.headers import upright_sizes
from visiontl.kit.words import count, plural, some
from visiontl_detection.listing import Annotated

OVERHANG = 0.02  # share of a side by which a box has to stick out before it means something


def suspects(base: str, split: str, images: Sequence[Annotated]) -> list[str]:
    """A note on photos whose boxes, as annotated, fit only if width and height are swapped; or none."""
    found = [image.name for image in images if _fits_swapped_only(image)]
    if not found:
        return []
    turned = sum(upright is not None and upright[1] for upright in upright_sizes(base, found))
    why = f", {turned:,} of them turned by EXIF" if turned else ""
    return [
        f"{split}: {count(len(found), 'photo')} whose boxes fit only a photo of swapped width and height{why}: "
        f"{some(found)}; boxes were likely drawn before the photo was turned upright, and lie elsewhere: save the "
        f"{plural(len(found), 'photo')} without that turn, or annotate anew"
    ]


def _fits_swapped_only(image: Annotated) -> bool:
    if image.size is None or image.size[0] == image.size[1]:
        return False
    boxes = image.boxes[np.isfinite(image.boxes).all(1)]
    if not len(boxes):
        return False
    height, width = image.size
    right, low = boxes[:, 2].max(), boxes[:, 3].max()
    sticks_out = right > width * (1 + OVERHANG) or low > height * (1 + OVERHANG)
    return bool(sticks_out and right <= height * (1 + OVERHANG) and low <= width * (1 + OVERHANG))
