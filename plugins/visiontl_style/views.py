"""What the networks are shown of a photo: a square of a fixed size to be judged on, random crops to learn from, and
the whole photo to be painted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import LONGEST, resize_tensor, to_tensor, without_far_ends
from visiontl.kit.strips import values
from visiontl_style.config import StyleConfig

if TYPE_CHECKING:
    from torch import Tensor


def sample(cfg: StyleConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[[Image.Image], dict[str, Any]]:
    """photo -> {"image": the square that is judged, "photo": (3, H, W) uint8 the whole, with its transparency as a
    fourth channel where it has any, "size": (H, W)}. It pickles."""
    return partial(whole, size=cfg.size)


def whole(image: Image.Image, size: int) -> dict[str, Any]:
    import torch

    photo, alpha = to_tensor(image), image.info.get("alpha")
    if alpha is not None and alpha.size == image.size:  # not that of a picture which this was cut out of
        photo = torch.cat([photo, torch.from_numpy(values(alpha))[None]])
    return {**square(image, size), "photo": photo}


def square(image: Image.Image, size: int) -> dict[str, Any]:
    """{"image": (3, size, size) uint8, the middle of the photo; "size": (H, W) of the photo}."""
    pixels = resized(image, size)
    top, left = ((side - size) // 2 for side in pixels.shape[1:])
    return {"image": pixels[:, top : top + size, left : left + size].contiguous(), "size": (image.height, image.width)}


def resized(image: Image.Image, short: int) -> Tensor:
    """(3, h, w) uint8 with this shorter side."""
    image = without_far_ends(image, LONGEST)
    scale = short / min(image.size)
    height, width = (max(short, round(side * scale)) for side in (image.height, image.width))
    return resize_tensor(image, (height, width), "bilinear")


def crop(image: Image.Image, seed: int, size: int, largest: int, mirror: bool = True) -> Tensor:
    """(3, size, size) uint8: from anywhere in the picture, whose shorter side is brought to size .. largest pixels;
    mirrored half of the time. A function of the seed."""
    import torch

    with seeded(seed):
        short, places, flip = int(torch.randint(size, max(size, largest) + 1, ())), torch.rand(2), torch.rand(()) < 0.5
    pixels = resized(image, short)
    top, left = (int(place * (side - size + 1)) for place, side in zip(places.tolist(), pixels.shape[1:], strict=True))
    cut = pixels[:, top : top + size, left : left + size]
    return (cut.flip(2) if mirror and flip else cut).contiguous()
