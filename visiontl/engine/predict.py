"""Using a trained model: `visiontl.load(run).predict("photo.jpg")`, and folders of photos from the command line."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from pydantic import BaseModel

from visiontl.config import overrides
from visiontl.config.guarded import openers
from visiontl.engine.answers import Drawing, Prediction, Predictions, display_of, facts_of
from visiontl.engine.device import place, to_device
from visiontl.engine.explain import Explainer, Explanation
from visiontl.engine.model import Built, load_model
from visiontl.engine.photos import Given, Opener, as_image, sorted_out
from visiontl.engine.predictions import out_folder
from visiontl.engine.rows import in_fp32
from visiontl.errors import ConfigError, DataError
from visiontl.kit import depths
from visiontl.kit.drawing import sheet
from visiontl.kit.finite import require_finite
from visiontl.kit.folders import find_images
from visiontl.kit.words import count
from visiontl.processes import launch
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.environment import run_folder
from visiontl.runs.files import write_text, writing
from visiontl.runs.store import MANIFEST
from visiontl.runtime.written import Written, in_words, plain_name, save_picture
from visiontl.task import Task

SHEET, COLUMNS, CELL = 48, 4, 320  # photos of a sheet, those in a row, pixels of the longer side of each
PIXELS = 400_000_000  # of the photos of a batch, beyond which it is ended early: 32 photos of 12 megapixels are fewer
KEPT = 64  # pictures from memory that the predictions of one call keep to be shown


class Predictor:
    """A trained model, ready for photos. Made by `visiontl.load`."""

    def __init__(self, built: Built, accelerator: Accelerator):
        self.built = built
        self.accelerator = accelerator
        self.opener = opener_of(built)
        self._explainer: Explainer | None = None
        # outputs in fp32, as `rows` and `loss` get them
        built.model.register_forward_hook(lambda module, given, outputs: require_finite(in_fp32(outputs)))

    @property
    def meta(self) -> Mapping[str, Any]:
        """What the model knows of its data: class names and the like."""
        return self.built.meta

    @property
    def scores(self) -> Mapping[str, Any]:
        """Its scores on the val split, as the task gave them in training; empty where none were measured."""
        return self.built.scores

    def reading(self) -> AbstractContextManager[None]:
        """Within the block pictures of more than 8 bits are read as in training."""
        return depths.reading(self.built.resolved.config.data.depth)

    def predict(self, photos: Any, **options: Any) -> Any:
        """One photo -> a dict (`Prediction`); several -> a list of dicts (`Predictions`), in their order.

        photos: a path; a PIL image of any mode; a NumPy array (H, W), (H, W, 3) or (H, W, 4); a torch tensor (3, H, W),
        (1, H, W) or (4, H, W). Arrays and tensors hold uint8, floats of 0 to 1, or uint16. Several are a folder, a
        glob, a list of any of these, or a batch (B, H, W, C) or (B, C, H, W).
        options: what the task offers (`visiontl predict RUN --help` lists them). Raises DataError for what is no
        photo, of several with its place; a file of a folder or a glob that cannot be read is said and passed over
        (`.failed`).
        """
        given = sorted_out(photos, self.opener)
        found = self._predicted(given, options)
        return found[0] if given.one else found

    def show(self, photos: Any, **options: Any) -> Image.Image:
        """The photo with what is predicted, as a PIL image; of several photos, as `predict` takes them, one sheet."""
        given = sorted_out(photos, self.opener)
        if isinstance(given.photos, Sized) and len(given.photos) > SHEET:
            raise DataError(
                f"show draws at most {SHEET} photos on a sheet; got {len(given.photos)}: show fewer of them"
            )
        pictures = [one.picture() for one in self._predicted(given, options)]
        if given.one and pictures[0] is not None:
            return pictures[0]
        small = [one.copy() for one in pictures[:SHEET] if one is not None]
        for one in small:
            one.thumbnail((CELL, CELL))
        return sheet([small[i : i + COLUMNS] for i in range(0, len(small), COLUMNS)])

    def __repr__(self) -> str:
        """`Predictor(classification, visiontl/tiny, 3 classes, val accuracy 0.9530)`"""
        return f"Predictor({', '.join(facts_of(self.built))})"

    def _repr_html_(self) -> str:
        return display_of(self.built)

    def _predicted(self, given: Given, options: Mapping[str, Any]) -> Predictions:
        task, depth = self.built.resolved.task, self.built.resolved.config.data.depth
        made, sources, failed = parse_options(task, options), deque[Any](), dict[str, str]()

        def images() -> Iterator[Image.Image]:
            for source, image in with_sources(given, failed, self.opener):
                sources.append(source)
                yield image

        answers = self.stream(images(), made)
        drawings = (Drawing(task.draw, self.meta, sources.popleft(), depth, self.opener) for _ in itertools.count())
        found = Predictions(map(Prediction, answers, drawings), failed)
        if not found:
            raise DataError(next(iter(failed.values()), "no photos: what was given is empty"))
        return found

    def explain(self, photo: Any, **options: Any) -> Explanation:
        """Where in a photo lies what raised a number of the answer: a class, a box, a region, a similarity (Grad-CAM).

        photo: one, as `predict` takes it. options: what the task offers (`visiontl explain RUN --help` lists them).
        Raises DataError for a photo without such a number, and ConfigError for a task without.
        """
        if self._explainer is None:
            self._explainer = Explainer(self.built, self.accelerator)
        chosen = self._explainer.parse(options)
        with self.reading():
            return self._explainer.explain(as_image(photo, self.opener), chosen)

    def stream(self, photos: Iterable[Image.Image], options: BaseModel | None) -> Iterator[dict[str, Any]]:
        """Predictions one by one, in the photos' order; a batch is read when it is needed. photos: RGB and upright."""
        resolved, model = self.built.resolved, self.built.model.eval()
        task, cfg, meta = resolved.task, resolved.cfg, self.built.meta
        prepare = task.sample(cfg, self.built.backbone.spec, meta)

        def batches() -> Iterator[dict[str, Any]]:
            coming, done = iter(photos), 0
            while True:
                with self.reading():
                    samples = [prepare(image) for image in together(coming, self.built.batch_size)]
                if not samples:
                    return
                batch = task.collate(cfg, samples, None, meta)
                batch |= {"id": torch.arange(done, done + len(samples)), "step": 0, "progress": 1.0}
                done += len(samples)
                yield to_device(batch, self.accelerator.device)

        predictions = iter(task.predict(cfg, model, batches(), meta, options))
        while True:
            with torch.no_grad(), self.accelerator.autocast():  # not while the caller has its turn
                prediction = next(predictions, None)
            if prediction is None:
                return
            yield prediction


def together(photos: Iterator[Image.Image], most: int) -> Iterator[Image.Image]:
    """The photos of one batch: at most `most`, and none after the one with which they exceed PIXELS."""
    pixels = 0
    for photo in itertools.islice(photos, most):
        pixels += photo.width * photo.height
        yield photo
        if pixels > PIXELS:
            return


def load(run: str | os.PathLike[str]) -> Predictor:
    """The model of a run folder, or of its `model/` folder alone, on the best device. Needs no training data."""
    built = load_model(Path(run))
    return Predictor(built, placed(built, Console(main=False)))


def placed(built: Built, console: Console) -> Accelerator:
    return place(built.resolved.config.train, built.model, built.backbone, console).accelerator


def with_sources(
    given: Given, failed: dict[str, str], opener: Opener
) -> Iterator[tuple[str | Path | Image.Image | None, Image.Image]]:
    """(what a photo can be shown from again, the photo as RGB): a file, or the picture itself of the first KEPT. What a
    folder holds and cannot be read is said, and added to `failed`."""
    if given.found:
        console, files = Console(), deque[tuple[Path, Image.Image]]()
        for note in given.notes:
            console.say(note)
        for _ in readable(given.photos, files, failed, console, opener):
            yield files.popleft()
        return
    for index, photo in enumerate(given.photos):
        try:
            image = as_image(photo, opener)
        except DataError as error:
            raise DataError(f"{'' if given.one else f'photos[{index}]: '}{error}") from None
        yield (photo if isinstance(photo, str | Path) else image if index < KEPT else None), image


def opener_of(built: Built) -> Opener:
    return Opener(built.resolved.cfg, openers(built.resolved.task, built.resolved.cfg))


def parse_options(task: Task, values: Mapping[str, Any]) -> BaseModel | None:
    """Options by name -> the task's validated options; all mistakes at once."""
    if task.options is not None:
        return overrides.parse_options(task.options, values, f"predict with task {task.name}")
    if values:
        raise ConfigError(f"task {task.name} takes no predict options; got {', '.join(values)}")
    return None


def check_no_runs(patterns: Sequence[str | Path]) -> None:
    """Raises DataError for a run folder among the images: a glob of runs may have matched several."""
    for path in map(Path, patterns):
        if (path / "model" / MANIFEST).is_file():
            raise DataError(f"{path} is a run folder, not images; name one RUN (a glob may have matched several)")


def readable(
    files: Iterable[Path],
    opened: deque[tuple[Path, Image.Image]],
    failed: dict[str, str],
    console: Console,
    opener: Opener,
) -> Iterator[Image.Image]:
    """The files' pictures; each is added to `opened`, and what cannot be read to `failed`, with the reason."""
    for file in files:
        try:
            opened.append((file, opener(file)))
        except DataError as error:
            failed[str(file)] = str(error)
            console.warn(str(error))
            continue
        yield opened[-1][1]


def predict_files(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    pictures: bool = True,
) -> dict[str, Any]:
    """Predict files, folders and globs; write predictions.jsonl, predictions.csv, and pictures where the task draws.

    A file that cannot be read is counted and named, and the others go on. Each prediction is written before the next
    one is made, so what stops the rest leaves those before it. Returns {"folder", "predicted",
    "failed": {file: reason}}.
    """
    if launch.world_size() > 1:
        raise ConfigError("predict runs on one process (each would write every file); start it without a launcher")
    console = Console()
    check_no_runs(images)
    built = load_model(run)
    opener = opener_of(built)
    files, notes = find_images(images, suffixes=opener.suffixes)
    for note in notes:
        console.say(note)
    chosen = parse_options(built.resolved.task, options or {})
    predictor = Predictor(built, placed(built, console))
    folder = out_folder(Path(out)) if out is not None else run_folder(folders.outputs(Path(run)), "predict")
    written = Written(folder)
    with writing(folder, "make room, then predict again into another --out"):
        try:
            predict_each(predictor, list(files), chosen, written, console, pictures)
        except BaseException:
            with suppress(Exception):  # the first error is the one to tell
                written.finish()
            stopped(folder, "predicted", (len(written.records), len(files)), console)
            raise
        written.finish()
        task, records, failed = built.resolved.task, written.records, written.failed
        if task.files is not None:
            listed = [(record["file"], {k: v for k, v in record.items() if k != "file"}) for record in records]
            for name, text in task.files(built.resolved.cfg, listed, built.meta).items():
                write_text(folder / plain_name(name), text)
        if failed:
            write_text(folder / "unreadable.json", json.dumps(failed, indent=1, ensure_ascii=False))
    console.say(f"{len(records)} predicted" + (f", {len(failed)} could not be read" if failed else ""))
    for record in records[:5]:
        console.say(f"  {in_words(record)}")
    console.say(f"written to {folder}")
    if not records:
        first, where = next(iter(failed.values()), "no reason is known"), folder / "unreadable.json"
        raise DataError(f"none of {count(len(files), 'image')} could be read; {where} names them; the first: {first}")
    return {"folder": str(folder), "predicted": len(records), "failed": failed}


def stopped(folder: Path, what: str, done: tuple[int, int], console: Console) -> None:
    """Say what is there of files that were not all predicted or explained; where nothing is, no folder stays. done: of
    how many."""
    if done[0]:
        console.warn(f"stopped before all were {what}: {done[0]} of {done[1]} are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def predict_each(
    predictor: Predictor,
    files: Sequence[Path],
    options: BaseModel | None,
    written: Written,
    console: Console,
    pictures: bool,
) -> None:
    """Predict the files one by one, each written as it comes; what cannot be read is added to `written.failed`."""
    task, opened = predictor.built.resolved.task, deque[tuple[Path, Image.Image]]()
    photos = readable(files, opened, written.failed, console, predictor.opener)
    with console.progress(total=len(files), unit="image", what="predict") as bar:
        for done, prediction in enumerate(predictor.stream(photos, options), start=1):
            file, image = opened.popleft()
            name = written.add(file, prediction)
            if pictures and task.draw is not None:
                drawn = task.draw(image, prediction, predictor.built.meta)
                save_picture(drawn, written.folder / "pictures" / f"{name}.jpg")
            bar.update(done + len(written.failed), images=1)
