"""What a network is shown of a face: the evaluation view, and random views for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import fit_tensor, resize_tensor
from visiontl.kit.views import evaluation_view, random_part
from visiontl_face.config import FaceConfig

CROP_AREA = (0.8, 1.0)  # of the image's pixels: an aligned face fills its image
COLOR = 0.2  # relative change of brightness and contrast, at most


def sample(cfg: FaceConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> sample, as in evaluation. The function pickles."""
    return partial(evaluation_view, spec=spec)


@dataclass(frozen=True)
class RandomView:
    """A random view of a face, a function of the seed alone: mirrored or not; with `crop`, also a part of it, of
    other brightness and contrast."""

    spec: ImageSpec
    crop: bool

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        from torchvision.transforms import v2

        size = (image.height, image.width)
        with seeded(seed):
            if self.crop:
                ratio = self.spec.size[1] / self.spec.size[0]
                image = random_part(image, CROP_AREA, (ratio * 0.9, ratio / 0.9))
                image = v2.ColorJitter(brightness=COLOR, contrast=COLOR)(image)
                view = resize_tensor(image, self.spec.size, self.spec.interpolation)
            else:
                view = fit_tensor(image, self.spec)
            view = v2.RandomHorizontalFlip()(view)
        return {"image": view.contiguous(), "size": size}


def training_view(cfg: FaceConfig, spec: ImageSpec) -> RandomView:
    return RandomView(spec, crop=cfg.augment == "light")
