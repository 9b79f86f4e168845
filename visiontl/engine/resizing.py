"""Resizing for exported models as training resizes, to the bit."""

from __future__ import annotations

import numpy as np
from PIL import Image

from visiontl.kit.images import resize_tensor


def resized(image: Image.Image, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """(RGB photo, (h, w), interpolation) -> (h, w, 3) uint8."""
    return resize_tensor(image, size, interpolation).permute(1, 2, 0).numpy()
