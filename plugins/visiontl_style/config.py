"""The `task:` section of a style config, and what a user may ask of predict. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from visiontl import Section

SMALLEST = 32  # pixels of a side: below, the deeper maps of a backbone hold a cell or two


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Paths = Annotated[list[str], BeforeValidator(as_list)]


def expand_data(value: Any) -> Any:
    return {"photos": value} if isinstance(value, str | list) else value


class DataConfig(Section):
    """Where photos and style pictures are."""

    photos: Paths = Field(min_length=1, description="folder of photos, or several; searched in depth")
    val: Paths = Field(default=[], description="folders of held-out photos; empty: val_fraction of `photos`")
    val_fraction: float = Field(0.1, ge=0, lt=1, description="share of `photos` held out where `val` is empty")
    split_seed: int = Field(0, ge=0, description="that split is a function of it and of the file names")
    styles: Paths = Field(default=[], description="style pictures: a file, a folder, or several")
    val_styles: Paths = Field(
        default=[], description="adain only: pictures never trained on, for val; empty: those of `styles`"
    )


def expand_layers(value: Any) -> Any:
    return dict.fromkeys(value, 1.0) if isinstance(value, list) else value


Layers = Annotated[
    Literal["auto"] | dict[str, Annotated[float, Field(gt=0)]],
    BeforeValidator(expand_layers),
]


class StyleConfig(Section):
    """Neural style transfer: feed-forward networks for given styles, or AdaIN for any style."""

    way: Literal["feed_forward", "adain"] = Field(
        default="feed_forward",
        description="feed_forward: one network for the pictures in data.styles; adain: a decoder for any style picture",
    )
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a mapping; example: a few photos and styles drawn on the spot"
    )
    size: int = Field(256, ge=SMALLEST, description="pixels of the squares that photos are judged on")
    crop: int = Field(192, ge=SMALLEST, description="pixels of the square crops that are trained on")
    style_size: int = Field(
        256, ge=SMALLEST, description="pixels of a style picture's shorter side; larger: broader strokes"
    )
    content_layers: Layers = Field(
        default="auto",
        description="modules of the backbone, or map0, map1 ... of its pyramid; a list, or a mapping to weights; "
        "auto: of VGG-16, SqueezeNet 1.1 and MobileNetV2 of torchvision chosen ones, of others the map of stride 8",
    )
    style_layers: Layers = Field(
        default="auto", description="likewise; auto: chosen ones, or the maps of stride 2 to 16"
    )
    encoder_layer: str = Field(
        default="auto", description="adain only: the layer whose statistics are exchanged; auto: the map of stride 4"
    )
    color_jitter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="adain only: in training, how far hue, saturation, brightness and contrast of a style are changed "
        "at random; 1: any hue. A few paintings stand for many palettes",
    )
    content_weight: float = Field(
        1.0, ge=0, description="of the content distance, in spatial variances of the features"
    )
    style_weight: float = Field(4.0, gt=0, description="of the squared Gram distance, relative to the style's own Gram")
    tv_weight: float = Field(2.0, ge=0, description="of the mean squared difference of neighboring pixels")
    ripple_weight: float = Field(
        default=0.0, ge=0, description="of the same, where the photo is flat: skies and walls stay calm"
    )
    equalize: bool = Field(
        default=False,
        description="divide each style layer's distance by that of the plain photo, so that all weigh alike",
    )
    jitter: int = Field(
        default=8,
        ge=0,
        le=32,
        description="in training the loss network sees result and photo shifted by less than this many pixels: no "
        "grid of its strides is learned",
    )
    width: int = Field(32, ge=4, description="feed_forward only: channels at full resolution; 4 times as many inside")
    blocks: int = Field(5, ge=1, le=16, description="residual blocks at the lowest resolution")
    preview: int = Field(4, ge=0, le=16, description="photos of val that are drawn at each evaluation")

    @field_validator("content_layers", "style_layers")
    @classmethod
    def some_layers(cls, value: Any) -> Any:
        if value == {}:
            raise ValueError("name at least one layer, or write auto")
        return value

    @model_validator(mode="after")
    def crop_within_size(self) -> StyleConfig:
        if self.way == "feed_forward" and self.data.val_styles:
            raise ValueError(
                "data.val_styles: a feed_forward network knows only data.styles; leave it out, or way: adain"
            )
        if self.jitter >= self.crop // 2:
            raise ValueError(f"jitter {self.jitter} is not below half of crop {self.crop}")
        return self


Shares = str | list[str] | dict[str, Annotated[float, Field(gt=0)]] | None
SHARES = (
    "a style's name, or with adain also a picture's file; several are mixed: a list, or a mapping to their shares; "
    "null: the first style of the run"
)


class PredictOptions(Section):
    """What a user may ask of predict."""

    style: Shares = Field(default=None, description=SHARES, json_schema_extra={"choices": "styles"})
    strength: float = Field(1.0, ge=0, le=1, description="0: the photo; 1: as trained")
    keep_colors: bool = Field(False, description="the photo's colors with the result's brightness")
    style_scale: float = Field(1.0, ge=0.25, le=4, description="how large strokes are, relative to training")
    size: int | None = Field(
        default=None, ge=16, le=20_000, description="pixels of the result's longer side; null: the photo's own size"
    )
    tile: int = Field(
        default=1024, ge=128, description="pictures of more than tile x tile pixels are computed in tiles of that side"
    )

    flip: bool = Field(
        False,
        description="refused: strokes of a photo and of its mirror image have no mean",
        json_schema_extra={"control": False},
    )

    @field_validator("flip")
    @classmethod
    def has_no_mean(cls, value: bool) -> bool:
        if value:
            raise ValueError(
                "a painted photo and its painted mirror image differ in every stroke: their mean is a blur, not a "
                "better painting; leave flip out"
            )
        return value

    @classmethod
    def of_model(cls, cfg: StyleConfig, meta: Mapping[str, Any]) -> type[PredictOptions]:
        return AnyStyle if cfg.way == "adain" else PredictOptions


class AnyStyle(PredictOptions):
    """Of a network that paints in the manner of any picture."""

    style: Shares = Field(default=None, description=SHARES, json_schema_extra={"choices": "styles", "file": True})


def refuse(cfg: StyleConfig, policy: str) -> str | None:
    """Why a freeze policy other than `all` makes no sense here."""
    if policy == "all":
        return None
    return (
        "the pretrained backbone is the judge that content and style are read with; a judge that learns would make "
        "itself easy to please. The transfer network is the head and trains anyway: leave freeze.policy out, or all"
    )


def ranked(cfg: StyleConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights: distances, all of them."""
    names = ("objective", "style_distance", "style_distance_root", "content_distance", "perceptual_distance")
    return dict.fromkeys((*names, "total_variation", "ripple", "checkerboard"), "min")
