"""The `task:` section of a segmentation config, and what a user may ask of predict. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from visiontl import Section
from visiontl.kit.bad_annotations import MOST, MOST_HELP, ON_BAD_HELP, BadAnnotations

SMALLEST = {"pan": 128}  # pixels of a side that a decoder needs: three halvings of a map of stride 16
LOSSES = ("cross_entropy", "dice", "jaccard", "tversky", "focal", "lovasz")

# What `augment: NAME` is short for. standard: the random scale, crop and flip of the FCN and DeepLab recipes (Chen et
# al. 2017, "Rethinking atrous convolution", section 4.1) with color; strong: rotation as well.
PRESETS: dict[str, dict[str, Any]] = {
    "none": {"flip": False},
    "light": {},
    "standard": {"scale": [0.5, 2.0], "color": 0.5},
    "strong": {"scale": [0.5, 2.0], "rotate": 15, "color": 0.8},
}

Color = tuple[int, int, int]
DECODERS = Literal[
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt", "torchvision_fcn", "torchvision_deeplabv3", "torchvision_lraspp",
]  # fmt: skip


def expand_data(value: Any) -> Any:
    return {"folder": value} if isinstance(value, str) else value


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | str) and not isinstance(value, bool) else value


class DataConfig(Section):
    """Where images and masks are, and what the masks' values mean."""

    folder: str = Field(description="a data set: folders of images and masks, Pascal VOC, or COCO JSON")
    format: Literal["auto", "folders", "voc", "coco"] = Field("auto", description="auto: by the folder's layout")
    images: str | None = Field(
        None, description="folders: where images are, in `folder`, such as images/{split}; null: found by the layout"
    )
    masks: str | None = Field(None, description="folders: where masks are, such as masks/{split}, likewise")
    image_suffix: str = Field("", description="folders: ending of an image's stem that its mask has not")
    mask_suffix: str = Field("", description="folders: ending of a mask's stem, such as _labelIds; others are no masks")
    unpaired: Literal["error", "skip"] = Field(
        "error", description="files without their counterpart; skip: left out, counted and named"
    )
    values: Literal["auto", "index", "color", "binary", "levels", "alpha"] = Field(
        "auto",
        description="what a mask's pixels are: class indices (palette images too), colors of a table, two values such "
        "as 0 and 255, a class for each value that areas have, or how opaque they are; auto: by all training masks",
    )
    classes: list[str] | None = Field(
        default=None, description="names in the order of their indices; null: from the data, or its classes.txt"
    )
    colors: dict[str, Color] | None = Field(
        default=None, description="{name: [r, g, b]}, 0..255, of color masks; also drawn with; null: from the data"
    )
    ignore_index: Annotated[list[int | str], BeforeValidator(as_list)] = Field(
        default=[255], description="values or class names that are neither learned nor scored nor drawn"
    )
    background: str | None = Field(
        default=None, description="name of the class that is background; coco: of what no annotation covers"
    )
    background_policy: Literal["class", "unscored", "ignore"] = Field(
        default="class",
        description="class: like any other; unscored: learned, but left out of mean scores; ignore: neither",
    )
    on_bad_annotation: Literal["error", "skip"] = Field("error", description=f"coco: {ON_BAD_HELP}")
    max_bad_annotations: float = Field(MOST, ge=0, le=1, description=MOST_HELP)
    val_fraction: float = Field(0.15, ge=0, lt=1, description="share of train that becomes val where there is none")
    split_seed: int = Field(0, ge=0, description="that split is a function of it and of the file names")

    @field_validator("classes")
    @classmethod
    def different_names(cls, value: list[str] | None) -> list[str] | None:
        if value is not None:
            twice = sorted({name for name in value if value.count(name) > 1})
            if twice or not all(name.strip() for name in value) or not value:
                raise ValueError(f"class names must be different and not empty; got {', '.join(twice or value)!r}")
        return value

    @field_validator("colors")
    @classmethod
    def different_colors(cls, value: dict[str, Color] | None) -> dict[str, Color] | None:
        if value is not None:
            for name, color in value.items():
                if not all(0 <= part <= 255 for part in color):
                    raise ValueError(f"{name}: {list(color)} is no color; expected three numbers 0..255")
            taken: dict[Color, str] = {}
            for name, color in value.items():
                if color in taken:
                    raise ValueError(f"{name} and {taken[color]} have the same color {list(color)}")
                taken[color] = name
        return value

    def bad_annotations(self) -> BadAnnotations:
        return BadAnnotations(self.on_bad_annotation, self.max_bad_annotations)

    @model_validator(mode="after")
    def both_places(self) -> DataConfig:
        if (self.images is None) != (self.masks is None):
            raise ValueError("name both images and masks, or neither to have them found by the layout")
        if self.background_policy != "class" and self.background is None:
            raise ValueError(
                f"background_policy {self.background_policy} needs the name of the class: background: NAME"
            )
        return self


class DecoderConfig(Section):
    """A decoder of segmentation-models-pytorch, or one of torchvision's own."""

    name: DECODERS = Field("fpn", description="which one")
    width: int | None = Field(
        default=None,
        ge=16,
        multiple_of=16,
        description="channels: of a U-Net's deepest block, halved at each finer one, of a pyramid, or of the fused "
        "map; null: the library's default; linknet has none",
    )
    dropout: float | None = Field(
        default=None, ge=0, lt=1, description="fpn, pspnet, deeplabv3, deeplabv3plus only; null: the library's default"
    )
    simple_pyramid: int = Field(
        default=256, ge=16, multiple_of=16, description="channels of the levels that a backbone of one stride is given"
    )

    rates: list[int] | None = Field(
        default=None, description="deeplabv3, deeplabv3plus, torchvision_deeplabv3 only: dilations; null: by stride"
    )
    kernel: Literal[1, 3] = Field(1, description="of the layer that says a class for each place")
    align_corners: bool = Field(
        False, description="how its answers are enlarged; true: as segmentation-models-pytorch enlarges"
    )

    @model_validator(mode="after")
    def keys_that_count(self) -> DecoderConfig:
        if self.rates is not None and (len(self.rates) != 3 or "deeplabv3" not in self.name):
            raise ValueError("rates are three dilations, of deeplabv3, deeplabv3plus and torchvision_deeplabv3 alone")
        if self.name in ("torchvision_fcn", "torchvision_deeplabv3") and self.width is not None:
            raise ValueError(f"{self.name} takes its width from the backbone or has 256 channels; leave width out")
        if self.dropout is not None and self.name not in ("fpn", "pspnet", "deeplabv3", "deeplabv3plus"):
            raise ValueError(f"{self.name} has no dropout; leave it out")
        if self.width is not None and self.name == "linknet":
            raise ValueError("linknet takes its widths from the backbone; leave width out")
        if self.width is not None and self.name == "fpn" and self.width % 64:
            raise ValueError(f"fpn normalizes half of its channels in 32 groups: a multiple of 64, not {self.width}")
        return self


def expand_decoder(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def check_size(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, int) and value < 16):
        raise ValueError(f"expected fit, stretch, original, or pixels of the shorter side from 16 on; got {value}")
    return value


class AugmentConfig(Section):
    """Random changes of training images, masks along with them."""

    flip: bool = Field(default=True, description="mirror half of the images")
    scale: tuple[float, float] | None = Field(
        default=None, description="scale by a factor drawn from this range, then crop or pad to backbone.image_size"
    )
    rotate: float = Field(default=0.0, ge=0, le=180, description="turn by up to so many degrees to either side")
    color: float = Field(
        default=0.0, ge=0, le=1, description="share of images changed in brightness, contrast, saturation, hue"
    )

    @field_validator("scale")
    @classmethod
    def ordered(cls, value: Any) -> Any:
        if value is not None and not 0.1 <= value[0] <= value[1] <= 4:
            raise ValueError(f"expected [least, most] between 0.1 and 4; got {list(value)}")
        return value


def expand_augment(value: Any) -> Any:
    if isinstance(value, str) and value in PRESETS:
        return PRESETS[value]
    if isinstance(value, str):
        raise ValueError(f"{value!r} is no preset; presets are {', '.join(PRESETS)}, or give a mapping")
    return value


def expand_loss(value: Any) -> Any:
    return {value: 1.0} if isinstance(value, str) else value


class LossConfig(Section):
    """Weights of the parts of the loss; what is 0 is not computed."""

    cross_entropy: float = Field(0.0, ge=0, description="of each pixel")
    dice: float = Field(0.0, ge=0, description="Milletari et al. 2016")
    jaccard: float = Field(0.0, ge=0, description="soft IoU, Rahman and Wang 2016")
    tversky: float = Field(0.0, ge=0, description="Salehi et al. 2017")
    focal: float = Field(0.0, ge=0, description="Lin et al. 2017")
    lovasz: float = Field(0.0, ge=0, description="Lovász-softmax, Berman et al. 2018")
    class_weights: Literal["balanced"] | list[float] | None = Field(
        default=None,
        description="cross_entropy and focal: one per class, or balanced: median share / own share of the pixels, at "
        "most 10 (Eigen and Fergus 2015)",
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="cross_entropy only")
    focal_gamma: float = Field(2.0, ge=0, description="focal only")
    tversky_alpha: float = Field(0.3, ge=0, le=1, description="tversky only: weight of false positives")
    tversky_beta: float = Field(0.7, ge=0, le=1, description="tversky only: weight of false negatives")

    def parts(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in LOSSES if getattr(self, name) > 0}

    @model_validator(mode="after")
    def something_to_minimize(self) -> LossConfig:
        if not self.parts():
            raise ValueError(f"no part has a weight above 0; parts are {', '.join(LOSSES)}")
        weights = self.class_weights
        if isinstance(weights, list) and (not weights or min(weights) < 0 or max(weights) == 0):
            raise ValueError(f"class_weights must not be negative, and one must be above 0; got {weights}")
        if weights is not None and not {"cross_entropy", "focal"} & self.parts().keys():
            raise ValueError("class_weights count in cross_entropy and focal only; give one of them a weight")
        if self.tversky_alpha + self.tversky_beta == 0:
            raise ValueError("tversky_alpha and tversky_beta are both 0, so no mistake would count")
        return self


class WindowConfig(Section):
    """How an image is gone through in parts of backbone.image_size."""

    overlap: float = Field(0.25, ge=0, le=0.9, description="share of a window's side that it shares with the next")


class SegmentationConfig(Section):
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a folder, or a mapping; example: a small set drawn on the spot"
    )
    decoder: Annotated[DecoderConfig, BeforeValidator(expand_decoder)] = Field(
        default_factory=lambda: DecoderConfig.model_validate({}), description="its name, or a mapping"
    )
    loss: Annotated[LossConfig, BeforeValidator(expand_loss)] = Field(
        default_factory=lambda: LossConfig.model_validate({"cross_entropy": 1.0}),
        description="a part's name, or a mapping of weights; each part is a mean per image, then over images",
    )
    resize: Annotated[Literal["fit", "stretch", "original"] | int, BeforeValidator(check_size)] = Field(
        default="fit",
        description="how large photos are shown: fit: within backbone.image_size, in their shape; stretch: exactly so; "
        "original: as they are; N: shorter side of N pixels. Training crops of image_size, evaluation the whole",
    )
    augment: Annotated[AugmentConfig, BeforeValidator(expand_augment)] = Field(
        default_factory=AugmentConfig, description="none, light, standard, strong, or a mapping"
    )
    windows: WindowConfig | None = Field(
        default=None,
        description="evaluate in overlapping windows of backbone.image_size; null: the whole image at once",
    )


def numbers(value: Any) -> Any:
    """0.75,1 and 0.75 -> a list, as a command line has them; anything else as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return [value]
    return [one.strip() for one in value.split(",")] if isinstance(value, str) else value


class PredictOptions(Section):
    """What a user may ask of predict."""

    windows: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="go through the photo in windows of the training size; auto: as in evaluation, and where the "
        "photo as shown has more than 4 megapixels",
    )
    overlap: float = Field(default=0.25, ge=0, le=0.9, description="of the windows")
    resize: Annotated[Literal["fit", "stretch", "original"] | int | None, BeforeValidator(check_size)] = Field(
        default=None, description="how large the photo is shown, in place of the training's: fit, stretch, original, N"
    )
    flip: bool = Field(
        default=False, description="look at the mirrored image too: mean probabilities; costs twice the time"
    )
    scales: Annotated[list[float], BeforeValidator(numbers)] = Field(
        default=[1.0],
        min_length=1,
        max_length=16,
        description="look at the photo in these sizes, as in scales=0.75,1,1.25; mean probabilities of all",
    )
    classes: list[str] | None = Field(
        default=None, description="report the area of these classes only", json_schema_extra={"choices": "classes"}
    )

    @field_validator("scales")
    @classmethod
    def sensible(cls, value: list[float]) -> list[float]:
        if not all(0.25 <= one <= 4 for one in value):
            raise ValueError(f"scales must lie between 0.25 and 4; got {value}")
        if len(set(value)) < len(value):
            raise ValueError(f"scales must differ, for one that stands twice would weigh twice; got {value}")
        return value


class ExplainOptions(Section):
    """What an explanation is to be of."""

    label: str | int | None = Field(
        default=None,
        description="a class, whose region in the answer it is; null: the largest but the background's",
        json_schema_extra={"choices": "classes"},
    )


def ranked(cfg: SegmentationConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights."""
    names = ("miou", "miou_per_image", "miou_as_shown", "dice", "accuracy", "accuracy_per_class")
    return dict.fromkeys(names, "max")
