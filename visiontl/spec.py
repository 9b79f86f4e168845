"""How pretrained weights want their images. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

# RGB, 0..1: the statistics of ImageNet's photos as torchvision's reference training states them
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageSpec:
    """How the weights want their images. Travels with them; only the backbone applies mean and std.

    size: (H, W) in pixels that this run uses.
    mean, std: per channel, after pixels 0..1 were stretched to `value_range`.
    interpolation: "bilinear" | "bicubic" | "nearest" | "lanczos".
    crop: share of the resized image's side that the center crop keeps (0..1].
    pad_to: H and W must be multiples of this many pixels (1: any).
    sizing: "any" size works, a "multiple" of pad_to, or only the "fixed" size.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    crop: float = 0.875
    value_range: tuple[float, float] = (0.0, 1.0)
    pad_to: int = 1
    sizing: str = "any"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ImageSpec:
        """Raises ValueError or TypeError for values that are no specification."""
        lacking = [name for name in ("size", "mean", "std") if name not in values]
        if lacking:
            raise ValueError(f"states no {', '.join(lacking)}")
        fields: dict[str, Any] = {k: tuple(cast(list[Any], v)) if isinstance(v, list) else v for k, v in values.items()}
        spec = cls(**fields)
        numbers: list[Any] = [*spec.size, *spec.mean, *spec.std, *spec.value_range, spec.crop, spec.pad_to]
        wrong = [one for one in numbers if isinstance(one, bool) or not isinstance(one, int | float)]
        if wrong or len(spec.size) != 2 or min(spec.size) < 1:
            raise ValueError(f"{wrong[0] if wrong else list(spec.size)!r} is no number of pixels or value of a channel")
        return spec
