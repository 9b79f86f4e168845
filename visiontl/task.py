"""The contract of a task: one frozen dataclass of plain functions. This module imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from visiontl.errors import PluginError
from visiontl.export import ExportStep
from visiontl.report.items import ExplainStep, MirroredStep, MistakesStep, ProbeStep, ScaledStep, TeachStep
from visiontl.signatures import arguments_of, check_fields, settle, settled
from visiontl.whole import KeepStep, PartsStep, WholeStep

if TYPE_CHECKING:
    import argparse

    import torch
    from PIL import Image
    from pydantic import BaseModel

    from visiontl.backbone import Backbone
    from visiontl.report.items import Figure, Finding, Pictures, Seen, Table
    from visiontl.spec import ImageSpec

CONTRACTS = (1,)  # versions that are served, the newest last; what was written for another is refused by name

Meta = Mapping[str, Any]  # Data.meta, after a trip through JSON
Batch = dict[str, Any]  # what `collate` makes
Photos = Callable[[int], "Image.Image"]  # id -> photo, RGB


class SampleDataset(Protocol):
    """What a split must answer. Ids are 0..len-1. Must pickle (workers may be spawned)."""

    names: Sequence[str]  # per id: the file (or record) that a person would look for

    def __len__(self) -> int: ...

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """(id, seed) -> sample. Everything random is drawn from `seed` alone (see visiontl.seeded)."""
        ...

    def image(self, id: int) -> Any:
        """The photo itself as an RGB PIL image with EXIF applied: for reports, dry runs and `visiontl doctor`.

        This and `[id, seed]` raise DataError, naming the file, where it cannot be read.
        """
        ...


class BatchesStep(Protocol):
    """Lists of ids, each one rank's batch: rank r takes r, r + world, ...; the ragged tail is dropped; there are as
    many in every epoch."""

    def __call__(self, split: str, seed: int, epoch: int, batch_size: int, /) -> list[list[int]]: ...


@dataclass(frozen=True)
class Data:
    """The splits of a data set. All but `train` may be absent; when evaluating elsewhere, `train` too.

    still: the images of train, with the same ids, without augmentation: what Task.start is shown. None: train as it is.
    meta: JSON values that the model needs to be rebuilt and its answers to be named (class names, counts).
        It goes through JSON once before anything sees it.
    batches: what replaces the plain shuffled order.
    notes: what was skipped, counted or assumed, in sentences; printed and kept in the report.
    """

    train: SampleDataset | None = None
    val: SampleDataset | None = None
    test: SampleDataset | None = None
    still: SampleDataset | None = None
    meta: Meta = field(default_factory=dict[str, Any])
    batches: BatchesStep | None = None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.batches is not None:
            settle(self, "Data", {"batches": (self.batches, arguments_of(BatchesStep))})

    def splits(self) -> dict[str, SampleDataset]:
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


class DataStep(Protocol):
    """The splits of the data set. meta: None in training; given when evaluating elsewhere, and class order then comes
    from it. Raises DataError, naming the file or folder, for data that cannot be used."""

    def __call__(self, cfg: Any, spec: ImageSpec, meta: Meta | None, /) -> Data: ...


class SampleStep(Protocol):
    """How a photo to predict is prepared: PIL RGB image with EXIF applied -> sample, as `collate` takes it, carrying
    `size`, the photo's own (H, W) in pixels."""

    def __call__(self, cfg: Any, spec: ImageSpec, meta: Meta, /) -> Callable[[Image.Image], dict[str, Any]]: ...


class CollateStep(Protocol):
    """Samples -> batch. Picklable.

    generator: for what is drawn for the batch as a whole (mixup); None in evaluation and prediction. Where images lack
    labels, `labeled`: {term of the loss: how many have one}; loss finds there what to divide each term's sum by.
    """

    def __call__(self, cfg: Any, samples: list[Any], generator: torch.Generator | None, meta: Meta, /) -> Batch: ...


class ModelStep(Protocol):
    """An nn.Module with forward(batch) -> outputs. Reads no file, and holds the backbone once.

    Raises BackboneError for a backbone that cannot serve the task.
    """

    def __call__(self, cfg: Any, backbone: Backbone, meta: Meta, /) -> torch.nn.Module: ...


class LossStep(Protocol):
    """{"loss": mean over the batch, a tensor (), ...parts to log: such tensors or floats}. Pure; in training mode."""

    def __call__(self, cfg: Any, outputs: Any, batch: Batch, meta: Meta, /) -> dict[str, Any]: ...


class RowsStep(Protocol):
    """One small picklable record per image, in the order of the batch, no device tensors. In evaluation mode."""

    def __call__(self, cfg: Any, outputs: Any, batch: Batch, meta: Meta, /) -> Sequence[Any]: ...


class ScoreStep(Protocol):
    """{"accuracy": 0.93, ...}, None for what the rows have nothing to measure on. Pure.

    rows: of every image of the split exactly once, in the order of the ids.
    """

    def __call__(self, cfg: Any, rows: Sequence[Any], meta: Meta, /) -> dict[str, Any]: ...


class RankedStep(Protocol):
    """{score: "max" or "min"}: the plain numbers of `score` that may pick the best weights, the default first."""

    def __call__(self, cfg: Any, /) -> Mapping[str, Literal["max", "min"]]: ...


class TrivialStep(Protocol):
    """(the answer in words, rows): what `rows` would hold if every image got one answer that needs no training."""

    def __call__(self, cfg: Any, rows: Sequence[Any], meta: Meta, /) -> tuple[str, Sequence[Any]]: ...


class PredictStep(Protocol):
    """One dict per image, in order, in the photo's own pixels: JSON values, NumPy arrays (vectors together in one
    .safetensors, others as .npy) and PIL images (.png). Runs under no_grad.

    options: of the class Task.options; None for a task without.
    """

    def __call__(
        self, cfg: Any, model: Any, batches: Iterator[Batch], meta: Meta, options: Any, /
    ) -> Iterable[dict[str, Any]]: ...


class StartStep(Protocol):
    """Sets parameters and buffers of the fresh model from the training data (centers, whitening, prototypes), once,
    before the first update.

    batches: of all training images in id order, without augmentation (Data.still).
    Eval mode, no gradients. Runs on the main process; the others get its bits.
    """

    def __call__(self, cfg: Any, model: Any, batches: Iterator[Batch], meta: Meta, /) -> None: ...


class DrawStep(Protocol):
    """The photo (PIL, RGB) with what was predicted, for people."""

    def __call__(self, image: Image.Image, prediction: dict[str, Any], meta: Meta, /) -> Image.Image: ...


class FilesStep(Protocol):
    """{name: text}: what `visiontl predict` also writes, such as a field's own exchange format.

    records: (the photo's file, its prediction), where arrays and images are named by their files.
    """

    def __call__(self, cfg: Any, records: list[tuple[str, dict[str, Any]]], meta: Meta, /) -> Mapping[str, str]: ...


class ReportStep(Protocol):
    """What the report shows of a split. image: id -> photo (PIL, RGB)."""

    def __call__(
        self, cfg: Any, rows: Sequence[Any], meta: Meta, image: Photos, /
    ) -> Sequence[Figure | Table | Pictures]: ...


class PreviewStep(Protocol):
    """Made at each evaluation of val while training and kept in `previews/`; the report shows how they grew."""

    def __call__(self, cfg: Any, rows: Sequence[Any], meta: Meta, image: Photos, /) -> Pictures: ...


class RefuseStep(Protocol):
    """Why a freeze policy makes no sense for this task, or None. policy: its name."""

    def __call__(self, cfg: Any, policy: str, /) -> str | None: ...


class ExampleStep(Protocol):
    """Makes a small data set in the folder and returns the value of `task.data` that reads it.
    `task.data: example` asks for it; conformance checks live on it."""

    def __call__(self, folder: Path, /) -> Any: ...


class SamplesStep(Protocol):
    """Writes the sample data in one format; the keys of the `task:` section that read it: `data`, and what must stand
    beside it. FOLDER/new holds photos of no split, to predict."""

    def __call__(self, folder: Path, /) -> Mapping[str, Any]: ...


class OpenStep(Protocol):
    """A file as an RGB PIL image, for `sample`. Raises DataError, naming the file, where it cannot be read."""

    def __call__(self, cfg: Any, file: Path, /) -> Image.Image: ...


class OpensStep(Protocol):
    """{suffix: how such files become pictures}, of a task whose config says which it opens."""

    def __call__(self, cfg: Any, /) -> Mapping[str, OpenStep]: ...


class CheckStep(Protocol):
    """What of the annotations should be known before training, for `visiontl doctor`.

    data: what `data` returned. seen: what reading all images has shown. Opens no image, changes nothing.
    """

    def __call__(self, cfg: Any, data: Data, meta: Meta, seen: Seen, /) -> Sequence[Finding | Table]: ...


STEPS: Mapping[str, type] = {
    "data": DataStep,
    "sample": SampleStep,
    "collate": CollateStep,
    "model": ModelStep,
    "loss": LossStep,
    "rows": RowsStep,
    "mirrored": MirroredStep,
    "scaled": ScaledStep,
    "score": ScoreStep,
    "ranked": RankedStep,
    "trivial": TrivialStep,
    "predict": PredictStep,
    "start": StartStep,
    "draw": DrawStep,
    "files": FilesStep,
    "report": ReportStep,
    "preview": PreviewStep,
    "mistakes": MistakesStep,
    "explain": ExplainStep,
    "probe": ProbeStep,
    "export": ExportStep,
    "refuse": RefuseStep,
    "teach": TeachStep,
    "example": ExampleStep,
    "check": CheckStep,
    "whole": WholeStep,
    "parts": PartsStep,
    "keep": KeepStep,
}  # the fields of Task that are functions


@dataclass(frozen=True)
class Command:
    """A command: `visiontl NAME ...` where a plugin offers it under visiontl_commands, `visiontl TASK NAME ...` where
    it is a task's.

    help: one sentence without a full stop. options: what `name=value` words may change, in the way of a config's
    `a.b=c`: they may stand anywhere, and `run` finds them validated as `given.options`; flags are for how the command
    behaves, not for what it computes. epilog: what stands below `--help`; a function of the words given with it
    where it depends on them. run returns the exit code, None for 0; errors of visiontl are printed without a trace.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    epilog: str | Callable[[Sequence[str]], str] = ""
    options: type[BaseModel] | None = None

    def __post_init__(self) -> None:
        steps = {"arguments": (self.arguments, ("parser",)), "run": (self.run, ("given",))}
        settle(self, f"command {self.name!r}", steps)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task as the engine sees it: its steps are plain functions, called with their arguments by position.

    Everywhere: cfg is the validated `task:` section (its validators touch no disk); meta is Data.meta; a batch is a
    dict, of which the core owns `image` ((B, 3, H, W) uint8 or 0..1 float, or a list of (3, H, W)), `id` (B,) int64,
    `step` int and `progress` float 0..1; outputs are dicts, lists, tensors.

    Raises PluginError for a step whose signature is another one; a lazy step is checked at its first call.
    """

    name: str
    config: type[BaseModel]
    data: DataStep
    sample: SampleStep
    collate: CollateStep
    model: ModelStep
    loss: LossStep
    rows: RowsStep
    score: ScoreStep
    best: tuple[str, Literal["max", "min"]]
    """The score that picks the best checkpoint, and which way is better; `ranked` says what train.best may name."""
    predict: PredictStep

    ranked: RankedStep | None = None
    trivial: TrivialStep | None = None
    start: StartStep | None = None
    options: type[BaseModel] | None = None
    """What a user may ask of predict (threshold, top_k ...)."""
    draw: DrawStep | None = None
    files: FilesStep | None = None
    report: ReportStep | None = None
    preview: PreviewStep | None = None
    mistakes: MistakesStep | None = None
    mirrored: MirroredStep | None = None
    scaled: ScaledStep | None = None
    explain: ExplainStep | None = None
    explain_options: type[BaseModel] | None = None
    probe: ProbeStep | None = None
    export: ExportStep | None = None
    refuse: RefuseStep | None = None
    teach: TeachStep | None = None
    example: ExampleStep | None = None
    small: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Values of its config with which the task trains on its example in a second; conformance checks use them."""
    samples: Mapping[str, SamplesStep] = field(default_factory=dict[str, SamplesStep])
    """Format -> how it is written. The first is `task.data: samples`, which quick starts live on."""
    opens: Mapping[str, OpenStep] | OpensStep = field(default_factory=dict[str, OpenStep])
    """Suffix in small letters -> how files that are no photos become pictures: {".wav": spectrogram}; or what gives
    that of a config."""
    check: CheckStep | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Core config values that this task prefers where the file is silent: {"freeze.norm_stats": "fixed"}."""
    commands: Sequence[Command] = ()
    whole: WholeStep | None = None
    wholes: Sequence[str] = ()  # names of whole models that `init` may name, and `whole` knows
    parts: PartsStep | None = None
    keep: KeepStep | None = None
    limits: str = ""  # sentences on what its models must not be used for, and cannot do: they stand in model cards
    contract: int = 1  # for ever: a task that states none was written for the first

    def __new__(cls, *unnamed: Any, **given: Any) -> Task:
        if given or unnamed:  # a copy is made of nothing
            check_fields(cls, unnamed, given, CONTRACTS)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if self.contract not in CONTRACTS:  # its steps may be others; it is refused by name when it is registered
            return
        owner, optional = f"task {self.name!r}", {one.name for one in fields(self) if one.default is None}
        wanted = [step for step in STEPS if getattr(self, step) is not None or step not in optional]
        settle(self, owner, {step: (getattr(self, step), arguments_of(STEPS[step])) for step in wanted})
        if callable(self.opens):
            settle(self, owner, {"opens": (self.opens, arguments_of(OpensStep))})
        for name, step in {"samples": SamplesStep, "opens": OpenStep}.items():
            if not callable(given := getattr(self, name)):
                object.__setattr__(self, name, settled(owner, name, given, arguments_of(step)))
        if not isinstance(self.best, tuple | list) or len(self.best) != 2 or self.best[1] not in ("max", "min"):  # type: ignore[reportUnnecessaryIsInstance]
            raise PluginError(f"task {self.name!r}: best is {self.best!r}; expected (score, 'max') or (score, 'min')")
