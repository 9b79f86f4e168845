"""torchvision's whole detectors: their names, and what each is of. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PREFIX = "torchvision/"
PLAIN: dict[str, Any] = {"size.short": 800, "size.long": 1333}  # how photos are resized where it is not said
THRESHOLDS: dict[str, dict[str, Any]] = {  # the constructors' own
    "faster_rcnn": {"score_threshold": 0.05, "nms": 0.5, "detections": 100},
    "retinanet": {"score_threshold": 0.05, "nms": 0.5, "detections": 300},
    "fcos": {"score_threshold": 0.2, "nms": 0.6, "detections": 100},
}
SIDES = (32, 64, 128, 256, 512)
ALL_SIDES = [[float(side) for side in SIDES] for _ in range(3)]  # of the two levels and the pooled one
THIRDS = [[float(side), float(int(side * 2 ** (1 / 3))), float(int(side * 2 ** (2 / 3)))] for side in SIDES]


@dataclass(frozen=True)
class Design:
    """head, design: as in the config. backbone: of torchvision. used: what the constructor sets beside them."""

    head: str
    design: str
    backbone: str
    used: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def prefers(self) -> dict[str, Any]:
        return {**PLAIN, "size.resize": "torchvision", **THRESHOLDS[self.head], **self.used}


LOW = {"size.short": 320, "size.long": 640, "proposals": 150, "proposal_threshold": 0.05}
DESIGNS: dict[str, Design] = {
    "fasterrcnn_resnet50_fpn": Design("faster_rcnn", "v1", "resnet50"),
    "fasterrcnn_resnet50_fpn_v2": Design("faster_rcnn", "v2", "resnet50"),
    "fasterrcnn_mobilenet_v3_large_fpn": Design("faster_rcnn", "v1", "mobilenet_v3_large"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Design("faster_rcnn", "v1", "mobilenet_v3_large", LOW),
    "retinanet_resnet50_fpn": Design("retinanet", "v1", "resnet50"),
    "retinanet_resnet50_fpn_v2": Design("retinanet", "v2", "resnet50"),
    "fcos_resnet50_fpn": Design("fcos", "v1", "resnet50"),
}
NO_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")  # whose COCO_V1 was trained with norms of eps 0
NAMES = tuple(PREFIX + name for name in DESIGNS)
