"""The config file's sections, as pydantic models. A description of each key is the comment that
`visiontl config` prints beside it. No validator here touches the disk or imports torch."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of the config: unknown keys are errors, and so are numbers that are not finite. Plugins derive their
    `task:` section from it."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)


def parse_every(value: Any) -> str:
    """'2 epochs' | '500 steps' | 2 (epochs) -> the canonical sentence."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value} epochs"
    found = re.fullmatch(r"\s*(\d+)\s*(epoch|step)s?\s*", str(value))
    if not found or int(found[1]) < 1:
        raise ValueError(f"{value!r} is no interval; write '1 epoch', '5 epochs' or '500 steps'")
    count, unit = int(found[1]), found[2]
    return f"{count} {unit}{'s' if count > 1 else ''}"


Every = Annotated[str, BeforeValidator(parse_every)]


def parse_image_size(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def check_image_size(value: tuple[int, int]) -> tuple[int, int]:
    if min(value) < 8:
        raise ValueError(f"{list(value)} pixels is too small; the smallest side is 8")
    return value


ImageSize = Annotated[tuple[int, int], BeforeValidator(parse_image_size), AfterValidator(check_image_size)]


class PreprocessingConfig(Section):
    """What a local weights file cannot say of itself; null keeps what the weights or the architecture state."""

    crop: float | None = Field(
        default=None, gt=0, le=1, description="side of the center crop / side of the resized image"
    )
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"] | None = Field(
        default=None, description="how images are resized"
    )
    mean: list[float] | None = Field(default=None, description="per channel, of pixels 0..1")
    std: list[float] | None = Field(default=None, description="per channel, of pixels 0..1")

    @model_validator(mode="after")
    def positive_deviation(self) -> PreprocessingConfig:
        if self.std is not None and min(self.std, default=0) <= 0:
            raise ValueError(f"std must be positive for each channel; got {self.std}")
        return self

    def given(self) -> dict[str, Any]:
        """Only what is set, as ImageSpec wants it."""
        set_here = {key: value for key, value in self.model_dump().items() if value is not None}
        return {key: tuple(value) if isinstance(value, list) else value for key, value in set_here.items()}


class BackboneConfig(Section):
    name: str = Field(
        description="timm/NAME, torchvision/NAME or a plugin's; a bare name means timm; not needed beside `init`"
    )
    weights: str = Field(
        default="default",
        description="default (the library's recommended tag), a tag, none (random), a local .safetensors or .pth "
        "file, or hf-hub:owner/name",
    )
    image_size: ImageSize | None = Field(default=None, description="pixels, N or [H, W]; null: the weights' own")
    in_channels: int = Field(default=3, ge=1, description="channels of the input; other than 3 adapts the first layer")
    output_stride: Literal[8, 16, 32] | None = Field(
        default=None, description="stride of the deepest map, by dilation, where the backbone can; null: its own"
    )
    strict: bool = Field(
        default=True,
        description="refuse weights that lack the first convolution, batch norm statistics or tables of positions, or "
        "hold a tensor in a shape that cannot be adapted; false: these start at random, with a warning",
    )
    preprocessing: PreprocessingConfig = Field(
        default_factory=PreprocessingConfig, description="for weights that do not state it, such as local files"
    )


PolicyValue = str | dict[str, Any]


class FreezeConfig(Section):
    policy: PolicyValue = Field(
        default="none",
        description="none | all (linear probe) | {first: n} | {until: stage} | {gradual: k epochs} | "
        "{schedule: {0: all, 1: stage, 3: none}} | norm_and_bias | "
        "{only: [stage, ...]} | {lp_ft: k epochs} | {auto: stages} | {lora: {rank: 8}} | a plugin's",
    )
    norm_stats: Literal["train", "fixed"] = Field(
        default="train", description="fixed: batch norm statistics of the backbone never move, in no stage"
    )

    @model_validator(mode="after")
    def one_policy(self) -> FreezeConfig:
        if isinstance(self.policy, dict) and len(self.policy) != 1:
            raise ValueError(f"policy takes one name with its argument, such as {{first: 2}}; got {self.policy}")
        return self


Share = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Section):
    name: Literal["adamw", "sgd", "adamw8bit"] = Field(
        default="adamw",
        description="adamw | sgd; fused kernels where they exist; adamw8bit: moments of 8 bits, by bitsandbytes "
        "(pip install 'visiontl[bits]')",
    )
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate of the head, per optimizer update")
    backbone_scale: float = Field(default=0.1, gt=0, le=10, description="the backbone's learning rate, relative to lr")
    layer_decay: float = Field(
        default=1.0, gt=0, le=1, description="a stage's learning rate, relative to the next deeper stage's"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="not applied to norms, biases and other 1-d parameters")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    betas: tuple[Share, Share] = Field(default=(0.9, 0.999), description="adamw, adamw8bit")
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest allowed L2 norm of all gradients; null: no clipping"
    )
    schedule: Literal["cosine", "step", "poly", "constant"] = Field(default="cosine", description="after the warm-up")
    warmup: Every | Literal["none"] = Field(default="none", description="linear warm-up: none, 'N epochs' or 'N steps'")
    min_factor: float = Field(default=0.0, ge=0, le=1, description="where cosine and poly end, relative to lr")
    step_every: Every | list[Every] = Field(
        default="7 epochs", description="schedule step only; a list: the moments themselves, as [16 epochs, 22 epochs]"
    )
    step_factor: float = Field(default=0.1, gt=0, le=1, description="schedule step only")
    power: float = Field(default=0.9, gt=0, description="schedule poly only")


class EmaConfig(Section):
    decay: float = Field(default=0.999, gt=0, lt=1, description="per optimizer update, warmed up as (1 + n) / (10 + n)")


class L2SpConfig(Section):
    """Weights stay near those of the start."""

    alpha: float = Field(default=0.1, ge=0, description="pull of the backbone's weights to those of the start")
    beta: float = Field(default=0.01, ge=0, description="pull of all other weights to 0")


class DeltaConfig(Section):
    """Feature maps stay near those of the start."""

    weight: float = Field(default=0.01, gt=0, description="of the distance in the loss")
    levels: list[int] | None = Field(
        default=None, description="pyramid levels, 0 the finest, -1 the deepest; null: all of the backbone's"
    )


class BssConfig(Section):
    """Weak directions of a batch's features shrink."""

    weight: float = Field(default=0.001, gt=0, description="of the penalty in the loss")
    count: int = Field(default=1, ge=1, description="of the smallest singular values of a batch's features")


class CoTuningConfig(Section):
    """The pretrained classifier goes on to see in an image what images of its class looked like to it at the start."""

    weight: float = Field(default=1.0, gt=0, description="of the pretrained classifier's cross entropy")


class TeacherConfig(Section):
    """Another model whose answers, feature maps, or both are learned from."""

    model: str = Field(description="a run of the same task: its folder; or a backbone's name, which has maps alone")
    weights: str = Field(default="default", description="of a backbone, as backbone.weights")
    answers: float = Field(
        default=1.0, ge=0, description="weight of the distance of answers: of softened logits, or of embeddings"
    )
    temperature: float = Field(default=4.0, gt=0, description="by which logits are divided")
    maps: float = Field(default=0.0, ge=0, description="weight of the distance of attention maps")
    levels: list[int] | None = Field(
        default=None, description="pyramid levels of the maps, 0 the finest, -1 the deepest; null: all"
    )


class KeepOldConfig(Section):
    """The answers for classes that `init` brought stay as they were (Li and Hoiem 2016)."""

    by: Literal["distill"] = Field(default="distill", description="distill: the old model's answers are learned from")
    weight: float = Field(default=1.0, gt=0, description="of the distance from the old answers in the loss")
    temperature: float = Field(
        default=2.0, gt=0, description="by which a classifier's logits are divided; boxes have none"
    )


def expand_keep_old(value: Any) -> Any:
    return {"by": value} if isinstance(value, str) else value


class MethodConfig(Section):
    """What training adds to the task's own loss; each part is off at null and on at {}, with its defaults."""

    l2_sp: L2SpConfig | None = Field(
        default=None, description="{alpha: 0.1, beta: 0.01}: weights stay near those of the start"
    )
    delta: DeltaConfig | None = Field(
        default=None, description="{weight: 0.01}: the backbone's feature maps stay near those of the start"
    )
    bss: BssConfig | None = Field(
        default=None, description="{weight: 0.001}: weak directions of a batch's features shrink"
    )
    co_tuning: CoTuningConfig | None = Field(
        default=None, description="{weight: 1.0}: the pretrained classifier learns what your classes look like to it"
    )
    teacher: TeacherConfig | None = Field(
        default=None, description="{model: RUN}: another model's answers, feature maps or both are learned from"
    )
    keep_old: Annotated[KeepOldConfig | None, BeforeValidator(expand_keep_old)] = Field(
        default=None,
        description="distill: the answers for classes that `init` brought are held to those of the model that it names",
    )


class TrainConfig(Section):
    epochs: int = Field(
        default=10, ge=0, le=100_000, description="passes over the training split; 0 evaluates the model as it is built"
    )
    batch_size: int = Field(default=32, ge=1, description="images per process and forward pass")
    accumulate: int = Field(default=1, ge=1, description="forward passes per optimizer update")
    eval_batch_size: int | None = Field(default=None, ge=1, description="null: batch_size")
    seed: int = Field(default=0, ge=0, lt=2**31, description="everything random is a function of it")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: by device and model family, printed"
    )
    channels_last: Literal["auto"] | bool = Field(
        default="auto", description="memory layout; auto: on for conv nets, printed"
    )
    compile: bool = Field(default=False, description="torch.compile the model")
    recompute: bool = Field(
        default=False,
        description="activation checkpointing: the backbone's blocks compute again what their gradients need; the same "
        "bits, less memory, more time",
    )
    ema: EmaConfig | None = Field(
        default=None, description="{decay: 0.999}: average the weights; best and model/ hold the average"
    )
    evaluate_every: Every = Field(default="1 epoch", description="'N epochs' or 'N steps'")
    evaluate_start: bool = Field(
        default=False,
        description="also score val and test before the first update: what training has to beat, and where it does "
        "not, the weights that are kept",
    )
    checkpoint_every: Every | Literal["auto"] = Field(
        default="auto",
        description="'N epochs', 'N steps' or auto: after each epoch unless that costs more than 3 % of the run's "
        "time, and within an epoch after ten minutes",
    )
    best: str | None = Field(
        default=None,
        description="the score of val that picks the best weights and that early_stop follows; null: the task's own",
    )
    early_stop: int | None = Field(
        default=None, ge=1, description="stop after N evaluations without improvement of the score that `best` names"
    )
    log_every: int = Field(default=10, ge=1, description="optimizer updates between two logged lines")


class FeaturesConfig(Section):
    """The features of a backbone that is frozen for the whole run, which are computed once."""

    cache: Literal["auto", "off", "memory", "disk"] = Field(
        default="auto",
        description="where features of a backbone that is frozen for the whole run are kept, where that is exact; "
        "auto: on disk, and in memory where there is no room",
    )
    views: int | None = Field(
        default=None,
        ge=1,
        description="augmented views per image; null: only features of unaugmented images are kept",
    )
    precision: Literal["full", "half"] = Field(
        default="full", description="half: 16 bits in place of 32, half the room; the largest error is said"
    )
    folder: str | None = Field(
        default=None,
        description="of the store, shared by runs; null: what the environment's VISIONTL_FEATURES names, or "
        "visiontl/features in the user's cache folder",
    )
    limit: float = Field(
        default=20.0, gt=0, description="GiB that the store may take; what was not used for longest goes first"
    )


def check_depth(value: Any) -> Any:
    """auto | range | 8 to 16 | [low, high]"""
    if value in ("auto", "range") or (type(value) is int and 8 <= value <= 16):
        return value
    if (
        isinstance(value, list | tuple)
        and [type(one) in (int, float) and abs(one) < 1e30 for one in value] == [True] * 2
    ):
        low, high = value
        if low < high:
            return low, high
    raise ValueError(f"{value!r} is none of auto, range, a number of bits from 8 to 16, or [low, high] with low < high")


Depth = Annotated[str | int | tuple[float, float], BeforeValidator(check_depth)]


def check_fold(value: Any) -> Any:
    """K/N with 1 <= K <= N and 2 <= N"""
    found = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", value) if isinstance(value, str) else None
    if value is not None and (found is None or not 1 <= int(found[1]) <= int(found[2]) or int(found[2]) < 2):
        raise ValueError(f"{value!r} is no fold; write 1/5 for the first of five")
    return value if found is None else f"{int(found[1])}/{int(found[2])}"


class DataConfig(Section):
    on_bad: Literal["error", "skip"] = Field(
        default="error",
        description="images that cannot be read; error: the first one met stops the run; skip: read all images "
        "before the first step, leave those out, count and name them",
    )
    max_bad: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="on_bad: skip only: largest share of a split's images that may be left out; more is an error",
    )
    depth: Depth = Field(
        default="auto",
        description="which values of pictures of more than 8 bits become black and white; auto: by the fewest of 8, "
        "10, 12, 14, 16 bits that hold a picture's values, its own lowest and highest where some are below 0; 8 to 16: "
        "so many bits; range: its own lowest and highest; [low, high]: these",
    )
    fold: Annotated[str | None, BeforeValidator(check_fold)] = Field(
        default=None,
        description="K/N, such as 2/5: cross-validation; train is divided into N parts by its names, the Kth is val in "
        "place of the data's own; null: the splits as they are",
    )


class LoaderConfig(Section):
    workers: int = Field(
        default=2,
        ge=0,
        description="loader processes per training process, at most one per CPU; the result does not depend on it",
    )


def as_words(value: Any) -> Any:
    """'tensorboard' and 'tensorboard, wandb' are lists too."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


class RunConfig(Section):
    folder: str = Field(default="runs", description="where run folders are made; none is ever overwritten")
    name: str | None = Field(default=None, description="null: the config file's name with date and time")
    trackers: Annotated[list[str], BeforeValidator(as_words)] = Field(
        default=[], description="tensorboard, wandb, mlflow ..., one or a list; asked for and missing is an error"
    )
    processes: int | None = Field(
        default=None, ge=1, description="refuse to run on another number of processes; null: any"
    )


class Config(Section):
    """A whole run. `task` is validated by the task's own model, after the task is found by its name."""

    task: dict[str, Any] = Field(description="name: the task; the other keys are the task's own")
    backbone: BackboneConfig
    data: DataConfig = Field(default_factory=DataConfig)
    freeze: FreezeConfig = Field(default_factory=FreezeConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    method: MethodConfig = Field(default_factory=MethodConfig)
    features: FeaturesConfig = Field(default_factory=FeaturesConfig)
    loader: LoaderConfig = Field(default_factory=LoaderConfig)
    run: RunConfig = Field(default_factory=RunConfig)
    resume: str | None = Field(
        default=None,
        description="continue an unfinished run exactly: its folder, or auto: the newest unfinished run of this config "
        "in run.folder (where all have ended nothing is trained; where there is none, a new one); null: a new run",
    )
    init: str | None = Field(
        default=None,
        description="start a new run from a whole model, in place of backbone.weights: another run's folder, "
        "torchvision/NAME[:TAG], a file or folder of such a model, or hf-hub:owner/name; the backbone is then its own",
    )
