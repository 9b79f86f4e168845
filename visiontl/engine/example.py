"""`task.data: example` and `task.data: samples`: data sets that the task makes on the spot."""

from __future__ import annotations

from pathlib import Path

from visiontl.config.resolve import Resolved, with_task_data
from visiontl.errors import DataError
from visiontl.processes import ranks
from visiontl.report.console import Console

SAMPLES = "samples"  # the word for sample data; `example` is for checks


def made_folder(resolved: Resolved, word: str) -> Path:
    """Where the data lies that a word in `task.data` stands for."""
    return Path(resolved.config.run.folder) / f"{word}-{resolved.task.name}"


def with_example(resolved: Resolved, console: Console) -> Resolved:
    """A word in `task.data` -> the data set that it stands for, made on the spot beside the runs."""
    word, task = resolved.made, resolved.task
    if word is None:
        return resolved
    folder = made_folder(resolved, word)
    own = f"; task.data=./{word} is the folder of that name here" if Path(word).is_dir() else ""
    if word == "example":
        if task.example is None:
            raise DataError(f"task {task.name} makes no example data; give task.data a path")
        make = task.example
        section = {"data": ranks.on_main(lambda: make(folder))}
        said = "a small example made on the spot"
    else:
        if not task.samples:
            raise DataError(f"task {task.name} makes no sample data; give task.data a path")
        write = next(iter(task.samples.values()))
        section = dict(ranks.on_main(lambda: write(folder)))
        said = "samples drawn on the spot"
    console.say(f"the data is {said}, in {folder}; no real photos{own}", keep=True)
    return with_task_data(resolved, section.pop("data"), section)
