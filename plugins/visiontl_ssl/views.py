"""What the network is shown of a photo: two random views to learn from; to be judged, the photo as every task sees it
in evaluation, and a view that is always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import resize_tensor
from visiontl.kit.views import evaluation_view, random_part
from visiontl_ssl.config import SslConfig

if TYPE_CHECKING:
    from torch import Tensor

JITTER = (0.4, 0.4, 0.4, 0.1)  # of brightness, contrast, saturation and hue (Chen and He 2021, section 4)
OFTEN, GRAY, BLURRED = 0.8, 0.2, 0.5  # shares of the views
SHAPE = (3 / 4, 4 / 3)  # width / height of a part
SIGMA = (0.1, 2.0)  # pixels, of the blur at 224; less at less


def sample(cfg: SslConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[[Image.Image], dict[str, Any]]:
    """photo -> {"image": (3, H, W) uint8 as in evaluation, "size": (H, W) of the photo}."""
    return partial(evaluation_view, spec=spec)


def random_view(image: Image.Image, cfg: SslConfig, spec: ImageSpec, seed: int) -> Tensor:
    """(3, H, W) uint8, a function of the seed: a part of the photo, mirrored half of the time, in other colors."""
    import torch
    from torchvision.transforms import v2

    with seeded(seed):
        pixels = resize_tensor(random_part(image, cfg.area, SHAPE), spec.size, spec.interpolation)
        chance = torch.rand(4).tolist()
        if chance[0] < 0.5:
            pixels = pixels.flip(2)
        if cfg.color and chance[1] < OFTEN:
            amounts = [min(one * cfg.color, most) for one, most in zip(JITTER, (1, 1, 1, 0.5), strict=True)]
            pixels = v2.ColorJitter(*amounts)(pixels)
        if cfg.color and chance[2] < GRAY:
            pixels = v2.RandomGrayscale(p=1.0)(pixels)
        if cfg.blur and chance[3] < BLURRED:
            scale = max(min(spec.size) / 224, 0.1)
            kernel = 2 * round(2 * SIGMA[1] * scale) + 1
            pixels = v2.GaussianBlur(kernel, (SIGMA[0], max(SIGMA[1] * scale, 2 * SIGMA[0])))(pixels)
    return pixels.contiguous()
