"""The `task:` section of a detection config, and what a user may ask of predict. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from visiontl import Section
from visiontl.kit.bad_annotations import MOST, MOST_HELP, ON_BAD_HELP, BadAnnotations

# What `augment: NAME` is short for. light: the recipe of torchvision's Faster R-CNN; strong: that of SSD (Liu et al.
# 2016, section 2.2) but for its shape.
PRESETS: dict[str, dict[str, Any]] = {
    "none": {"flip": False},
    "light": {},
    "standard": {"jitter": [0.75, 1.33], "color": 0.5},
    "strong": {"zoom_out": 0.5, "iou_crop": 0.8, "color": 0.5},
}


def expand_names(value: Any) -> Any:
    return [value] if isinstance(value, str) and value != "absent" else value


def expand_data(value: Any) -> Any:
    return {"folder": value} if isinstance(value, str) else value


class DataConfig(Section):
    """Where images and annotations are."""

    folder: str = Field(description="a data set: COCO JSON, Pascal VOC XML or YOLO text with data.yaml")
    format: Literal["auto", "coco", "voc", "yolo"] = Field("auto", description="auto: by the folder's layout")
    train: str | None = Field(None, description="annotations of train, in `folder`: coco a .json, voc and yolo a list")
    val: str | None = Field(None, description="annotations of val, likewise")
    test: str | None = Field(None, description="annotations of test, likewise")
    images: str | None = Field(None, description="folder of the images, in `folder`; null: found by the layout")
    val_fraction: float = Field(0.15, ge=0, lt=1, description="share of train that becomes val where there is none")
    split_seed: int = Field(0, ge=0, description="that split is a function of it and of the file names")
    difficult: Literal["use", "ignore"] = Field(
        "use", description="voc: objects marked difficult; ignore: neither learned nor counted, as the challenge did"
    )
    on_bad_annotation: Literal["error", "skip"] = Field("error", description=ON_BAD_HELP)
    max_bad_annotations: float = Field(MOST, ge=0, le=1, description=MOST_HELP)

    def bad_annotations(self) -> BadAnnotations:
        return BadAnnotations(self.on_bad_annotation, self.max_bad_annotations)

    @model_validator(mode="after")
    def named_splits_have_train(self) -> DataConfig:
        if self.train is None and (self.val or self.test):
            raise ValueError(
                "val or test is named but train is not; name all, or none to have them found by the layout"
            )
        return self


class ClassesConfig(Section):
    """What a model is to know."""

    leave_out: Annotated[Literal["absent"] | list[str], BeforeValidator(expand_names)] = Field(
        default=[],
        description="names of classes to leave out with all their boxes; absent: those that train has no box of, which "
        "is an error otherwise",
    )


class SizeConfig(Section):
    """The size that photos are brought to; their shape is kept."""

    short: Literal["auto"] | int | list[int] = Field(
        default="auto",
        description="pixels of the shorter side; several: one is drawn per training image, the last one evaluates; "
        "auto: the median of the training images, at most 800",
    )
    long: int | None = Field(
        default=None,
        ge=32,
        description="pixels that the longer side has at most, the shorter one gives way; null: 1333 / 800 of the "
        "largest shorter side",
    )
    resize: Literal["smooth", "torchvision"] = Field(
        default="smooth",
        description="torchvision: as its own detectors do: without smoothing, sides rounded down, values not rounded",
    )

    @field_validator("short")
    @classmethod
    def positive(cls, value: Any) -> Any:
        if value != "auto" and (value == [] or min(sides(value)) < 32):
            raise ValueError(f"sides must have at least 32 pixels; got {value}")
        return value

    @model_validator(mode="after")
    def long_is_longer(self) -> SizeConfig:
        if self.long is not None and self.short != "auto" and self.long < max(sides(self.short)):
            raise ValueError(f"long {self.long} is below short {max(sides(self.short))}")
        return self


def sides(short: Any) -> list[int]:
    return short if isinstance(short, list) else [short]


def expand_size(value: Any) -> Any:
    return {"short": value} if isinstance(value, int | list | str) and not isinstance(value, bool) else value


class AugmentConfig(Section):
    """Random changes of training images, boxes along with them."""

    flip: bool = Field(default=True, description="mirror half of the images")
    jitter: tuple[float, float] | None = Field(
        default=None,
        description="scale by a factor drawn from this range, then crop to, or leave as small as, it is; large-scale "
        "jitter is [0.1, 2.0]",
    )
    zoom_out: float = Field(
        default=0.0, ge=0, le=1, description="share of images put on a canvas up to 4 times as large"
    )
    iou_crop: float = Field(
        default=0.0, ge=0, le=1, description="share of images cropped so that boxes overlap enough (SSD)"
    )
    color: float = Field(
        default=0.0, ge=0, le=1, description="share of images changed in brightness, contrast, hue ..."
    )

    @field_validator("jitter")
    @classmethod
    def ordered(cls, value: Any) -> Any:
        if value is not None and not 0.05 <= value[0] <= value[1] <= 4:
            raise ValueError(f"expected [least, most] between 0.05 and 4; got {list(value)}")
        return value


def expand_augment(value: Any) -> Any:
    if isinstance(value, str) and value in PRESETS:
        return PRESETS[value]
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no preset; presets are {', '.join(PRESETS)}, or give a mapping")
    return value


class AnchorsConfig(Section):
    """The shapes that boxes are predicted from. Pixels are those of the resized image."""

    kind: Literal["default", "fitted"] = Field(
        default="default",
        description="default: squares of 8 (faster_rcnn) or 4 (retinanet) strides; fitted: k-means of the data",
    )
    scale: float = Field(default=1.0, gt=0, description="default only: multiplies the sizes; below 1 for small objects")
    ratios: list[float] = Field(default=[0.5, 1.0, 2.0], min_length=1, description="default only: height / width")
    per_level: int = Field(default=3, ge=1, le=12, description="fitted only: shapes per pyramid level")
    sizes: list[list[float]] | None = Field(
        default=None, description="default only: per pyramid level the sides of its squares, in place of strides"
    )


def expand_anchors(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class DetectionConfig(Section):
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a folder, or a mapping; example: a small set drawn on the spot"
    )
    classes: ClassesConfig = Field(default_factory=ClassesConfig, description="which classes are learned")
    head: Literal["faster_rcnn", "retinanet", "fcos"] = Field(
        "faster_rcnn", description="torchvision's detector on the backbone's pyramid"
    )
    design: Literal["v1", "v2"] = Field(
        "v1",
        description="v2: as torchvision's *_v2 models: faster_rcnn: norms in its pyramid, two layers before its "
        "proposals, four convolutions before its boxes; retinanet: group norm, P6 from the backbone, GIoU loss",
    )
    pyramid: list[str] | None = Field(
        None, description="modules of the backbone that the feature pyramid begins with; null: its levels by stride"
    )
    size: Annotated[SizeConfig, BeforeValidator(expand_size)] = Field(
        default_factory=SizeConfig, description="pixels of the shorter side, or a mapping"
    )
    augment: Annotated[AugmentConfig, BeforeValidator(expand_augment)] = Field(
        default_factory=AugmentConfig, description="none, light, standard, strong, or a mapping"
    )
    anchors: Annotated[AnchorsConfig, BeforeValidator(expand_anchors)] = Field(
        default_factory=AnchorsConfig, description="default, fitted, or a mapping; fcos has none"
    )
    fpn_width: int = Field(256, ge=32, multiple_of=32, description="channels of the feature pyramid")
    box_width: int = Field(1024, ge=16, description="faster_rcnn only: width of the two layers that judge a region")
    regions: int = Field(
        512,
        ge=1,
        description="faster_rcnn only: regions per image that its second stage learns from; fewer are faster, on a CPU "
        "by much",
    )
    proposals: int = Field(1000, ge=1, description="faster_rcnn only: regions per level and image, in evaluation")
    proposal_threshold: float = Field(
        0.0, ge=0, lt=1, description="faster_rcnn only: regions below are dropped by its first stage"
    )
    group_by_aspect: bool = Field(True, description="batches of only upright or only wide images: less padding")
    score_threshold: float = Field(
        0.05, ge=0, lt=1, description="detections below are dropped before anything is scored"
    )
    nms: float = Field(0.5, gt=0, le=1, description="of two boxes of a class with this IoU or more one is dropped")
    detections: int = Field(100, ge=1, description="detections per image at most")
    operating_point: float = Field(
        0.5, ge=0, le=1, description="score from which precision, recall and the table of errors count a detection"
    )
    evaluator: Literal["pycocotools", "faster-coco-eval"] = Field(
        "pycocotools", description="faster-coco-eval (to be installed) gives the same numbers sooner on large sets"
    )

    @model_validator(mode="after")
    def anchors_fit_the_head(self) -> DetectionConfig:
        if self.head == "fcos" and self.anchors != AnchorsConfig():
            raise ValueError("fcos predicts from points and has no anchors; leave anchors out, or use another head")
        if self.head == "fcos" and self.design == "v2":
            raise ValueError("design: v2 is one of faster_rcnn and retinanet; fcos has one design")
        if self.pyramid is not None and (not self.pyramid or self.anchors.kind == "fitted"):
            raise ValueError("pyramid names one module or more, and its anchors are default ones")
        return self


class PredictOptions(Section):
    """What a user may ask of predict."""

    threshold: float = Field(default=0.5, ge=0, le=1, description="detections from this score on")
    flip: bool = Field(
        default=False,
        description="look at the mirrored image too: of boxes that overlap the best stays; costs twice the time",
    )
    classes: list[str] | None = Field(
        default=None, description="these classes only", json_schema_extra={"choices": "classes"}
    )
    most: int | None = Field(default=None, ge=1, description="detections per image at most")


class ExplainOptions(Section):
    """What an explanation is to be of."""

    box: int = Field(default=1, ge=1, description="number of the box, 1: the one with the highest score")
    label: str | int | None = Field(
        default=None,
        description="count the boxes of this class only; null: all",
        json_schema_extra={"choices": "classes"},
    )


def ranked(cfg: DetectionConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights."""
    sizes = ("small", "medium", "large")
    names = ["mAP", "AP50", "AP75", *(f"AP_{size}" for size in sizes)]
    names += ["AR1", "AR10", "AR100", *(f"AR_{size}" for size in sizes), "precision", "recall"]
    if cfg.detections > 100:
        names += [f"AR{cfg.detections}", "coco_mAP", "coco_AP50", "coco_AP75"]
    return {**dict.fromkeys(names, "max"), "false_alarms": "min"}
