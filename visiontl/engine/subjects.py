"""What is to be measured, and on what: a trained model, or one that a caller built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from visiontl.config.overrides import parse_options
from visiontl.engine.folds import on_other_data
from visiontl.engine.given import through_json
from visiontl.engine.model import Built, load_model, model_folder, resolve_run
from visiontl.engine.start import read_data
from visiontl.errors import ConfigError, DataError, shortened
from visiontl.kit import memory
from visiontl.kit.words import did_you_mean
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.report.items import MirroredStep, ScaledStep
from visiontl.runs import folders
from visiontl.runs.origin import Asked
from visiontl.task import Data, SampleDataset, Task

OPTIONS = ("flip", "scales")


@dataclass(frozen=True)
class Subject:
    """What is to be measured, on what, and where the report goes (a new folder `parent/name-...`)."""

    built: Built
    data: Data
    parent: Path
    name: str
    lists: Path | None = None  # the run whose own split lists are to be compared with
    photos: bool = False  # whether samples have to bring their photo

    def seen(self, split: SampleDataset) -> SampleDataset:
        """A split as the model is shown it."""
        return WithPhotos(split) if self.photos else split


def subject_of_run(asked: Asked, console: Console) -> Subject:
    """A trained model, on the run's own data or, in its class order, on other data."""
    run, data = asked.run, asked.data
    built = load_model(run)
    resolved = built.resolved
    if asked.overrides:
        resolved = resolve_run(model_folder(run), asked.overrides)
    if data is not None:
        resolved = on_other_data(resolved, str(data))
    built = replace(built, resolved=resolved)
    meta = built.meta if data is not None else None
    memory.recall_from(run)
    found = ranks.main_first(lambda: read_data(resolved, built.backbone.spec, meta))
    now = through_json(found.meta)
    changed = [key for key in built.meta if now.get(key) != built.meta[key]] if data is None else []
    if changed:
        then, since = (shortened(str(meta.get(changed[0])), 80) for meta in (built.meta, now))
        raise DataError(
            f"{run}: its data has other {' and '.join(changed)} now than when it was trained ({changed[0]}: {since}, "
            f"then {then}); put the data back, or measure the run on other data: visiontl evaluate {run} DATA"
        )
    for line in found.notes:
        console.say(line, keep=True)
    return Subject(built, found, folders.outputs(run), "evaluate", run if data is None else None)


def looked_at(subject: Subject, asked: Mapping[str, Any], console: Console) -> Subject:
    """The same; asked: {"flip": true}: its model looks at photos and at their mirror images; {"scales": [...]}: in
    several sizes. Raises ConfigError for other names, and for a task that refuses or has no mean of its answers."""
    for name in asked:
        if name not in OPTIONS:
            raise ConfigError(f"option {name}: evaluate has {' and '.join(OPTIONS)}{did_you_mean(name, OPTIONS)}")
    flip, scales = asked.get("flip", False), asked.get("scales")
    if not isinstance(flip, bool):
        raise ConfigError(f"option flip: got {flip!r}; expected true or false")
    if not flip and scales is None:
        return subject
    built = subject.built
    task, cfg, model, meta = built.resolved.task, built.resolved.cfg, built.model, built.meta
    options = options_of(task, {name: value for name, value in asked.items() if value is not None})
    if scales is None:
        step = mirrored_step(task)
        console.say("each photo and its mirror image are looked at (flip=true)", keep=True)
        return replace(subject, built=replace(built, model=Looking(model, lambda batch: step(cfg, model, batch, meta))))
    sized = scaled_step(task)
    both = ", each of them and its mirror image" if flip else ""
    console.say(f"each photo is looked at in several sizes (scales={scales}){both}", keep=True)
    model = Looking(model, lambda batch: sized(cfg, built.model, batch, meta, options))
    return replace(subject, built=replace(built, model=model), photos=True)


def options_of(task: Task, asked: Mapping[str, Any]) -> Any:
    """The task's options, checked by itself, of those that it has."""
    if task.options is None:
        return None
    known = {name: value for name, value in asked.items() if name in task.options.model_fields}
    return parse_options(task.options, known, f"evaluate with task {task.name}")


class Looking(nn.Module):
    """A task's model that is asked through a step of its task."""

    def __init__(self, model: nn.Module, step: Callable[[dict[str, Any]], Any]):
        super().__init__()
        self.model, self.step = model, step

    def forward(self, batch: dict[str, Any]) -> Any:
        return self.step(batch)


class WithPhotos(SampleDataset):
    """A split whose samples bring their photo, too."""

    def __init__(self, split: SampleDataset):
        self.split, self.names = split, split.names

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return {**self.split[key], "photo": self.split.image(key[0])}

    def image(self, id: int) -> Any:
        return self.split.image(id)


def mirrored_step(task: Task) -> MirroredStep:
    if task.mirrored is None:
        raise ConfigError(
            f"option flip: task {task.name} has no mean of what it says of a photo and of its mirror image "
            "(Task.mirrored is not given); leave flip out"
        )
    return task.mirrored


def scaled_step(task: Task) -> ScaledStep:
    if task.scaled is None or task.options is None or "scales" not in task.options.model_fields:
        raise ConfigError(
            f"option scales: task {task.name} is shown a photo in one size, that of its config, and has no mean over "
            "several (Task.scaled is not given); leave scales out"
        )
    return task.scaled
