"""What is to be measured, and on what: a trained model, or one that a caller built."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from visiontl.config.overrides import parse_options
from visiontl.engine.folds import on_other_data
from visiontl.engine.given import through_json
from visiontl.engine.model import Built, load_model, model_folder, resolve_run
from visiontl.engine.start import read_data
from visiontl.errors import ConfigError, DataError
from visiontl.kit import memory
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.origin import Asked
from visiontl.task import Data, MirroredStep, Task


@dataclass(frozen=True)
class Subject:
    """What is to be measured, on what, and where the report goes (a new folder `parent/name-...`)."""

    built: Built
    data: Data
    parent: Path
    name: str
    lists: Path | None = None  # the run whose own split lists are to be compared with


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
    if data is None and {key: now.get(key) for key in built.meta} != built.meta:
        raise DataError(
            f"{run}: its data has other classes or counts now than when it was trained; name the data to "
            f"evaluate on: visiontl evaluate {run} DATA"
        )
    for line in found.notes:
        console.say(line, keep=True)
    return Subject(built, found, folders.outputs(run), "evaluate", run if data is None else None)


def flipped(subject: Subject, flip: bool, console: Console) -> Subject:
    """The same; with flip its model looks at photos and their mirror images. Raises ConfigError for a task that
    refuses, or has no mean of both."""
    if not flip:
        return subject
    task = subject.built.resolved.task
    if task.options is not None and "flip" in task.options.model_fields:
        parse_options(task.options, {"flip": True}, f"evaluate with task {task.name}")
    step = mirrored_step(task)
    console.say("each photo and its mirror image are looked at (flip=true)", keep=True)
    return replace(subject, built=replace(subject.built, model=Mirrored(step, subject.built)))


class Mirrored(nn.Module):
    """A task's model that looks at each photo and at its mirror image."""

    def __init__(self, step: MirroredStep, built: Built):
        super().__init__()
        self.step, self.built, self.model = step, built, built.model

    def forward(self, batch: dict[str, Any]) -> Any:
        return self.step(self.built.resolved.cfg, self.model, batch, self.built.meta)


def mirrored_step(task: Task) -> MirroredStep:
    if task.mirrored is None:
        raise ConfigError(
            f"option flip: task {task.name} has no mean of what it says of a photo and of its mirror image "
            "(Task.mirrored is not given); leave flip out"
        )
    return task.mirrored
