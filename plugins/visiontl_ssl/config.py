"""The `task:` section. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from visiontl import Section


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def expand_data(value: Any) -> Any:
    """A folder, or several -> the mapping that they are short for."""
    return {"photos": value} if isinstance(value, str | list) else value


class DataConfig(Section):
    """Where photos are. Nothing of a photo but its pixels is read."""

    photos: Annotated[list[str], BeforeValidator(as_list)] = Field(
        min_length=1, description="folder of photos, or several; searched in depth"
    )
    val_fraction: float = Field(default=0.1, gt=0, lt=1, description="share of the photos that is held out to judge by")
    split_seed: int = Field(default=0, ge=0, description="that split is a function of it and of the file names")


class SslConfig(Section):
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a folder of photos, several, or a mapping; example: a small set drawn on the spot"
    )
    width: int = Field(default=2048, ge=2, description="numbers of an embedding that is compared (the projector's)")
    hidden: int = Field(default=512, ge=1, description="width of the predictor's hidden layer, a quarter of `width`")
    area: tuple[float, float] = Field(
        default=(0.2, 1.0), description="shares of a photo's area that a random view shows, least and most"
    )
    color: float = Field(
        default=1.0, ge=0, le=2, description="of changes of color: 1 as in the paper, 0 none; a fifth becomes gray"
    )
    blur: bool = Field(default=True, description="half of the views are blurred; false for photos of some 32 pixels")


def ranked(cfg: SslConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights. The loss may not: it is least where all photos have one embedding."""
    return {"retrieved": "max", "spread": "max"}


def refuse(cfg: SslConfig, policy: str) -> str | None:
    if policy == "all":
        return "the backbone is what is to be trained here; nothing of this run but its backbone is used later"
    return None
