"""The contract of a task: one frozen dataclass of plain functions. This module imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import argparse

    from pydantic import BaseModel

CONTRACT = 1  # a task written for another version of the contract is refused by name


@dataclass(frozen=True)
class lazy:
    """A function named by its place, imported at the first call: `lazy("package.module:function")`.

    Lets a plugin's top module describe its task without importing torch, and pickles by name, so that
    workers started by spawn can be handed one.
    """

    place: str

    def resolve(self) -> Callable[..., Any]:
        module, _, name = self.place.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.resolve()(*args, **kwargs)


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


@dataclass(frozen=True)
class Data:
    """The splits of a data set. All but `train` may be absent; when evaluating elsewhere, `train` too.

    still: the images of train, with the same ids, without augmentation: what Task.start is shown. None: train as it is.
    meta: JSON values that the model needs to be rebuilt and its answers to be named (class names, counts).
        It goes through JSON once before anything sees it.
    batches: (split, seed, epoch, batch_size) -> list of id lists, each one rank's batch; rank r takes
        r, r + world, ...; the ragged tail is dropped; the list has the same length in every epoch.
    notes: what was skipped, counted or assumed, in sentences; printed and kept in the report.
    """

    train: SampleDataset | None = None
    val: SampleDataset | None = None
    test: SampleDataset | None = None
    still: SampleDataset | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    batches: Callable[[str, int, int, int], list[list[int]]] | None = None
    notes: Sequence[str] = ()

    def splits(self) -> dict[str, SampleDataset]:
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


@dataclass(frozen=True)
class Command:
    """A command: `visiontl NAME ...` where a plugin offers it under visiontl_commands, `visiontl TASK NAME ...` where
    it is a task's.

    help: one sentence without a full stop. epilog: what stands below `--help`; a function of the words given with it
    where it depends on them. run returns the exit code, None for 0; errors of visiontl are printed without a trace.
    """

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    epilog: str | Callable[[Sequence[str]], str] = ""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task as the engine sees it. cfg is the validated `task:` section; its validators touch no disk.

    Shapes: a batch is a dict; the core owns `image` ((B, 3, H, W) uint8 or 0..1 float, or a list of
    (3, H, W)), `id` (B,) int64, `step` int and `progress` float 0..1. Outputs are dicts, lists, tensors.
    """

    name: str
    config: type[BaseModel]
    data: Callable[..., Data]
    """(cfg, ImageSpec, meta=None) -> Data. Given meta (evaluating elsewhere), class order comes from it."""
    sample: Callable[..., Callable[..., dict[str, Any]]]
    """(cfg, ImageSpec, meta) -> (PIL RGB image with EXIF applied -> sample carrying `size`, the photo's (H, W))."""
    collate: Callable[..., dict[str, Any]]
    """(cfg, samples, generator, meta) -> batch. generator is None in evaluation. Picklable."""
    model: Callable[..., Any]
    """(cfg, Backbone, meta) -> nn.Module with forward(batch) -> outputs; reads no file; holds the backbone once."""
    loss: Callable[..., dict[str, Any]]
    """(cfg, outputs, batch, meta) -> {"loss": mean over the batch, ...parts}. Pure; training mode."""
    rows: Callable[..., list[Any]]
    """(cfg, outputs, batch, meta) -> one small picklable record per image, in batch order, no device tensors."""
    score: Callable[..., dict[str, Any]]
    """(cfg, rows, meta) -> {"accuracy": 0.93, ...}. Pure; every image of the split exactly once, in id order."""
    best: tuple[str, str]
    """The score that picks the best checkpoint, and "max" or "min"."""
    predict: Callable[..., Any]
    """(cfg, model, batches, meta, options) -> iterator of dicts, one per image, in the photo's own pixels:
    JSON values, NumPy arrays (vectors together in one .safetensors, others as .npy) and PIL images (.png). Runs under
    no_grad."""

    start: Callable[..., None] | None = None
    """(cfg, model, batches, meta) -> None: sets parameters and buffers of the fresh model from the training data
    (centers, whitening, prototypes), once, before the first update. Eval mode, no gradients; batches are of all
    training images in id order, without augmentation (Data.still). Runs on the main process; the others get its
    bits."""
    options: type[BaseModel] | None = None
    """What a user may ask of predict (threshold, top_k ...)."""
    draw: Callable[..., Any] | None = None
    """(PIL image, prediction, meta) -> PIL image for people."""
    files: Callable[..., Mapping[str, str]] | None = None
    """(cfg, [(photo's file, prediction)], meta) -> {name: text}: what `visiontl predict` also writes, such as a
    field's own exchange format. Arrays and images in a prediction are named by their files."""
    report: Callable[..., list[Any]] | None = None
    """(cfg, rows, meta, image: id -> PIL) -> [visiontl.Figure | Table | Pictures]."""
    preview: Callable[..., Any] | None = None
    """(cfg, rows, meta, image: id -> PIL) -> visiontl.Pictures, made at each evaluation of val while
    training and kept in `previews/`; the report shows how they grew."""
    refuse: Callable[[Any, str], str | None] | None = None
    """(cfg, name of the freeze policy) -> why it makes no sense for this task, or None."""
    example: Callable[[Path], Any] | None = None
    """Makes a small data set in the folder and returns the value of `task.data` that reads it.
    `task.data: example` asks for it; quick start and conformance tests live on it."""
    small: Mapping[str, Any] = field(default_factory=dict)
    """Values of its config with which the task trains on its example in a second; conformance checks use them."""
    check: Callable[..., list[Any]] | None = None
    """(cfg, Data, meta, visiontl.Seen) -> [visiontl.Finding | Table]: what of the annotations should be
    known before training, for `visiontl doctor`. Data is what `data` returned. Opens no image, changes nothing."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Core config values that this task prefers where the file is silent: {"freeze.norm_stats": "fixed"}."""
    commands: Sequence[Command] = ()
    contract: int = CONTRACT
