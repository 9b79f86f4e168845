"""A decoder on a backbone of the registry, with a layer that says a class for each pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from visiontl import Backbone, BackboneError, TrainingError
from visiontl.kit.classes import names_in
from visiontl.kit.words import count
from visiontl_segmentation.config import SMALLEST, SegmentationConfig
from visiontl_segmentation.decoders import POOLED, Decoder
from visiontl_segmentation.heads import LibraryDecoder
from visiontl_segmentation.views import Frame, padded
from visiontl_segmentation.windows import blended


def model(cfg: SegmentationConfig, backbone: Backbone, meta: Mapping[str, Any]) -> Segmenter:
    """Raises BackboneError for a backbone that cannot serve, with the nearest choice that can."""
    spec, smallest = backbone.spec, SMALLEST.get(cfg.decoder.name, 0)
    if spec.sizing == "fixed" and min(spec.size) < smallest:
        raise BackboneError(
            f"task.decoder {cfg.decoder.name} needs images of {smallest} x {smallest} pixels or more, and "
            f"{backbone.name} takes {spec.size[0]} x {spec.size[1]} only; choose task.decoder=fpn"
        )
    if spec.sizing == "fixed" and cfg.resize not in ("fit", "stretch") and cfg.windows is None:
        raise BackboneError(
            f"{backbone.name} takes images of {spec.size[0]} x {spec.size[1]} pixels only, and "
            f"task.resize={cfg.resize} shows whole photos of other sizes; give task.windows={{}}, "
            "task.resize=fit, or another backbone"
        )
    weights = cfg.loss.class_weights
    classes = len(names_in(meta))
    if isinstance(weights, list) and len(weights) != classes:
        raise BackboneError(f"task.loss.class_weights: {count(len(weights), 'weight')} for {count(classes, 'class')}")
    return Segmenter(cfg, backbone, classes)


class Segmenter(nn.Module):
    """forward(batch) -> in training {"logits": (B, K, H, W)}, at the size of the images; in evaluation {"logits":
    (B, K, h, w) or a list of (K, h, w) where images differ in size, "extent": (B, 2)}: the (H', W') in pixels of the
    image, padding included, that the map stands for."""

    def __init__(self, cfg: SegmentationConfig, backbone: Backbone, classes: int):
        super().__init__()
        made = LibraryDecoder if cfg.decoder.name.startswith("torchvision_") else Decoder
        self.decode = made(cfg.decoder, backbone)
        self.corners = cfg.decoder.align_corners
        self.head = nn.Conv2d(self.decode.width, classes, cfg.decoder.kernel, padding=cfg.decoder.kernel // 2)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        self.windows = cfg.windows
        self.least = SMALLEST.get(cfg.decoder.name, 0)
        self.pooled = cfg.decoder.name in POOLED

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        images = batch["image"]
        if self.training:
            if self.pooled and len(images) == 1:
                raise TrainingError(
                    f"task.decoder {self.decode.name} normalizes over one pixel per image, which needs two images or "
                    "more in a batch: raise train.batch_size, or choose task.decoder=fpn"
                )
            small, extent = self.small(images)
            return {"logits": upsampled(small, extent, self.corners)[..., : images.shape[2], : images.shape[3]]}
        if self.windows is not None:
            spec = self.decode.backbone.spec
            maps = [blended(self, image, spec, self.windows.overlap) for image in images]
            extents = [tuple(one.shape[1:]) for one in maps]
        elif isinstance(images, Tensor):
            maps, extent = self.evaluated(images)
            extents = [extent] * len(images)
        else:
            pairs = [self.evaluated(image[None]) for image in images]
            maps, extents = [one[0] for one, _ in pairs], [extent for _, extent in pairs]
        return {"logits": maps, "extent": torch.tensor(extents)}

    def small(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> logits (B, K, h, w) as the decoder gives them, and the (H', W') that they stand for."""
        decoded, extent = self.decode(images)
        return self.head(decoded), extent

    def evaluated(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The same; at (H', W') where corners lie on corners, because what follows enlarges from centers of pixels."""
        small, extent = self.small(images)
        return (upsampled(small, extent, True) if self.corners else small), extent

    def at_pixels(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 of any size -> logits (B, K, H, W), padded as the backbone needs it and cut again."""
        height, width = images.shape[2:]
        spec = self.decode.backbone.spec
        size = Frame(spec, "original", self.least).canvas((height, width))
        if size != (height, width):
            images = torch.stack([padded(image.cpu(), size, spec) for image in images]).to(images.device)
        small, extent = self.small(images)
        return upsampled(small, extent, self.corners)[..., :height, :width]


def upsampled(small: Tensor, extent: tuple[int, int], corners: bool = False) -> Tensor:
    if tuple(small.shape[2:]) == extent:
        return small
    return functional.interpolate(small, extent, mode="bilinear", align_corners=corners)
