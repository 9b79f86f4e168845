"""Rows from every process -> gathered -> exactly one per image, by id -> scores."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from visiontl import __version__
from visiontl.backbone import Backbone
from visiontl.config.resolve import Resolved, resolve, with_task_data
from visiontl.config.write import to_yaml
from visiontl.engine import loader, order, scan
from visiontl.engine.device import (
    choose_channels_last,
    choose_precision,
    current_device,
    describe,
    keep_freed_memory,
    make_accelerator,
    to_device,
    widen_slow_convolutions,
)
from visiontl.engine.feature_cache import FeatureCache, split_batches
from visiontl.engine.model import (
    Built,
    build_model,
    finite,
    load_model,
    model_folder,
    pretrained_backbone,
    through_json,
    warm_start,
)
from visiontl.errors import ConfigError, DataError, TrainingError
from visiontl.kit.words import plural
from visiontl.processes import liveness, ranks
from visiontl.processes.seeds import mix, seeded
from visiontl.report import page
from visiontl.report.console import Console
from visiontl.runs.environment import asked_processes, command_line, environment, run_folder, write_text
from visiontl.task import Data, SampleDataset

INIT = 5  # the stream of seeds for random weights, beside those of visiontl.engine.order


def gather_rows(
    accelerator: Accelerator,
    built: Built,
    split: SampleDataset,
    model: nn.Module,
    batch_size: int,
    workers: int,
    console: Console,
    what: str,
    cache: FeatureCache | None = None,
) -> list[Any]:
    """One row per image of the split, in id order, on every rank. model: unwrapped, on the device.

    Batches are chunks of the id list, fixed by the batch size alone, and a rank takes whole ones: so the rows do
    not depend on the number of processes.
    """
    task, cfg, meta = built.resolved.task, built.resolved.cfg, built.meta
    keys = order.evaluation_keys(len(split), batch_size, ranks.rank(), ranks.world())
    backbone = next(module for module in model.modules() if isinstance(module, Backbone))
    ranks.broadcast_buffers(model)
    model.eval()

    def compute() -> dict[int, Any]:
        mine: dict[int, Any] = {}
        with torch.no_grad(), console.progress(total=len(keys), unit="batch", what=what) as bar:
            shown = still_batches(accelerator, built, split, backbone, keys, workers, cache)
            for done, (ids, batch) in enumerate(shown, start=1):
                with accelerator.autocast():
                    outputs = model(batch)
                rows = task.rows(cfg, in_fp32(outputs), batch, meta)
                if len(rows) != len(ids):
                    raise TrainingError(f"the task's `rows` gave {len(rows)} records for {len(ids)} images")
                mine.update(zip(ids, rows, strict=True))
                bar.update(done, images=len(ids) * ranks.world())
        return mine

    return merge_rows(ranks.gather_objects(ranks.agree(compute)), len(split))


def still_batches(
    accelerator: Accelerator,
    built: Built,
    split: SampleDataset,
    backbone: Backbone,
    keys: Sequence[order.Key],
    workers: int,
    cache: FeatureCache | None,
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """(ids, batch on the device) of each key. While the caller works on a batch the backbone answers from the cache,
    where there is one."""
    resolved = built.resolved
    collate, seed = resolved.task.collate, resolved.config.train.seed
    batches = split_batches(split, collate, resolved.cfg, built.meta, seed, False, cache)
    workers = 0 if cache else workers
    for batch in loader.load(batches, keys, workers, accelerator.device.type == "cuda"):
        ids = batch["id"].tolist()
        with backbone.replay(cache.at(ids, 0, accelerator.device)) if cache else nullcontext():
            yield ids, to_device(batch, accelerator.device)


def merge_rows(parts: Sequence[Mapping[int, Any]], count: int) -> list[Any]:
    """The rows of all ranks, in id order; exactly the ids 0..count-1 must be there, each once."""
    merged: dict[int, Any] = {}
    for part in parts:
        twice = merged.keys() & part.keys()
        if twice:
            raise TrainingError(f"evaluation saw {len(twice)} images twice, such as id {min(twice)}")
        merged.update(part)
    if merged.keys() != set(range(count)):
        missing = sorted(set(range(count)) - merged.keys())
        raise TrainingError(f"evaluation of {count} images has rows for {len(merged)}; missing ids: {missing[:5]}")
    return [merged[i] for i in range(count)]


def score_rows(built: Built, rows: Sequence[Any]) -> dict[str, Any]:
    """The task's scores, computed once, on the main process, and told to all."""
    task, cfg = built.resolved.task, built.resolved.cfg
    return ranks.on_main(lambda: plain(task.score(cfg, rows, built.meta)))


def plain(value: Any) -> Any:
    """Scores as JSON has them: NumPy and torch numbers become Python's, a number that is not finite stays NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return plain(value.tolist()) if hasattr(value, "tolist") else value


def to_json(report: Mapping[str, Any]) -> str:
    """A report as JSON text; what is not finite becomes null."""
    return json.dumps(finite(report), indent=1, allow_nan=False)


def in_fp32(outputs: Any) -> Any:
    """Floating tensors of nested dicts and lists as fp32, as Accelerate's wrapper hands them to the loss."""
    if isinstance(outputs, torch.Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    if isinstance(outputs, Mapping):
        return {key: in_fp32(value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        return type(outputs)(in_fp32(value) for value in outputs)
    return outputs


def scalars(scores: Mapping[str, Any]) -> dict[str, float]:
    """The plain numbers among the scores, for logs and tables."""
    return {k: float(v) for k, v in scores.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def report_items(built: Built, rows: Sequence[Any], split: SampleDataset, name: str) -> list[Any]:
    """What the task has to show of a split's rows; pictures are opened on demand through the split."""
    task = built.resolved.task
    if task.report is None:
        return []
    items = task.report(built.resolved.cfg, rows, built.meta, split.image)
    return [replace(item, title=f"{item.title} ({name})") for item in items]


def choose_splits(available: Mapping[str, SampleDataset], wanted: Sequence[str] | None) -> dict[str, SampleDataset]:
    """The asked-for splits; by default all that were not trained on."""
    if wanted:
        unknown = [name for name in wanted if name not in available]
        if unknown:
            raise DataError(f"no split {', '.join(unknown)} here; there is {', '.join(available)}")
        return {name: available[name] for name in wanted}
    chosen = {name: split for name, split in available.items() if name != "train"}
    if not chosen:
        raise DataError("there is neither a val nor a test split; name one with --split, such as --split train")
    return chosen


@dataclass(frozen=True)
class Subject:
    """What is to be measured, on what, and where the report goes (a new folder `parent/name-...`)."""

    built: Built
    data: Data
    parent: Path
    name: str
    lists: Path | None = None  # where the run's own split lists are, to compare with


def evaluate(
    run: str | Path | Resolved,
    data: str | Path | None = None,
    splits: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores of a run on its own val and test splits, or on other data in the model's class order.

    run: a run folder; or a config, whose model is then measured as it is built, before any training.
    Returns the report, also written (report.json, report.html) to a new folder.
    """
    current_device()  # starts the process group
    with liveness.watched():
        return _evaluate(run, data, splits, overrides)


def _evaluate(
    run: str | Path | Resolved, data: str | Path | None, splits: Sequence[str] | None, overrides: Sequence[str]
) -> dict[str, Any]:
    started = time.time()
    console = Console(main=ranks.rank() == 0)
    if isinstance(run, Resolved) or Path(run).is_file():
        subject = subject_of_config(run, data, overrides, console)
    else:
        subject = subject_of_run(Path(run), data, overrides, console)
    built, resolved = subject.built, subject.built.resolved
    for line in subject.data.notes:
        console.say(line, keep=True)
    wanted = choose_splits(subject.data.splits(), splits)
    found = scan.readable_data(resolved.config.data, resolved.task, resolved.cfg, subject.data, console, list(wanted))
    if subject.lists is not None:
        compare_lists(subject.lists, found, console)
    chosen = choose_splits(found.splits(), splits)
    accelerator, how = place(built, console)
    folder = run_folder(subject.parent, subject.name)
    scores, items = {}, []
    config = resolved.config
    size = config.train.eval_batch_size or config.train.batch_size
    for name, split in chosen.items():
        rows = gather_rows(accelerator, built, split, built.model, size, config.loader.workers, console, name)
        scores[name] = score_rows(built, rows)
        say_scores(console, f"{name}: {len(split)} images", scores[name])
        if accelerator.is_main_process:
            items += report_items(built, rows, split, name)
    report = {
        "visiontl": __version__,
        "run": str(folder),
        "task": resolved.task.name,
        "status": "evaluated",
        "started": datetime.fromtimestamp(started).isoformat(timespec="seconds"),
        "seconds": round(time.time() - started, 2),
        "command": command_line(),
        "seed": config.train.seed,
        "environment": {**environment(accelerator), **how},
        "data": {name: len(split) for name, split in chosen.items()},
        "notes": console.notes,
        "backbone": {"name": built.backbone.name, "weights": config.backbone.weights},
        "scores": scores,
        "config": to_yaml(resolved, comments=False),
    }
    if accelerator.is_main_process:
        scan.write_unreadable(folder, found)
        write_text(folder / "report.json", to_json(report))
        console.say(f"report: {page.write_report(folder, report, [], items)}")
    ranks.barrier()
    return report


def subject_of_config(
    config: str | Path | Resolved, data: str | Path | None, overrides: Sequence[str], console: Console
) -> Subject:
    """The model as a config builds it, with its pretrained weights, before any training."""
    resolved = resolve(config, overrides)
    if data is not None:
        resolved = with_task_data(resolved, str(data))
    resolved = with_example(resolved, console)
    with seeded(mix(resolved.config.train.seed, INIT)):
        backbone = ranks.main_first(lambda: say_backbone(resolved, console))
        found = ranks.main_first(lambda: resolved.task.data(resolved.cfg, backbone.spec, None))
        built = build_model(resolved, backbone, through_json(found.meta))
    say_warm_start(built, console)
    return Subject(built, found, Path(resolved.config.run.folder), f"evaluate-{Path(resolved.source).stem}")


def subject_of_run(run: Path, data: str | Path | None, overrides: Sequence[str], console: Console) -> Subject:
    """A trained model, on the run's own data or, in its class order, on other data."""
    built = load_model(run)
    resolved = built.resolved
    if overrides:
        resolved = resolve(model_folder(run) / "config.yaml", overrides)
    if data is not None:
        resolved = with_task_data(resolved, str(data))
    built = replace(built, resolved=resolved)
    meta = built.meta if data is not None else None
    found = ranks.main_first(lambda: resolved.task.data(resolved.cfg, built.backbone.spec, meta))
    if data is None and through_json(found.meta) != built.meta:
        raise DataError(
            f"{run}: its data has other classes or counts now than when it was trained; name the data to "
            f"evaluate on: visiontl evaluate {run} DATA"
        )
    return Subject(built, found, run, "evaluate", run / "splits" if data is None else None)


def say_backbone(resolved: Resolved, console: Console) -> Backbone:
    """The config's backbone with its weights; says how its name was read and what was loaded."""
    backbone, loaded, note = pretrained_backbone(resolved)
    for line in filter(None, [note, loaded and str(loaded)]):
        console.say(line, keep=True)
    return backbone


def say_warm_start(built: Built, console: Console) -> bool:
    """Load what `init` names, and say so. Whether that was the whole model."""
    said, whole = warm_start(built)
    if said:
        console.say(said, keep=True)
    return whole


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


def say_scores(console: Console, title: str, scores: Mapping[str, Any]) -> None:
    console.table(title, ["score", "value"], [[key, f"{value:.4f}"] for key, value in scalars(scores).items()])


def place(built: Built, console: Console, trackers: Sequence[str] = ()) -> tuple[Accelerator, dict[str, Any]]:
    """Put a model on its device, in the precision and layout that suit it; says which, and why."""
    config = built.resolved.config.train
    device = current_device()
    precision, why = choose_precision(config.precision, device)
    layout, layout_why = choose_channels_last(config.channels_last, built.model, device)
    accelerator = make_accelerator(precision, trackers)
    if device.type == "cpu":
        keep_freed_memory()
        if precision == "bf16":
            widen_slow_convolutions(built.model)
    set_layout(built, layout)
    built.model.to(accelerator.device)
    console.say(describe(config, precision, why, layout, layout_why), keep=True)
    return accelerator, {"precision": precision, "channels_last": layout}


def set_layout(built: Built, channels_last: bool) -> None:
    built.backbone.channels_last = channels_last
    if channels_last:
        built.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def check_processes(resolved: Resolved, actual: int) -> None:
    wanted, who = resolved.config.run.processes, "run.processes is"
    if wanted is None:
        wanted, who = asked_processes(), "accelerate launch was asked for"
    if wanted is not None and wanted != actual:
        raise ConfigError(
            f"{who} {wanted}, but {actual} {plural(actual, 'process')} started; on CPU use "
            f"`torchrun --nproc_per_node {wanted}` (accelerate launch starts one there), see docs/distributed.md"
        )


def compare_lists(folder: Path, found: Data, console: Console) -> None:
    """Say aloud when the files of a split are no longer those that the run was trained and judged on."""
    for name, split in found.splits().items():
        path = folder / f"{name}.txt"
        if not path.exists():
            continue
        # not splitlines, which also ends a line at U+2028 and other characters that names may hold
        saved = {json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line}
        now = set(split.names)
        if saved != now:
            console.warn(
                f"the {name} split has changed since training: {len(now - saved)} new, {len(saved - now)} gone "
                f"({', '.join(sorted(now ^ saved)[:3])}); scores are not comparable with the run's own"
            )
