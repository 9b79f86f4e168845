"""What a network is shown of a photo: random changes that move image, boxes and mask together. Imports no torch."""

# pyright: reportMissingTypeStubs=false
# torchvision has no types of its own

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visiontl.entry import ImageSpec
from visiontl.kit.images import fit_tensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scene:
    """An image and what lies on it.

    image: (3, H, W) uint8. boxes: (N, 4) x1 y1 x2 y2 in pixels of the image, with labels: (N,) whole numbers.
    mask: (H, W) uint8.
    """

    image: Tensor
    boxes: np.ndarray | None = None
    labels: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)"""
        return int(self.image.shape[1]), int(self.image.shape[2])


def moved(scene: Scene, *transforms: Callable[[Any], Any], seed: int | None = None) -> Scene:
    """The scene after transforms of torchvision.transforms.v2, each drawn once for image, boxes and mask.

    A transform that leaves boxes out (SanitizeBoundingBoxes) leaves out their labels too; masks are never blended.
    With a seed the result is a function of it; without one, chance goes on from torch's generator, for callers that
    are inside `visiontl.seeded`.
    """
    import torch
    from torchvision import tv_tensors

    from visiontl.processes.seeds import seeded

    inputs: dict[str, Any] = {"image": tv_tensors.Image(scene.image)}
    if scene.boxes is not None:
        boxes: Any = tv_tensors.BoundingBoxes  # its annotations know no keyword of these
        inputs["boxes"] = boxes(torch.as_tensor(scene.boxes, device="cpu"), format="XYXY", canvas_size=scene.size)
        inputs["labels"] = torch.as_tensor(scene.labels, device="cpu")
    if scene.mask is not None:
        mask = torch.as_tensor(np.ascontiguousarray(scene.mask), device="cpu")
        inputs["mask"] = tv_tensors.Mask(mask[None])  # (1, H, W)
    with nullcontext() if seed is None else seeded(seed):
        for transform in transforms:
            inputs = transform(inputs)
    return Scene(
        inputs["image"].as_subclass(torch.Tensor),
        inputs["boxes"].numpy() if "boxes" in inputs else None,
        inputs["labels"].numpy() if "labels" in inputs else None,
        inputs["mask"].as_subclass(torch.Tensor)[0].numpy() if "mask" in inputs else None,
    )


def random_part(image: Image.Image, area: tuple[float, float], shape: tuple[float, float]) -> Image.Image:
    """A random part of a photo: of a share `area` (least, most) of its pixels, and `shape` (least, most) width / height
    (Szegedy et al. 2015, Going deeper with convolutions, section 6). Drawn from torch's generator."""
    from torchvision.transforms import RandomResizedCrop

    photo: Any = image  # only a tensor, by its annotation
    top, left, height, width = RandomResizedCrop.get_params(photo, list(area), list(shape))
    return image.crop((left, top, left + width, top + height))


def evaluation_view(image: Image.Image, spec: ImageSpec) -> dict[str, Any]:
    """The weights' own preprocessing: {"image": (3, H, W) uint8, "size": (H, W) of the photo}."""
    return {"image": fit_tensor(image, spec), "size": (image.height, image.width)}
