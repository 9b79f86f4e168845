"""The one report that training and evaluation make, and how it is written."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from visiontl import __version__
from visiontl.config.resolve import as_begun, ranked, resolve
from visiontl.config.write import to_yaml
from visiontl.engine.device import Placement
from visiontl.engine.explain import explained_mistakes
from visiontl.engine.ledger import Ledger
from visiontl.engine.loader import Batches, Failure, Remaining
from visiontl.engine.model import Built
from visiontl.engine.order import fetched
from visiontl.engine.prepare import Run
from visiontl.errors import VisionTLError
from visiontl.freezing import policies
from visiontl.kit.words import count, told
from visiontl.processes.seeds import seeded
from visiontl.report import page
from visiontl.report.advice import advice
from visiontl.report.console import Console
from visiontl.report.formats import is_number
from visiontl.report.items import Figure, Pictures
from visiontl.report.run import (
    BackboneFacts,
    Best,
    Loaded,
    Mistakes,
    PhaseRows,
    Portion,
    Ranked,
    Report,
    Suggestion,
    Training,
    Trivial,
)
from visiontl.report.values import json_value
from visiontl.runs.environment import command_line
from visiontl.runs.files import write_text
from visiontl.runs.metrics import Metrics
from visiontl.task import SampleDataset

LONG = 1024  # values of an array in rows.jsonl
MOST_SAMPLES = 16  # training pictures shown


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
        ranked=ranked_score(built),
    )


def ranked_score(built: Built, key: str | None = None) -> Ranked:
    """The score that says how good a model is: key, or train.best, or the task's default."""
    known = ranked(built.resolved.task, built.resolved.cfg)
    chosen = next(name for name in (key, built.resolved.config.train.best, *known) if name in known)
    return Ranked(score=chosen, better="max" if known[chosen] == "max" else "min")


def report_of(
    run: Run,
    ledger: Ledger,
    scores: Mapping[str, Mapping[str, Any]],
    trivial: Trivial | None,
    rows: Mapping[str, Sequence[Any]],
) -> Report:
    """The report of a run that has ended, with what to try next. trivial: what is known of val's. rows: of the splits
    that are scored."""
    progress, splits = ledger.progress, run.data.splits()
    training = Training(
        policy=policies.describe(run.resolved.config.freeze.policy),
        cached_features=sorted(run.caches),
        trainability=[PhaseRows(epoch=epoch, rows=run.trainability(modes, epoch)) for epoch, modes in run.phases],
        steps=progress.step,
        best=None if progress.best is None else Best(**progress.best),
        scores_at_start=progress.start or {},
    )
    lengths = {name: len(split) for name, split in splits.items()}
    lost = {name: len(split.bad) for name, split in splits.items() if isinstance(split, Remaining) and split.bad}
    report = replace(
        describe(run.built, run.folder, run.placement, lengths, run.began),
        status=ledger.status,
        seconds=round(progress.seconds, 2),
        notes=tuple(run.console.notes),
        scores=scores,
        training=training,
        ranked=ranked_score(run.built, progress.best["score"] if progress.best else None),
        trivial={} if trivial is None else {"val": trivial},
        mistakes=mistakes_of(run.built, {name: (rows[name], splits[name]) for name in rows}, run.console),
        left_out=lost,
        classes=class_counts(run.built.meta),
    )
    return replace(report, suggestions=advised(report, Metrics.read(run.folder)))


def advised(report: Report, metrics: Sequence[Mapping[str, Any]]) -> list[Suggestion]:
    """What to try next; what the config of the run would refuse is left out."""

    def runs(one: Suggestion) -> bool:
        words = shlex.split(one.command)
        if "train" not in words:
            return True
        given = words[words.index("train") + 1 :]
        try:
            resolve(given[0], given[1:])
        except (VisionTLError, OSError):
            return False
        return True

    return [one for one in advice(report, metrics) if runs(one)]


def class_counts(meta: Mapping[str, Any]) -> dict[str, float]:
    """{class: how often it is in the training data}, where a task's meta tells `classes` and `counts`."""
    names, counts = meta.get("classes"), meta.get("counts")
    if not isinstance(names, list) or not isinstance(counts, list) or len(names) != len(counts):
        return {}
    return {str(name): number for name, number in zip(names, counts, strict=True) if is_number(number)}


def trivial_answer(built: Built, rows: Sequence[Any], key: str) -> Trivial | None:
    """What a score is on a split's rows for the answer that needs no training; None where the task knows none, or no
    finite number comes of it. Raises what the task's own code raises."""
    task, cfg = built.resolved.task, built.resolved.cfg
    if task.trivial is None:
        return None
    words, given = task.trivial(cfg, rows, built.meta)
    value = json_value(task.score(cfg, given, built.meta), "score").get(key)
    return Trivial(answer=words, value=float(value)) if is_number(value) else None


def trivial_on(built: Built, rows: Sequence[Any], split: str, console: Console) -> dict[str, Trivial]:
    """{split: the same}; what a task's code cannot tell is said, and no reason to end an evaluation."""
    try:
        found = trivial_answer(built, rows, ranked_score(built).score)
    except Exception as error:
        console.warn(f"what a trivial answer scores on {split} is not known: {type(error).__name__}: {error}")
        return {}
    return {} if found is None else {split: found}


def mistakes_of(
    built: Built, judged: Mapping[str, tuple[Sequence[Any], SampleDataset]], console: Console
) -> dict[str, Mistakes]:
    """What a task calls wrong, of each split that holds such. judged: {split: (its rows, its images)}."""
    task, found = built.resolved.task, dict[str, Mistakes]()
    pairs = task.explain_options is not None and "other" in task.explain_options.model_fields
    for name, (rows, split) in judged.items() if task.mistakes is not None else ():
        try:
            wrong = list(task.mistakes(built.resolved.cfg, rows, built.meta))  # type: ignore[reportOptionalCall]
            if wrong:
                number = len(wrong) // 2 if pairs else len(wrong)
                found[name] = Mistakes(
                    number=number, worst=f"{told(split.names[wrong[0][0]])}, {wrong[0][1]}", pairs=pairs
                )
        except Exception as error:  # the task's own code; a report must not end a run that succeeded
            console.warn(f"what is wrong on {name} is not known: {type(error).__name__}: {error}")
    return found


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


def report_items(
    built: Built, accelerator: Accelerator, rows: Sequence[Any], split: SampleDataset, name: str
) -> list[Any]:
    """What the task has to show of a split's rows; pictures are opened on demand through the split. A task whose
    `report` fails shows nothing, and the page says why."""
    task, photos = built.resolved.task, Photos(split)
    try:
        items = list(task.report(built.resolved.cfg, rows, built.meta, photos)) if task.report is not None else []
    except Exception as error:  # the task's own code; a report must not end a run that succeeded
        items = [Figure("what the task reports", partial(fail, error))]  # it is said where a figure that fails is
    if name == "val":  # beside the mistakes that the task shows, where it does
        place = next((i + 1 for i, item in enumerate(items) if isinstance(item, Pictures)), len(items))
        items[place:place] = explained_mistakes(built, accelerator, rows, split, photos)
    return [replace(item, title=f"{item.title} ({name})") for item in items]


def fail(error: Exception, axes: Any) -> None:
    raise error


def side_by_side(items: Mapping[str, Sequence[Any]]) -> list[Any]:
    """The items of several splits, what is the same of each of them side by side."""
    groups: dict[str, list[Any]] = {}
    for split, found in items.items():
        for item in found:
            groups.setdefault(str(item.title).removesuffix(f" ({split})"), []).append(item)
    return [item for group in groups.values() for item in group]


def shown_in_training(run: Run) -> list[Any]:
    """The pictures of the first training batch as the model was shown them, augmented, made anew from their samples: a
    function of the seed, so nothing that training draws is touched. What cannot be made is said."""
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    split, seed = run.data.train, run.resolved.config.train.seed
    if split is None:
        return []
    ids = fetched(run.orders(0).group(0)[0], 0)
    taken = ids[:MOST_SAMPLES]
    try:
        with seeded(seed):  # chance goes on afterwards as if nothing had been drawn
            batch = Batches(split, task.collate, cfg, meta, seed, training=True)[taken, 0, 0]
        if isinstance(batch, Failure):
            raise batch.error
        pictures = [as_picture(image) for image in batch["image"]]
        names = [str(split.names[id]) for id in taken]
    except Exception as error:  # the task's own code; a report must not end a run that succeeded
        run.console.warn(f"the training pictures could not be shown: {type(error).__name__}: {error}")
        return []
    words = f"The first {count(len(pictures), 'image')} of the first training batch, after augmentation and resizing."
    return [Pictures("What the model is shown in training", list(zip(names, pictures, strict=True)), words)]


def as_picture(image: Any) -> Image.Image:
    """(C, H, W) uint8 or 0..1 -> PIL, RGB; of an image with 2 or more than 3 channels the first alone, in gray."""
    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.float().clamp(0, 1) * 255).round()
    pixels = pixels.to(torch.uint8)
    pixels = pixels if len(pixels) == 3 else pixels[:1].expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


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


def write(
    folder: Path,
    report: Report,
    items: Sequence[Any],
    metrics: Sequence[Mapping[str, Any]] = (),
    training: Sequence[Any] = (),
) -> Path:
    """report.html with all that there is to show, then report.json. training: what stands with the curves. Returns the
    page."""
    written = page.write_report(folder, report, metrics, items, training)
    write_text(folder / "report.json", report.to_text())  # last: it is what says that a run has ended
    return written
