"""What a network is shown of a photo: the evaluation view, and random views for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import Image

from visiontl import ImageSpec, fit_image, seeded, to_tensor
from visiontl_classification.config import ClassificationConfig

# Share of the photo's area that a random crop keeps. 0.35 is what fastai's Imagenette baselines train with;
# 0.7 stays near the scale of the evaluation crop, because small crops make objects larger in training than in
# testing (Touvron et al. 2019, Fixing the train-test resolution discrepancy).
CROP_AREA = {
    "light": (0.7, 1.0),
    "standard": (0.35, 1.0),
    "trivialaugment": (0.35, 1.0),
    "randaugment": (0.35, 1.0),
}
COLOUR = 0.2  # relative change of brightness, contrast and saturation, at most
GREY = [128, 128, 128]  # fills what a rotation uncovers


def sample(cfg: ClassificationConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> sample, as in evaluation. The function pickles."""
    return partial(evaluation_view, spec=spec)


def evaluation_view(image: Image.Image, spec: ImageSpec) -> dict[str, Any]:
    """{"image": (3, H, W) uint8, "size": (H, W) of the photo}."""
    return {"image": to_tensor(fit_image(image, spec)), "size": (image.height, image.width)}


@dataclass(frozen=True)
class RandomView:
    """A random view of a photo, a function of the seed alone."""

    transform: Callable[[Image.Image], Image.Image]

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        with seeded(seed):
            view = self.transform(image)
        return {"image": to_tensor(view), "size": (image.height, image.width)}


def training_view(cfg: ClassificationConfig, spec: ImageSpec) -> RandomView:
    """The preset cfg.augment, made of torchvision's v2 transforms on PIL images.

    light: RandomResizedCrop of 70 to 100 % of the area; standard: 35 to 100 %, and ColorJitter of 20 %;
    trivialaugment: 35 to 100 % and TrivialAugmentWide (Müller and Hutter 2021); randaugment: 35 to 100 % and
    RandAugment with 2 operations of magnitude 9 (Cubuk et al. 2020). All mirror half of the images where
    cfg.flip says so.
    """
    from torchvision.transforms import v2

    interpolation = v2.InterpolationMode(spec.interpolation)
    steps: list[Any] = [v2.RandomResizedCrop(spec.size, scale=CROP_AREA[cfg.augment], interpolation=interpolation)]
    if cfg.flip:
        steps.append(v2.RandomHorizontalFlip())
    if cfg.augment == "standard":
        steps.append(v2.ColorJitter(brightness=COLOUR, contrast=COLOUR, saturation=COLOUR))
    elif cfg.augment == "trivialaugment":
        steps.append(v2.TrivialAugmentWide(fill=GREY))
    elif cfg.augment == "randaugment":
        steps.append(v2.RandAugment(num_ops=2, magnitude=9, fill=GREY))
    return RandomView(v2.Compose(steps))
