"""What a network is shown of a face: the evaluation view, and random views for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from visiontl import ImageSpec
from visiontl.kit.images import fit_tensor, resize_tensor
from visiontl_face.config import FaceConfig

CROP_AREA = (0.8, 1.0)  # of the image's pixels: an aligned face fills its image
COLOR = 0.2  # relative change of brightness and contrast, at most


def sample(cfg: FaceConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> sample, as in evaluation. The function pickles."""
    return partial(evaluation_view, spec=spec)


def evaluation_view(image: Image.Image, spec: ImageSpec) -> dict[str, Any]:
    """{"image": (3, H, W) uint8, "size": (H, W) of the photo}."""
    return {"image": fit_tensor(image, spec), "size": (image.height, image.width)}


@dataclass(frozen=True)
class RandomView:
    """A random view of a face, a function of the seed alone: mirrored or not; with `crop`, also a part of it, of
    other brightness and contrast."""

    spec: ImageSpec
    crop: bool

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        import torch
        from torchvision.transforms import RandomResizedCrop, v2

        size = (image.height, image.width)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from torch's generator alone
            torch.default_generator.manual_seed(seed)
            if self.crop:
                ratio = self.spec.size[1] / self.spec.size[0]
                photo: Any = image  # only a tensor, by its annotation
                shape = [ratio * 0.9, ratio / 0.9]
                top, left, height, width = RandomResizedCrop.get_params(photo, list(CROP_AREA), shape)
                image = image.crop((left, top, left + width, top + height))
                image = v2.ColorJitter(brightness=COLOR, contrast=COLOR)(image)
                view = resize_tensor(image, self.spec.size, self.spec.interpolation)
            else:
                view = fit_tensor(image, self.spec)
            view = v2.RandomHorizontalFlip()(view)
        return {"image": view.contiguous(), "size": size}


def training_view(cfg: FaceConfig, spec: ImageSpec) -> RandomView:
    return RandomView(spec, crop=cfg.augment == "light")
