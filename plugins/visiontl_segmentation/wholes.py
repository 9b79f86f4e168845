"""Whole segmentation models of torchvision: their names, and what each is of. Imports no torch."""

from __future__ import annotations

PREFIX = "torchvision/"
MODELS: dict[str, tuple[str, str, int]] = {  # name -> decoder, backbone, stride of its deepest map
    "fcn_resnet50": ("torchvision_fcn", "resnet50", 8),
    "fcn_resnet101": ("torchvision_fcn", "resnet101", 8),
    "deeplabv3_resnet50": ("torchvision_deeplabv3", "resnet50", 8),
    "deeplabv3_resnet101": ("torchvision_deeplabv3", "resnet101", 8),
    "deeplabv3_mobilenet_v3_large": ("torchvision_deeplabv3", "mobilenet_v3_large", 16),
    "lraspp_mobilenet_v3_large": ("torchvision_lraspp", "mobilenet_v3_large", 16),
}
NAMES = tuple(PREFIX + name for name in MODELS)
