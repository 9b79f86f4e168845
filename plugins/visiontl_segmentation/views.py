"""What a network is shown of a photo: its whole, resized and padded, and random views for training, masks along."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import resize_tensor
from visiontl.kit.views import Scene, moved
from visiontl_segmentation.config import SMALLEST, AugmentConfig, SegmentationConfig
from visiontl_segmentation.masks import IGNORED

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 32  # height and width of what is shown are multiples of it, so that the maps of a pyramid lie on one grid
LARGEST = 40_000_000  # pixels that a photo is enlarged to at most

Size = tuple[int, int]  # (height, width) in pixels


@dataclass(frozen=True)
class Frame:
    """How large photos are shown. resize: as the config has it. least: pixels of a side that the decoder needs."""

    spec: ImageSpec
    resize: str | int
    least: int = 0

    def target(self, photo: Size) -> Size:
        """The size at which a photo of (H, W) is shown, before padding."""
        if self.resize == "stretch":
            return self.spec.size
        if self.resize == "original":
            return photo
        if self.resize == "fit":
            scale = min(self.spec.size[0] / photo[0], self.spec.size[1] / photo[1])
        else:
            scale = int(self.resize) / min(photo)
            scale = min(scale, max(1.0, math.sqrt(LARGEST / (photo[0] * photo[1]))))
        return max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))

    def canvas(self, size: Size) -> Size:
        """What (h, w) is padded to: multiples of the stride, unless the backbone takes one size only. Photos that are
        fitted into the backbone's image size all get one canvas."""
        spec = self.spec
        if spec.sizing == "fixed" and size[0] <= spec.size[0] and size[1] <= spec.size[1]:
            return spec.size
        step = math.lcm(STRIDE, spec.pad_to) if spec.sizing == "multiple" else STRIDE
        least = spec.size if self.resize in ("fit", "stretch") else (self.least, self.least)
        height, width = (-(-max(side, low, self.least) // step) * step for side, low in zip(size, least, strict=True))
        return height, width


def frame_of(cfg: SegmentationConfig, spec: ImageSpec) -> Frame:
    return Frame(spec, cfg.resize, SMALLEST.get(cfg.decoder.name, 0))


def mean_color(spec: ImageSpec) -> list[int]:
    """RGB, 0..255: what the backbone turns to about 0; it fills what lies outside of a photo."""
    low, high = spec.value_range
    return [round(255 * min(1.0, max(0.0, (mean - low) / (high - low)))) for mean in spec.mean[:3]]


def padded(image: Tensor, size: Size, spec: ImageSpec) -> Tensor:
    """(3, h, w) uint8 -> (3, H, W) with the image at the upper left, on the mean color."""
    import torch

    if tuple(image.shape[1:]) == size:
        return image.contiguous()
    canvas = torch.tensor(mean_color(spec), dtype=torch.uint8).view(3, 1, 1).repeat(1, *size)
    canvas[:, : image.shape[1], : image.shape[2]] = image
    return canvas


def padded_mask(mask: np.ndarray, size: Size) -> Tensor:
    """(h, w) uint8 -> (H, W) uint8 with the mask at the upper left, ignored around it."""
    import torch

    if mask.shape == size:
        return torch.from_numpy(np.ascontiguousarray(mask))
    canvas = np.full(size, IGNORED, dtype=np.uint8)
    canvas[: mask.shape[0], : mask.shape[1]] = mask
    return torch.from_numpy(canvas)


def resized_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """(H, W) -> (h, w), the nearest pixel of each: never a value that is not there."""
    if mask.shape == size:
        return mask
    rows, columns = (
        ((np.arange(new) + 0.5) * (old / new)).astype(np.int64) for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows[:, None], columns]


def sample(cfg: SegmentationConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> {"image": (3, H, W) uint8, "size": (H, W) of the photo, "shown": (h, w) of `image` without padding,
    "photo": the photo itself, for options that show it otherwise}. The function pickles."""
    return partial(photo_to_predict, frame=frame_of(cfg, spec))


def photo_to_predict(image: Image.Image, frame: Frame) -> dict[str, Any]:
    return {**whole(image, frame), "photo": image}


def whole(image: Image.Image, frame: Frame) -> dict[str, Any]:
    photo = (image.height, image.width)
    shown = frame.target(photo)
    pixels = resize_tensor(image, shown, frame.spec.interpolation)
    return {"image": padded(pixels, frame.canvas(shown), frame.spec), "size": photo, "shown": shown}


@dataclass(frozen=True)
class StillView:
    """The evaluation view with the truth; takes a seed and does not use it."""

    frame: Frame

    def __call__(self, image: Image.Image, mask: np.ndarray, seed: int) -> dict[str, Any]:
        """ "mask" (H, W) uint8 is at the size shown, "truth" at the photo's own."""
        import torch

        made = whole(image, self.frame)
        small = resized_mask(mask, made["shown"])
        canvas = tuple(made["image"].shape[1:])
        return {**made, "mask": padded_mask(small, canvas), "truth": torch.from_numpy(np.ascontiguousarray(mask))}


def still_view(cfg: SegmentationConfig, spec: ImageSpec) -> StillView:
    return StillView(frame_of(cfg, spec))


@dataclass(frozen=True)
class RandomView:
    """A random view of a photo with its mask, a function of the seed alone.

    The part that is seen is cut out of the photo before it is resized: what is not seen costs nothing.
    """

    frame: Frame
    augment: AugmentConfig

    def __call__(self, image: Image.Image, mask: np.ndarray, seed: int) -> dict[str, Any]:
        with seeded(seed):
            pixels, small = self.draw(image, mask)
        canvas = self.frame.canvas(self.frame.spec.size)
        return {"image": padded(pixels, canvas, self.frame.spec), "mask": padded_mask(small, canvas)}

    def draw(self, photo: Image.Image, mask: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """-> (3, h, w) uint8 and (h, w) uint8, no larger than the backbone's image size."""
        import torch

        augment, spec = self.augment, self.frame.spec
        chance = torch.rand(5).tolist()
        full = self.frame.target((photo.height, photo.width))
        if augment.scale is not None:
            low, high = augment.scale
            factor = low * (high / low) ** chance[0]  # as many halved as doubled
            full = max(1, round(full[0] * factor)), max(1, round(full[1] * factor))
        size = min(full[0], spec.size[0]), min(full[1], spec.size[1])
        if size != full:
            top, left = (round(c * (f - s)) for c, f, s in zip(chance[1:3], full, size, strict=True))
            across, down = photo.width / full[1], photo.height / full[0]  # photo pixels per shown pixel
            x1, y1 = round(left * across), round(top * down)
            x2 = min(photo.width, max(x1 + 1, round((left + size[1]) * across)))
            y2 = min(photo.height, max(y1 + 1, round((top + size[0]) * down)))
            x1, y1 = min(x1, x2 - 1), min(y1, y2 - 1)
            photo, mask = photo.crop((x1, y1, x2, y2)), mask[y1:y2, x1:x2]
        pixels = resize_tensor(photo, size, spec.interpolation)
        small = resized_mask(mask, size)
        if augment.flip and chance[3] < 0.5:
            pixels, small = pixels.flip(-1), small[:, ::-1]
        if augment.rotate:
            pixels, small = self.turned(pixels, small)
        if chance[4] < augment.color:
            from torchvision.transforms import v2

            pixels = v2.RandomPhotometricDistort()(pixels)
        return pixels, small

    def turned(self, pixels: Tensor, mask: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """About the middle; what comes in from outside has the mean color and is ignored."""
        from torchvision import tv_tensors
        from torchvision.transforms import InterpolationMode, v2

        turn = v2.RandomRotation(
            self.augment.rotate,  # type: ignore[arg-type]
            InterpolationMode.BILINEAR,
            fill={tv_tensors.Image: mean_color(self.frame.spec), tv_tensors.Mask: IGNORED},  # type: ignore[arg-type]
        )
        scene = moved(Scene(pixels, mask=mask), turn)
        assert scene.mask is not None
        return scene.image, scene.mask


def training_view(cfg: SegmentationConfig, spec: ImageSpec) -> RandomView | StillView:
    augment = cfg.augment
    random = augment.flip or augment.scale or augment.rotate or augment.color
    if not random and cfg.resize in ("fit", "stretch"):
        return StillView(frame_of(cfg, spec))
    return RandomView(frame_of(cfg, spec), augment)
