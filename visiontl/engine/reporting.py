"""The one report that training and evaluation make, and how it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from visiontl import __version__
from visiontl.config.resolve import as_begun
from visiontl.config.write import to_yaml
from visiontl.engine.device import Placement
from visiontl.engine.model import Built
from visiontl.report import page
from visiontl.report.run import BackboneFacts, Loaded, Portion, Report
from visiontl.report.values import json_value
from visiontl.runs.environment import command_line
from visiontl.runs.files import write_text
from visiontl.task import SampleDataset

LONG = 1024  # values of an array in rows.jsonl


@dataclass(frozen=True)
class Photos:
    """id -> photo, with the files' names by id: what a task's `report` and `preview` get as `image`."""

    split: SampleDataset

    @property
    def names(self) -> Sequence[str]:
        return self.split.names

    def __call__(self, id: int) -> Any:
        return self.split.image(id)


def describe(built: Built, folder: Path, placement: Placement, images: Mapping[str, int], began: datetime) -> Report:
    """What is known of a run or an evaluation before its first number. images: of each split."""
    config = built.resolved.config
    return Report(
        visiontl=__version__,
        run=str(folder),
        task=built.resolved.task.name,
        status="started",
        started=began.isoformat(timespec="seconds"),
        command=command_line(),
        seed=config.train.seed,
        environment=placement.environment(),
        data=images,
        backbone=BackboneFacts(
            name=built.backbone.name,
            weights=config.backbone.weights if config.init is None else f"init: {config.init}",
            parameters=sum(parameter.numel() for parameter in built.backbone.parameters()),
            loaded=share_loaded(built),
        ),
        config=to_yaml(as_begun(built.resolved), comments=False),
    )


def share_loaded(built: Built) -> Loaded | None:
    """How much of the backbone its weights filled; None where nothing was to be matched."""
    found = built.loaded
    if found is None or found.source == "none":
        return None
    share = found.share
    return Loaded(
        values=Portion(matched=share.values, total=share.of_values),
        tensors=Portion(matched=share.tensors, total=share.of_tensors),
    )


def report_items(built: Built, rows: Sequence[Any], split: SampleDataset, name: str) -> list[Any]:
    """What the task has to show of a split's rows; pictures are opened on demand through the split."""
    task = built.resolved.task
    if task.report is None:
        return []
    items = task.report(built.resolved.cfg, rows, built.meta, Photos(split))
    return [replace(item, title=f"{item.title} ({name})") for item in items]


def write_rows(folder: Path, split: str, names: Sequence[str], rows: Sequence[Any]) -> None:
    """Append a line for each image of a split to rows.jsonl: {"split", "id", "file", "row"}, the row as the task made
    it. Arrays of more than LONG values and bytes are only described: they are for the report's pictures."""
    with (folder / "rows.jsonl").open("a", encoding="utf-8", errors="backslashreplace") as file:
        for id, (name, row) in enumerate(zip(names, rows, strict=True)):
            line = {"split": split, "id": id, "file": str(name), "row": json_value(described(row), "row")}
            file.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")


def described(value: Any) -> Any:
    """A row with words in the place of what is too long for a line."""
    if isinstance(value, Mapping):
        return {key: described(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [described(one) for one in value] if len(value) <= LONG else f"{len(value)} values, left out"
    if isinstance(value, bytes):
        return f"{len(value)} bytes, left out"
    if math.prod(getattr(value, "shape", ())) > LONG:
        return f"{value.dtype} array {tuple(value.shape)}, left out"
    return value


def write(folder: Path, report: Report, items: Sequence[Any], metrics: Sequence[Mapping[str, Any]] = ()) -> Path:
    """report.html with all that there is to show, then report.json. Returns the page."""
    written = page.write_report(folder, report, metrics, items)
    write_text(folder / "report.json", report.to_text())  # last: it is what says that a run has ended
    return written
