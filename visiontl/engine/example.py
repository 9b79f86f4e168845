"""`task.data: example`: a small data set that the task makes on the spot."""

from __future__ import annotations

from pathlib import Path

from visiontl.config.resolve import Resolved, with_task_data
from visiontl.errors import DataError
from visiontl.processes import ranks
from visiontl.report.console import Console


def with_example(resolved: Resolved, console: Console) -> Resolved:
    """`task.data: example` -> a small data set made on the spot, beside the runs."""
    if not resolved.example:
        return resolved
    make = resolved.task.example
    if make is None:
        raise DataError(f"task {resolved.task.name} makes no example data; give task.data a path")
    folder = Path(resolved.config.run.folder) / f"example-{resolved.task.name}"
    place = ranks.on_main(lambda: make(folder))
    console.say(f"the data is a small example made on the spot, in {folder}; no real photos", keep=True)
    return with_task_data(resolved, place)
