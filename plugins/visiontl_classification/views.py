"""What a network is shown of a photo: the evaluation view, and random views for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import resize_tensor, to_tensor
from visiontl.kit.views import evaluation_view, random_part
from visiontl_classification.config import ClassificationConfig

if TYPE_CHECKING:
    from torch import Tensor

# Share of the photo's area that a random crop keeps. 0.35 is what fastai's Imagenette baselines train with;
# 0.7 stays near the scale of the evaluation crop, because small crops make objects larger in training than in
# testing (Touvron et al. 2019, Fixing the train-test resolution discrepancy).
CROP_AREA = {
    "light": (0.7, 1.0),
    "standard": (0.35, 1.0),
    "trivialaugment": (0.35, 1.0),
    "randaugment": (0.35, 1.0),
}
COLOR = 0.2  # relative change of brightness, contrast and saturation, at most
GRAY = [128, 128, 128]  # fills what a rotation uncovers


def sample(cfg: ClassificationConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> sample, as in evaluation. The function pickles."""
    return partial(evaluation_view, spec=spec)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of a photo, of a share `area` of its pixels and 3:4 to 4:3 in shape, resized: (3, H, W) uint8."""

    size: tuple[int, int]
    area: tuple[float, float]
    interpolation: str

    def __call__(self, image: Image.Image) -> Tensor:
        return resize_tensor(random_part(image, self.area, (3 / 4, 4 / 3)), self.size, self.interpolation)


@dataclass(frozen=True)
class RandomView:
    """A random view of a photo, a function of the seed alone.

    crop: photo -> (3, H, W) uint8. flip: of that. color: of a PIL image, on which these operations are faster.
    """

    crop: Callable[[Image.Image], Tensor]
    flip: Callable[[Tensor], Tensor] | None = None
    color: Callable[[Image.Image], Image.Image] | None = None

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        with seeded(seed):
            view = self.crop(image)
            view = self.flip(view) if self.flip else view
            if self.color:
                view = to_tensor(self.color(Image.fromarray(view.permute(1, 2, 0).contiguous().numpy())))
        return {"image": view.contiguous(), "size": (image.height, image.width)}


def training_view(cfg: ClassificationConfig, spec: ImageSpec) -> RandomView:
    """The preset cfg.augment, made of torchvision's v2 transforms.

    light: RandomResizedCrop of 70 to 100 % of the area; standard: 35 to 100 %, and ColorJitter of 20 %;
    trivialaugment: 35 to 100 % and TrivialAugmentWide (Müller and Hutter 2021); randaugment: 35 to 100 % and
    RandAugment with 2 operations of magnitude 9 (Cubuk et al. 2020). All mirror half of the images where
    cfg.flip says so.
    """
    from torchvision.transforms import v2

    crop = RandomCrop(spec.size, CROP_AREA[cfg.augment], spec.interpolation)
    flip = v2.RandomHorizontalFlip() if cfg.flip else None
    color: Any = None
    if cfg.augment == "standard":
        color = v2.ColorJitter(brightness=COLOR, contrast=COLOR, saturation=COLOR)
    elif cfg.augment == "trivialaugment":
        color = v2.TrivialAugmentWide(fill=GRAY)
    elif cfg.augment == "randaugment":
        color = v2.RandAugment(num_ops=2, magnitude=9, fill=GRAY)
    return RandomView(crop, flip, color)
