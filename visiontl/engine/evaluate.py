"""Scores of a run, or of a config's model before any training, on its own splits or on other data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from visiontl.config.overrides import in_words
from visiontl.config.resolve import Resolved
from visiontl.engine import scan
from visiontl.engine.as_it_is import as_built, as_it_is, names_a_whole
from visiontl.engine.device import current_device, place
from visiontl.engine.folds import readable_data, splits_there
from visiontl.engine.predictions import out_folder
from visiontl.engine.reporting import describe, mistakes_of, report_items, side_by_side, trivial_on, write, write_rows
from visiontl.engine.results import Result
from visiontl.engine.rows import gather_rows, say_scores, score_rows
from visiontl.engine.splits import choose_splits
from visiontl.engine.subjects import Subject, looked_at, subject_of_run
from visiontl.kit.finite import require_finite
from visiontl.kit.words import count
from visiontl.processes import liveness, ranks
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.environment import run_folder
from visiontl.runs.files import write_text, writing
from visiontl.runs.images import write_images
from visiontl.runs.origin import Asked, as_started

AGAIN = "make room, then evaluate again into another folder"


def evaluate(
    run: str | os.PathLike[str] | Resolved,
    data: str | Path | None = None,
    splits: Sequence[str] | None = None,
    overrides: Sequence[str | Mapping[str, Any]] | Mapping[str, Any] = (),
    out: str | Path | None = None,
    **options: Any,
) -> Result:
    """Scores of a run on its own val and test splits, or on other data in the model's class order.

    run: a run folder; a config, whose model is measured before any training; a whole model, `torchvision/NAME[:TAG]`.
    options: flip=True: each photo and its mirror image are looked at; scales=[0.75, 1.0]: each photo in these sizes;
    what is said of them is averaged as predict does.
    Returns the report, also written (report.json, report.html), with a line for each image (rows.jsonl), to a new
    folder: `out`, or one in the run; of a `model/` alone beside it.
    """
    began, overrides = datetime.now(), in_words(overrides)
    run = run if isinstance(run, Resolved) else Path(run)
    current_device()  # starts the process group
    console = Console(main=ranks.rank() == 0)
    place = None if out is None else ranks.on_main(lambda: out_folder(Path(out)).absolute())
    with liveness.watched():
        if isinstance(run, Path) and names_a_whole(run):
            subject = Subject(*as_it_is(str(run), data, overrides, console))
            return measure(looked_at(subject, options, console), splits, console, began, place)
        if isinstance(run, Resolved) or run.is_file():
            subject = Subject(*as_built(run, data, overrides, console))
            return measure(looked_at(subject, options, console), splits, console, began, place)
        asked = Asked(run, None if data is None else str(data), overrides)
        with as_started(asked, console) as asked:
            return measure(looked_at(subject_of_run(asked, console), options, console), splits, console, began, place)


def measure(
    subject: Subject,
    splits: Sequence[str] | None,
    console: Console,
    began: datetime,
    out: Path | None = None,
    items: Sequence[Any] = (),
) -> Result:
    """Rows, scores and report of the splits; by default of all that were not trained on. items: what the report shows
    before the splits'."""
    built, config = subject.built, subject.built.resolved.config
    task, cfg = built.resolved.task, built.resolved.cfg
    wanted = choose_splits(splits_there(config.data, subject.data), splits)
    found = readable_data(config.data, task, cfg, subject.data, console, list(wanted))
    if subject.lists is not None:
        folders.compare_lists(subject.lists, {name: split.names for name, split in found.splits().items()}, console)
    placement = place(config.train, built.model, built.backbone, console)
    built.model.register_forward_hook(lambda module, given, outputs: require_finite(outputs))
    folder = out or run_folder(subject.parent, subject.name)
    scores, shown, trivial, wrong = {}, {}, {}, {}
    chosen = choose_splits(found.splits(), splits)
    for name, split in chosen.items():
        rows = gather_rows(placement.accelerator, built, subject.seen(split), console, name)
        scores[name] = score_rows(built, rows)
        say_scores(console, f"{name}: {count(len(split), 'image')}", scores[name])
        if ranks.rank() == 0:
            shown[name] = report_items(built, placement.accelerator, rows, split, name)
            trivial |= trivial_on(built, rows, name, console)
            wrong |= mistakes_of(built, {name: (rows, split)}, console)
            with writing(folder, AGAIN):
                write_rows(folder, name, split.names, rows)
                write_images(folder, name, split.names, rows)
    report = replace(
        describe(built, folder, placement, {name: len(split) for name, split in chosen.items()}, began),
        status="evaluated",
        seconds=round((datetime.now() - began).total_seconds(), 2),
        notes=tuple(console.notes),
        scores=scores,
        trivial=trivial,
        mistakes=wrong,
    )
    if ranks.rank() == 0:
        with writing(folder, AGAIN):
            if left_out := scan.unreadable_lines(found):
                write_text(folder / folders.UNREADABLE, left_out)
            console.say(f"report: {write(folder, report, [*items, *side_by_side(shown)])}")
    ranks.barrier()
    return Result(report.to_json())
