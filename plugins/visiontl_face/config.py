"""The `task:` section of a face config, and what a user may ask of predict. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from visiontl import Section

# (m1, m2 in radians, m3) and scale of each named loss. ArcFace: Deng et al. 2019, sec. 3.1; CosFace: Wang et al. 2018,
# sec. 4.2 (with the scale of ArcFace's comparison); combined: ArcFace's CM2 (1, 0.3, 0.2), table 2.
MARGINS = {"arcface": (1.0, 0.5, 0.0), "cosface": (1.0, 0.0, 0.35), "combined": (1.0, 0.3, 0.2)}
SCALE = 64.0
TRIPLET_MARGIN = 0.2  # of Euclidean distances between normalized embeddings (0..2): Hermans et al. 2017, sec. 4.2


class DataConfig(Section):
    """Where the images are. Exactly one of folder and csv."""

    folder: str | None = Field(
        default=None,
        description="a folder per identity in it, or train, val and test folders that hold those",
    )
    csv: str | None = Field(
        default=None, description="a table with the columns path and identity, and optionally split and group"
    )
    format: Literal["auto", "splits", "identities", "inner"] = Field(
        default="auto",
        description="folder only; splits: its folders are train, val, test; identities: its folders are people; inner: "
        "a person is the folder that an image lies in, whatever is above it; auto: splits where a folder has such a "
        "name and holds folders, else people",
    )
    root: str | None = Field(default=None, description="csv only: where paths start; null: the table's own folder")
    val_fraction: float = Field(
        0.15, ge=0, lt=1, description="share of the training identities that become val, where the data has no val"
    )
    test_fraction: float = Field(
        default=0.15, ge=0, lt=1, description="the same for test, where there is no split at all"
    )
    split_seed: int = Field(0, ge=0, description="who is held out is a function of it and of the identities' names")

    @model_validator(mode="after")
    def one_source(self) -> DataConfig:
        given = [key for key in ("folder", "csv") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give exactly one of folder and csv, such as task.data=FOLDER; got {' and '.join(given) or 'none'}"
            )
        if self.root is not None and self.csv is None:
            raise ValueError("root belongs to csv; a folder is its own root")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nobody to train on"
            )
        return self


class PairsConfig(Section):
    """Lists of verification pairs. A split without one is judged on pairs of its own images."""

    val: str | None = Field(default=None, description="a .csv (file_a, file_b, same), or a .txt in LFW's format")
    test: str | None = Field(default=None, description="as val")
    missing: Literal["error", "skip"] = Field(
        default="error", description="pairs of images that are not there; skip: leave them out, counted and named"
    )
    made: int = Field(
        default=50_000, ge=100, description="most pairs of a split without a list; all of them where it has fewer"
    )


def expand_data(value: Any) -> Any:
    """A path -> the mapping it is short for: a table where it ends in .csv, else a folder."""
    if isinstance(value, str):
        return {"csv": value} if value.lower().endswith(".csv") else {"folder": value}
    return value


def expand_pairs(value: Any) -> Any:
    return {"test": value} if isinstance(value, str) else value


class LossConfig(Section):
    """A margin softmax over the training identities, or triplets."""

    name: Literal["arcface", "cosface", "combined", "triplet"] = Field(
        default="arcface", description="cos(m1 t + m2) - m3 in place of cos t for the angle t to the own class; triplet"
    )
    m1: float | None = Field(default=None, ge=1, le=4, description="factor of the angle; null: the named loss's (1)")
    m2: float | None = Field(
        default=None,
        ge=0,
        lt=math.pi,
        description="added to the angle, radians; null: arcface 0.5, cosface 0, combined 0.3",
    )
    m3: float | None = Field(
        default=None, ge=0, lt=2, description="taken from the cosine; null: arcface 0, cosface 0.35, combined 0.2"
    )
    scale: float = Field(default=SCALE, gt=0, description="of the cosines before softmax; smaller for few identities")
    sub_centers: int = Field(
        default=1, ge=1, le=16, description="class weights per identity, the nearest counts (sub-center ArcFace)"
    )
    margin: float = Field(
        default=TRIPLET_MARGIN, ge=0, le=2, description="triplet only: of distances between normalized embeddings"
    )

    @model_validator(mode="after")
    def keys_that_belong(self) -> LossConfig:
        angular = [key for key in ("m1", "m2", "m3") if getattr(self, key) is not None]
        if self.name == "triplet" and (angular or self.sub_centers > 1):
            raise ValueError("triplet has `margin` alone; m1, m2, m3 and sub_centers are for margin softmax losses")
        if self.name == "arcface" and (self.m1 is not None or self.m3 is not None):
            raise ValueError("arcface has m2 alone; use name: combined for m1 and m3")
        if self.name == "cosface" and (self.m1 is not None or self.m2 is not None):
            raise ValueError("cosface has m3 alone; use name: combined for m1 and m2")
        return self

    def margins(self) -> tuple[float, float, float]:
        """(m1, m2 in radians, m3)."""
        given, named = (self.m1, self.m2, self.m3), MARGINS[self.name]
        return tuple(own if mine is None else mine for mine, own in zip(given, named, strict=True))  # type: ignore


def expand_loss(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class NeckConfig(Section):
    """Between the pooled features and the embedding: dropout, linear, BatchNorm."""

    start: Literal["random", "centered", "whitened"] = Field(
        default="whitened",
        description="what the linear layer and BatchNorm do before training; centered: subtract the training mean; "
        "whitened: also even out the spread within identities",
    )
    shrinkage: float = Field(
        default=0.5, gt=0, le=1, description="whitened only: how far the covariance is drawn towards a multiple of one"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="of the pooled features")


class FaceConfig(Section):
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a folder or .csv file, or a mapping; example: a small set drawn on the spot"
    )
    pairs: Annotated[PairsConfig, BeforeValidator(expand_pairs)] = Field(
        default_factory=PairsConfig, description="a list of verification pairs for test, or a mapping with val and test"
    )
    identities: bool = Field(
        default=True,
        description="false: nothing says who an image shows, folders are no people and a table needs no identity; for "
        "evaluating with a list of pairs",
    )
    min_images: int = Field(2, ge=1, description="training identities with fewer images are left out, and counted")
    dimension: int = Field(512, ge=2, le=65_536, description="numbers of an embedding")
    neck: NeckConfig = Field(default_factory=NeckConfig, description="dropout, linear, BatchNorm")
    loss: Annotated[LossConfig, BeforeValidator(expand_loss)] = Field(
        default_factory=LossConfig, description="arcface, cosface, combined, triplet, or a mapping"
    )
    sampler: Literal["auto", "shuffled", "identities"] = Field(
        "auto",
        description="identities: batches of P people with K images each, P x K = train.batch_size; auto: that for "
        "triplet, else shuffled",
    )
    images_per_identity: int = Field(4, ge=1, description="K of sampler: identities")
    augment: Literal["none", "flip", "light"] = Field(
        "flip", description="none: as in evaluation; flip: mirror half of the images; light: also crop and color"
    )
    flip: bool = Field(True, description="an embedding is the normalized sum of the image's and its mirror image's")
    far: float = Field(
        1e-3, gt=0, lt=1, description="share of impostors that the commands' threshold lets through, if not said there"
    )

    @model_validator(mode="after")
    def sampler_serves_loss(self) -> FaceConfig:
        if self.loss.name == "triplet" and self.sampler == "shuffled":
            raise ValueError("triplets need several images of a person in each batch: use sampler: identities or auto")
        if self.loss.name == "triplet" and self.images_per_identity < 2:
            raise ValueError("triplets need images_per_identity of at least 2: an anchor and a positive")
        return self

    @property
    def by_identity(self) -> bool:
        return self.sampler == "identities" or (self.sampler == "auto" and self.loss.name == "triplet")


class PredictOptions(Section):
    """What a user may ask of predict."""

    flip: bool | None = Field(
        default=None,
        description="look at the mirrored image too: the sum of embeddings; null: as the model was evaluated",
    )


class ExplainOptions(Section):
    """What an explanation is to be of."""

    other: Any = Field(default=None, description="the photo to which similarity is explained; of two photos each other")


def ranked(cfg: FaceConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights."""
    return {"auc": "max", "eer": "min", "accuracy": "max", "rank1": "max", "rank5": "max"}
