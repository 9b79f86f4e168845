"""The `task:` section of a classification config, and what a user may ask of predict. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from visiontl import Section
from visiontl.kit.words import did_you_mean

# torchvision's classification data sets -> which of their parts serve as train, val and test. "train=" is the
# library's boolean argument, None stands for a set without parts.
TORCHVISION: dict[str, dict[str, str] | Literal["train="] | None] = {
    "CIFAR10": "train=",
    "CIFAR100": "train=",
    "Caltech101": None,
    "Country211": {"train": "train", "val": "valid", "test": "test"},
    "DTD": {"train": "train", "val": "val", "test": "test"},
    "EuroSAT": None,
    "FGVCAircraft": {"train": "train", "val": "val", "test": "test"},
    "FashionMNIST": "train=",
    "Flowers102": {"train": "train", "val": "val", "test": "test"},
    "Food101": {"train": "train", "test": "test"},
    "GTSRB": {"train": "train", "test": "test"},
    "ImageNet": {"train": "train", "val": "val"},
    "Imagenette": {"train": "train", "val": "val"},
    "KMNIST": "train=",
    "MNIST": "train=",
    "OxfordIIITPet": {"train": "trainval", "test": "test"},
    "PCAM": {"train": "train", "val": "val", "test": "test"},
    "RenderedSST2": {"train": "train", "val": "val", "test": "test"},
    "STL10": {"train": "train", "test": "test"},
    "SUN397": None,
    "SVHN": {"train": "train", "test": "test"},
    "USPS": "train=",
}


class DataConfig(Section):
    """Where the images are. Exactly one of folder, csv and torchvision."""

    folder: str | None = Field(
        None,
        description="a folder of class folders, or of train, val and test folders that hold class folders",
    )
    csv: str | None = Field(
        None, description="a table with the columns path and label, and optionally split (train, val or test)"
    )
    torchvision: str | None = Field(None, description="a data set of torchvision by name, such as CIFAR10")
    format: Literal["auto", "splits", "classes", "inner"] = Field(
        "auto",
        description="folder only; splits: its folders are train, val, test; classes: its folders are classes; inner: a "
        "class is the folder that a picture lies in, whatever is above it; auto: splits where a folder has such a name "
        "and holds folders, else classes",
    )
    root: str | None = Field(
        None,
        description="csv: the folder that paths start from (null: the table's own); torchvision: its "
        "files (null: data)",
    )
    download: bool = Field(False, description="torchvision only: fetch the data set where it is not there yet")
    separator: str = Field("|", min_length=1, description="csv with labels: multi: between the labels of one image")
    columns: list[str] | None = Field(
        None,
        description="csv without a column label: columns of 0 and 1, one per class, in the order of the classes, such "
        "as [cat, dog]",
    )
    split: Literal["auto", "stratified", "none"] = Field(
        "auto",
        description="data without given splits; stratified: by class into train, val and test; none: "
        "all is test; "
        "auto: stratified, but none when a finished run or an original head is evaluated",
    )
    val_fraction: float = Field(0.15, ge=0, lt=1, description="share of val where it is split off")
    test_fraction: float = Field(0.15, ge=0, lt=1, description="share of test where it is split off with val")
    split_seed: int = Field(0, ge=0, description="the split is a function of it and of the file names")
    val_from: Literal["train", "test"] = Field(
        "train",
        description="given splits without val; train: split val_fraction off train; test: use test as val, and no test",
    )
    lists: str | None = Field(
        None,
        description="a folder with train.txt, val.txt, test.txt of file names, such as a run saves: that split",
    )
    class_names: str | None = Field(
        None,
        description="a text file of lines 'folder name': readable class names, such as ImageNet's synset words",
    )

    @field_validator("torchvision")
    @classmethod
    def known_set(cls, value: str | None) -> str | None:
        if value is not None and value not in TORCHVISION:
            raise ValueError(
                f"{value!r} is none of torchvision's classification sets{did_you_mean(value, TORCHVISION)}"
            )
        return value

    @model_validator(mode="after")
    def one_source(self) -> DataConfig:
        given = [key for key in ("folder", "csv", "torchvision") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(
                "give exactly one of folder, csv and torchvision, such as task.data=FOLDER; got "
                f"{' and '.join(given) or 'none'}"
            )
        if self.columns is not None and (self.csv is None or not self.columns):
            raise ValueError("columns names columns of a csv, one at least" + ("" if self.csv else "; data is no csv"))
        if self.columns is not None and len({name.lower() for name in self.columns}) < len(self.columns):
            raise ValueError(f"columns names one twice: {', '.join(self.columns)}")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave nothing to train on"
            )
        return self


def expand_data(value: Any) -> Any:
    """A path -> the mapping it is short for: a table where it ends in .csv, else a folder."""
    if isinstance(value, str):
        return {"csv": value} if value.lower().endswith(".csv") else {"folder": value}
    return value


def expand_head(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


class HeadConfig(Section):
    kind: Literal["linear", "original"] = Field(
        default="linear",
        description="linear: a new layer on the pooled embedding; original: the classifier that the weights came with",
    )
    hidden: int | None = Field(
        default=None, ge=1, description="linear only: width of one hidden layer with GELU; null: none"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="linear only: on the input of the last layer")
    norm: Literal["none", "batchnorm"] = Field(
        default="none",
        description="linear only; batchnorm: standardize the embedding, without learned scale (MAE's probe)",
    )

    @model_validator(mode="after")
    def original_is_fixed(self) -> HeadConfig:
        if self.kind == "original" and (self.hidden or self.dropout or self.norm != "none"):
            raise ValueError("an original head has its own layers; hidden, dropout and norm are for kind: linear")
        return self


class ClassificationConfig(Section):
    data: Annotated[DataConfig, BeforeValidator(expand_data)] = Field(
        description="a folder or .csv file, or a mapping; example: a small set drawn on the spot"
    )
    labels: Literal["single", "multi"] = Field(
        "single",
        description="single: one class per image (softmax); multi: any number (sigmoid per class; csv only)",
    )
    head: Annotated[HeadConfig, BeforeValidator(expand_head)] = Field(
        default_factory=HeadConfig, description="linear, original, or a mapping"
    )
    augment: Literal["none", "light", "standard", "trivialaugment", "randaugment"] = Field(
        "light",
        description="none: as in evaluation; light: crops of 70 to 100 % of the area and flips; "
        "standard: 35 to "
        "100 %, flips and color; trivialaugment, randaugment: crops, flips and these",
    )
    flip: bool = Field(True, description="mirror half of the training images; false for text, digits, left and right")
    mixup: float = Field(0.0, ge=0, description="alpha of mixup's Beta distribution; 0: off; 0.2 is usual")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix's Beta distribution; 0: off; 1.0 is usual")
    mix_probability: float = Field(1.0, ge=0, le=1, description="share of the batches that are mixed")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the target spread over all classes")
    class_weights: Literal["none", "balanced"] | list[float] = Field(
        "none",
        description="in the loss; balanced: images / (classes x images of the class); or a number per class",
    )
    sampler: Literal["shuffled", "balanced"] = Field(
        "shuffled", description="balanced: every class equally often in each epoch, rare ones repeated"
    )

    @field_validator("class_weights")
    @classmethod
    def positive(cls, value: Any) -> Any:
        if isinstance(value, list) and (not value or min(value) < 0 or max(value) == 0):
            raise ValueError(f"weights must be 0 or more, and one above 0; got {value}")
        return value

    @model_validator(mode="after")
    def multi_needs_a_table(self) -> ClassificationConfig:
        if self.labels == "multi":
            if self.data.csv is None:
                raise ValueError(
                    "labels: multi reads a .csv table (path,label with 'a|b', or columns of 0 and 1); data names none"
                )
            if self.sampler == "balanced":
                raise ValueError("sampler: balanced is for labels: single; use class_weights: balanced")
            if self.head.kind == "original":
                raise ValueError("an original head answers with one class per image; use labels: single")
        if self.class_weights != "none" and self.sampler == "balanced":
            raise ValueError("class_weights and sampler: balanced would correct the imbalance twice; choose one")
        return self


class PredictOptions(Section):
    """What a user may ask of predict."""

    top_k: int = Field(default=5, ge=1, description="how many of the most probable classes are listed")
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="labels: multi: a class is named from this probability"
    )
    flip: bool = Field(
        default=False, description="look at the mirrored image too: mean probabilities; costs twice the time"
    )
    probabilities: bool | None = Field(
        default=None, description="every class's probability; null: where there are at most 100 classes"
    )


class ExplainOptions(Section):
    """What an explanation is to be of."""

    label: str | int | None = Field(
        default=None,
        description="a class of the model; null: the most probable one",
        json_schema_extra={"choices": "classes"},
    )


def ranked(cfg: ClassificationConfig) -> dict[str, Literal["max", "min"]]:
    """What may pick the best weights. With several labels per image the share of images with every label right stands
    still for long (at 0 with many labels), while mAP moves with each image."""
    if cfg.labels == "multi":
        return {"mAP": "max", "micro_f1": "max", "macro_f1": "max", "accuracy": "max"}
    return {"accuracy": "max", "macro_f1": "max", "top5": "max", "nll": "min", "ece": "min"}
