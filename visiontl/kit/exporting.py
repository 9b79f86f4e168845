"""How photos are shown to an exported graph, in the two common ways. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from visiontl.spec import ImageSpec


def cropped(spec: ImageSpec) -> dict[str, Any]:
    """The weights' own evaluation preprocessing, as `visiontl.kit.images.fit_image` does it."""
    return {"resize": "crop", "size": list(spec.size), "crop": spec.crop, "interpolation": spec.interpolation}


def letterboxed(
    resize: Mapping[str, Any], interpolation: str, multiple: int, least: Sequence[int], color: Any
) -> dict[str, Any]:
    """The whole photo, resized, at the upper left of an image of one color, or continued by its mirror image.

    resize: {"resize": "short", "short": pixels of the shorter side, "long": at most of the longer one, "pixels": at
    most of a photo that is enlarged}, {"resize": "inside" or "stretch", "size": [H, W]} or {"resize": "none"}.
    multiple, least: of H and W in pixels. color: [r, g, b] of 0..255, or "mirror".
    """
    pad = {"multiple": multiple, "least": list(least), "color": color}
    return {**resize, "interpolation": interpolation, "pad": pad}
