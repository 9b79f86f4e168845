"""What a detector is shown of a photo: its whole, resized, and random views for training, boxes along with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visiontl import ImageSpec, seeded
from visiontl.kit.images import resize_tensor, to_tensor
from visiontl.kit.views import Scene, moved
from visiontl_detection.config import AugmentConfig, DetectionConfig, sides
from visiontl_detection.listing import Annotated

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 800  # pixels of the shorter side under `size: auto`, as torchvision's detectors have it
SHAPE = 1333 / 800  # of the longest input, longer side / shorter side, likewise
GRAY = 114  # fills what zooming out uncovers; 0..255


def settled_size(cfg: DetectionConfig, images: Sequence[Annotated]) -> dict[str, Any]:
    """{"short": sides in pixels, "long": pixels}: as the config says, or (auto) the median of the images' shorter
    sides, at most 800: enlarging photos costs time and shows nothing new."""
    if cfg.size.short == "auto":
        shorter = [min(image.size) for image in images if image.size is not None]
        short = [int(min(LARGEST, max(32, np.median(shorter)))) if shorter else LARGEST]
    else:
        short = sides(cfg.size.short)
    size: dict[str, Any] = {"short": short, "long": cfg.size.long or round(max(short) * SHAPE)}
    return size if cfg.size.resize == "smooth" else {**size, "resize": cfg.size.resize}


def resized(photo: tuple[int, int], short: int, long: int, spec: ImageSpec) -> tuple[int, int]:
    """(H, W) of a photo -> (h, w) of the same shape: `short` on the shorter side, unless the longer one would pass
    `long`. A backbone of one size only: the largest that fits into that."""
    if spec.sizing == "fixed":
        scale = min(spec.size[0] / photo[0], spec.size[1] / photo[1])
    else:
        scale = min(short / min(photo), long / max(photo))
    return max(1, round(photo[0] * scale)), max(1, round(photo[1] * scale))


def sample(cfg: DetectionConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """photo -> {"image": (3, h, w) uint8, "size": (H, W) of the photo}. The function pickles."""
    return partial(whole, spec=spec, size=meta["size"])


def whole(image: Image.Image, spec: ImageSpec, size: Mapping[str, Any]) -> dict[str, Any]:
    photo = (image.height, image.width)
    if size.get("resize") == "torchvision" and spec.sizing != "fixed":
        return {"image": as_torchvision(image, size["short"][-1], size["long"]), "size": photo}
    target = resized(photo, size["short"][-1], size["long"], spec)
    return {"image": resize_tensor(image, target, spec.interpolation).contiguous(), "size": photo}


def as_torchvision(image: Image.Image, short: int, long: int) -> Tensor:
    """Photo -> (3, h, w) float32 0..1, as torchvision.models.detection.transform resizes it: sides rounded down,
    bilinear without smoothing."""
    from torch.nn import functional

    pixels = to_tensor(image).float() / 255
    scale = min(short / min(image.size), long / max(image.size))
    return functional.interpolate(
        pixels[None], scale_factor=scale, mode="bilinear", align_corners=False, recompute_scale_factor=True
    )[0]


@dataclass(frozen=True)
class StillView:
    """The evaluation view with the truth; takes a seed and does not use it."""

    spec: ImageSpec
    size: Mapping[str, Any]

    def __call__(self, image: Image.Image, annotated: Annotated, seed: int) -> dict[str, Any]:
        made = whole(image, self.spec, self.size)
        height, width = made["image"].shape[1:]
        scale = np.array([width / image.width, height / image.height] * 2)
        learned = ~annotated.ignored
        boxes = annotated.boxes[learned] * scale  # (N, 4) in resized pixels
        return {**made, **targets(boxes, annotated.labels[learned]), "truth": truth(annotated)}


def still_view(cfg: DetectionConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> StillView:
    return StillView(spec, meta["size"])


def targets(boxes: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """boxes (N, 4), labels (N,) -> tensors, without what is less than a pixel wide or high."""
    import torch

    kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)  # (N,)
    return {
        "boxes": torch.from_numpy(boxes[kept].astype(np.float32)).reshape(-1, 4),
        "labels": torch.from_numpy(labels[kept].astype(np.int64)),
    }


def truth(annotated: Annotated) -> dict[str, Any]:
    """All boxes as they are scored, in the photo's pixels."""
    import torch

    return {
        "boxes": torch.from_numpy(annotated.boxes.astype(np.float64)).reshape(-1, 4),
        "labels": torch.from_numpy(annotated.labels.astype(np.int64)),
        "ignored": torch.from_numpy(annotated.ignored.astype(bool)),
        "area": torch.from_numpy(annotated.area.astype(np.float64)),
    }


@dataclass(frozen=True)
class RandomView:
    """A random view of a photo with its boxes, a function of the seed alone."""

    spec: ImageSpec
    size: Mapping[str, Any]
    augment: AugmentConfig

    def __call__(self, image: Image.Image, annotated: Annotated, seed: int) -> dict[str, Any]:
        learned = ~annotated.ignored
        with seeded(seed):
            pixels, boxes, labels = self.draw(image, annotated.boxes[learned], annotated.labels[learned])
        return {
            "image": pixels.contiguous(),  # (3, h, w)
            "size": (image.height, image.width),
            **targets(boxes, labels),
            "truth": truth(annotated),
        }

    def draw(self, photo: Image.Image, boxes: np.ndarray, labels: np.ndarray) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """boxes (N, 4) in the photo's pixels -> image (3, h, w) uint8, boxes (M, 4) in its pixels, labels (M,)."""
        import torch
        from torchvision.transforms import InterpolationMode, v2

        augment, spec = self.augment, self.spec
        chance = torch.rand(4).tolist()
        short = self.size["short"][int(torch.randint(len(self.size["short"]), (1,)))]
        factor = 1.0
        if augment.jitter is not None:
            factor = float(torch.empty(1).uniform_(*augment.jitter))
        zoomed, cropped = chance[0] < augment.zoom_out, chance[1] < augment.iou_crop
        if zoomed:  # shrunk first, because the canvas has up to 16 times the pixels
            small = resized((photo.height, photo.width), short, self.size["long"], spec)
            boxes = boxes * np.array([small[1] / photo.width, small[0] / photo.height] * 2)
            pixels = resize_tensor(photo, small, spec.interpolation)
        elif cropped:
            pixels = to_tensor(photo)
        else:
            target = self.target((photo.height, photo.width), short, factor)
            boxes = boxes * np.array([target[1] / photo.width, target[0] / photo.height] * 2)
            pixels = resize_tensor(photo, target, spec.interpolation)
        scene = Scene(pixels, boxes, labels)
        if zoomed:
            scene = moved(scene, v2.RandomZoomOut(fill=GRAY, p=1.0))
        if cropped and len(labels):
            scene = moved(scene, v2.RandomIoUCrop(), v2.SanitizeBoundingBoxes())
        if zoomed or cropped:
            target = self.target(scene.size, short, factor)
            scene = moved(scene, v2.Resize(list(target), InterpolationMode(spec.interpolation)))
        last = []
        if factor > 1:
            room = resized(scene.size, short, self.size["long"], spec)
            last += [v2.RandomCrop(room), v2.SanitizeBoundingBoxes()]
        if augment.flip and chance[2] < 0.5:
            last.append(v2.RandomHorizontalFlip(p=1.0))
        if chance[3] < augment.color:
            last.append(v2.RandomPhotometricDistort())
        scene = moved(scene, *last)
        assert scene.boxes is not None
        assert scene.labels is not None
        inside = np.array(scene.size[::-1] * 2)  # resizing rounds boxes over the border
        return scene.image, scene.boxes.clip(0, inside), scene.labels

    def target(self, photo: tuple[int, int], short: int, factor: float) -> tuple[int, int]:
        height, width = resized(photo, short, self.size["long"], self.spec)
        return max(1, round(height * factor)), max(1, round(width * factor))


def training_view(cfg: DetectionConfig, spec: ImageSpec, meta: Mapping[str, Any]) -> RandomView | StillView:
    augment = cfg.augment
    changes = augment.flip or augment.jitter or augment.zoom_out or augment.iou_crop or augment.color
    if not changes and len(meta["size"]["short"]) == 1:
        return StillView(spec, meta["size"])
    return RandomView(spec, meta["size"], augment)
