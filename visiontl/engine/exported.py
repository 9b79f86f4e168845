"""`visiontl predict model.onnx`: the files that the run itself would write."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from visiontl import plugins
from visiontl.config.guarded import openers
from visiontl.engine.photos import Opener
from visiontl.engine.predict import readable, stopped
from visiontl.engine.predictions import out_folder
from visiontl.engine.resizing import resized
from visiontl.errors import CheckpointError, DataError, VisionTLError, first_line
from visiontl.kit import depths
from visiontl.kit.folders import find_images
from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.runs.environment import run_folder
from visiontl.runs.files import write_text, writing
from visiontl.runtime.description import NAME
from visiontl.runtime.model import Model, load
from visiontl.runtime.written import Written, in_words, plain_name, save_picture
from visiontl.task import Task


def predict_exported(
    model: str | Path,
    images: Sequence[str | Path],
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: bool = True,
) -> dict[str, Any]:
    """As `visiontl.engine.predict.predict_files`, by the graph. Photos are resized as in training, to the bit."""
    console = Console()
    made = load(model, resized, torch.get_num_threads())
    chosen = dict(options or {})
    made.options(chosen)
    task, cfg = task_of(made, console)
    opener = Opener(cfg, openers(task, cfg) if task is not None and cfg is not None else {})
    files, notes = find_images(images, suffixes=opener.suffixes)
    for note in notes:
        console.say(note)
    folder = out_folder(Path(out)) if out is not None else run_folder(made.path.absolute().parent.parent, "predict")
    written = Written(folder)
    with writing(folder, "make room, then predict again into another --out"):
        try:
            photos = opened(list(files), written.failed, console, opener)
            with console.progress(total=len(files), unit="image", what="predict") as bar:
                for done in predict_each(made, photos, chosen, written, console, task if pictures else None):
                    bar.update(done + len(written.failed), images=1)
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                written.finish()
            stopped(folder, "predicted", (len(written.records), len(files)), console)
            raise
        written.finish()
        write_files(made, task, cfg, written)
    records, failed = written.records, written.failed
    console.say(f"{len(records)} predicted" + (f", {len(failed)} could not be read" if failed else ""))
    for record in records[:5]:
        console.say(f"  {in_words(record)}")
    console.say(f"written to {folder}")
    if not records:
        raise DataError(f"none of {count(len(files), 'image')} could be read; the first: {next(iter(failed.values()))}")
    return {"folder": str(folder), "predicted": len(records), "failed": failed}


def predict_each(
    model: Model,
    photos: Iterator[tuple[Path, Image.Image]],
    options: Mapping[str, Any],
    written: Written,
    console: Console,
    task: Any,
) -> Iterator[int]:
    """Each photo is written as it comes; gives how many are. task: that draws, or None."""
    with depths.reading(model.depth):
        for file, image in photos:
            try:
                prediction = model.predict(image, **options)
            except DataError as error:  # so long that what is shown of it would fill the memory
                written.failed[str(file)] = f"{file}: {error}"
                console.warn(written.failed[str(file)])
                continue
            name = written.add(file, prediction)
            if task is not None and task.draw is not None:
                with described(model, task):
                    drawn = task.draw(image, prediction, model.about.get("meta") or {})
                save_picture(drawn, written.folder / "pictures" / f"{name}.jpg")
            yield len(written.records)


@contextmanager
def described(model: Model, task: Task) -> Iterator[None]:
    """Within the block the task's own code reads what model.json says of its data, which somebody may have changed."""
    try:
        yield
    except VisionTLError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{model.path.with_name(NAME)}: its meta is not what task {task.name} draws and writes by "
            f"({type(error).__name__}: {first_line(error)}); export the run again, or draw nothing (--no-pictures)"
        ) from error


def opened(
    files: Sequence[Path], failed: dict[str, str], console: Console, opener: Opener
) -> Iterator[tuple[Path, Image.Image]]:
    """Those that can be read; the others are added to `failed`, with the reason."""
    found = deque[tuple[Path, Image.Image]]()
    for _ in readable(files, found, failed, console, opener):
        yield found.popleft()


def write_files(model: Model, task: Task | None, cfg: Any, written: Written) -> None:
    """What the task writes of all photos together, and what could not be read."""
    if task is not None and task.files is not None and cfg is not None:
        listed = [(record["file"], {k: v for k, v in record.items() if k != "file"}) for record in written.records]
        with described(model, task):
            files = task.files(cfg, listed, model.about.get("meta") or {})
        for name, text in files.items():
            write_text(written.folder / plain_name(name), text)
    if written.failed:
        write_text(written.folder / "unreadable.json", json.dumps(written.failed, indent=1, ensure_ascii=False))


def task_of(model: Model, console: Console) -> tuple[Task | None, Any]:
    """The task that the model was trained for, by whose words pictures are drawn and files are written, and its config;
    None where its plugin is not installed, which is said."""
    try:
        task = plugins.task(str(model.about.get("task")))
        return task, task.config.model_validate({**(model.about.get("section") or {}), "data": "elsewhere"})
    except (VisionTLError, ValueError) as error:
        first = str(error).splitlines()[0]
        console.warn(f"nothing is drawn and no file of the task's own is written: {first}")
        return None, None
