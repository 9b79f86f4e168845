"""Rows from every process -> gathered -> exactly one per image, by id -> scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator

from visiontl.engine import loader
from visiontl.engine.device import to_device
from visiontl.engine.feature_cache import FeatureCache, split_batches
from visiontl.engine.model import Built
from visiontl.engine.order import Key, evaluation_keys
from visiontl.errors import TrainingError
from visiontl.kit.words import plural
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.report.values import json_value
from visiontl.task import SampleDataset


def gather_rows(
    accelerator: Accelerator,
    built: Built,
    split: SampleDataset,
    console: Console,
    what: str,
    cache: FeatureCache | None = None,
) -> list[Any]:
    """One row per image of the split, in id order, on every rank. built: its model unwrapped, on the device.

    Batches are chunks of the id list, fixed by the batch size alone, and a rank takes whole ones: so the rows do
    not depend on the number of processes.
    """
    task, cfg, meta, model = built.resolved.task, built.resolved.cfg, built.meta, built.model
    keys = evaluation_keys(len(split), built.batch_size, ranks.rank(), ranks.world())
    ranks.broadcast_buffers(model)
    model.eval()

    def compute() -> dict[int, Any]:
        mine: dict[int, Any] = {}
        with torch.no_grad(), console.progress(total=len(keys), unit="batch", what=what) as bar:
            batches = still_batches(accelerator, built, split, keys, console, cache)
            for done, (ids, batch) in enumerate(batches, start=1):
                with accelerator.autocast():
                    outputs = model(batch)
                rows = task.rows(cfg, in_fp32(outputs), batch, meta)
                if len(rows) != len(ids):
                    raise TrainingError(f"task {task.name!r}: rows gave {len(rows)} records for {len(ids)} images")
                mine.update(zip(ids, rows, strict=True))
                bar.update(done, images=len(ids) * ranks.world())
        return mine

    return merge_rows(ranks.gather_objects(ranks.agree(compute)), len(split))


def still_batches(
    accelerator: Accelerator,
    built: Built,
    split: SampleDataset,
    keys: Sequence[Key],
    console: Console,
    cache: FeatureCache | None,
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """(ids, batch on the device) of each key. While the caller works on a batch the backbone answers from the cache,
    where there is one."""
    workers = built.resolved.config.loader.workers
    batches = split_batches(built, split, training=False, cache=cache)
    for batch in loader.load(batches, keys, workers, accelerator.device.type == "cuda", console):
        ids = batch["id"].tolist()
        with built.backbone.replay(cache.at(batch["id"], 0, accelerator.device)) if cache else nullcontext():
            yield ids, to_device(batch, accelerator.device)


def merge_rows(parts: Sequence[Mapping[int, Any]], count: int) -> list[Any]:
    """The rows of all ranks, in id order; exactly the ids 0..count-1 must be there, each once."""
    merged: dict[int, Any] = {}
    for part in parts:
        twice = merged.keys() & part.keys()
        if twice:
            raise TrainingError(
                f"evaluation saw {len(twice)} {plural(len(twice), 'image')} twice, such as id {min(twice)}"
            )
        merged.update(part)
    if merged.keys() != set(range(count)):
        missing = sorted(set(range(count)) - merged.keys())
        raise TrainingError(f"evaluation of {count} images has rows for {len(merged)}; missing ids: {missing[:5]}")
    return [merged[i] for i in range(count)]


def score_rows(built: Built, rows: Sequence[Any]) -> dict[str, Any]:
    """The task's scores, computed once, on the main process, and told to all. A number that is not finite stays NaN,
    for those who compare it; files get None."""
    task, cfg, place = built.resolved.task, built.resolved.cfg, f"task {built.resolved.task.name!r}: score"
    return ranks.on_main(lambda: json_value(task.score(cfg, rows, built.meta), place, keep_nan=True))


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


def say_scores(console: Console, title: str, scores: Mapping[str, Any]) -> None:
    console.table(title, ["score", "value"], [[key, f"{value:.4f}"] for key, value in scalars(scores).items()])
