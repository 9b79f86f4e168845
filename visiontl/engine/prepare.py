"""Everything that stands before the first update: backbone, data, model, freezing, optimizer, run folder."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from visiontl import __version__, plugins
from visiontl.backbone import Backbone, Features, ImageSpec
from visiontl.config.resolve import Resolved, as_begun
from visiontl.config.write import to_yaml
from visiontl.engine import feature_cache, loader, optim, order, scan
from visiontl.engine.device import current_device, to_device
from visiontl.engine.ema import Ema
from visiontl.engine.evaluate import (
    INIT,
    check_processes,
    in_fp32,
    place,
    say_backbone,
    say_warm_start,
    still_batches,
    with_example,
)
from visiontl.engine.model import Built, bare_backbone, build_model, through_json
from visiontl.errors import CheckpointError, DataError, PluginError, VisionTLError
from visiontl.freezing import freeze
from visiontl.freezing.policies import Mode
from visiontl.freezing.policies import describe as describe_policy
from visiontl.freezing.probe import Probe, probe, watched
from visiontl.kit.words import plural
from visiontl.processes import ranks
from visiontl.processes.seeds import mix, seeded
from visiontl.report.console import Console, Progress, human
from visiontl.runs import folders, store
from visiontl.runs.environment import command_line, environment, named_folder, run_folder, write_text
from visiontl.runs.metrics import check_trackers
from visiontl.task import Data


@dataclass
class Run:
    """A run that is set up and not yet trained."""

    resolved: Resolved
    folder: Path
    console: Console
    accelerator: Accelerator
    built: Built
    data: Data
    layout: freeze.Layout
    phases: list[tuple[int, dict[str, Mode]]]
    optimizer: Optimizer
    steps_per_epoch: int
    total: int  # optimizer updates
    report: dict[str, Any]
    ema: Ema | None = None
    caches: dict[str, feature_cache.FeatureCache] = field(default_factory=dict)
    scores: dict[str, Any] | None = None  # of val, by the newest evaluation


def set_up(
    resolved: Resolved, limit: int | None = None, parent: Path | None = None, console: Console | None = None
) -> Run:
    """Backbone, data, model, freezing, optimizer and run folder.

    limit: optimizer updates at most; parent: where the run folder is made, in place of run.folder.
    """
    config, task = resolved.config, resolved.task
    current_device()  # starts the process group
    console = console or Console(main=ranks.rank() == 0)
    check_processes(resolved, ranks.world())
    check_trackers(config.run.trackers)
    ranks.on_main(lambda: check_folder(resolved, parent))
    with seeded(mix(config.train.seed, INIT)):
        backbone, started = ranks.main_first(lambda: backbone_to_train(resolved, console))
        resolved = with_example(resolved, console)
        found: Data = ranks.main_first(lambda: task.data(resolved.cfg, backbone.spec, None))
        if not isinstance(found, Data):
            raise PluginError(f"task {task.name}: its `data` gave a {type(found).__name__}; visiontl.Data was expected")
        for line in found.notes:
            console.say(line, keep=True)
        if found.train is None:
            raise DataError("the data has no train split; `visiontl evaluate` measures without training")
        found = scan.readable_data(config.data, task, resolved.cfg, found, console)
        meta = through_json(found.meta)
        built = build_model(resolved, backbone, meta)
    if started is None:
        loaded = say_warm_start(built, console)
    else:
        built.model.load_state_dict(store.read_tensors(started, "model.safetensors"))
        loaded = True

    def order_of(epoch: int) -> order.Order:
        section = config.train
        return order.epoch_order(found, section.seed, epoch, section.batch_size, section.accumulate, ranks.world())

    first = order_of(0)
    steps_per_epoch = len(first)
    total = steps_per_epoch * config.train.epochs
    total = total if limit is None else min(total, limit)

    accelerator, how = place(built, console, config.run.trackers)
    measured, batch, samples = ranks.agree(lambda: probe_first_batch(accelerator, built, found, first))
    read = set().union(*ranks.gather_objects(measured.read))
    layout = freeze.make_layout(built.model, backbone, read)
    say_unread(layout, backbone.stages, console)

    policy = plugins.policy(config.freeze.policy)
    phases = freeze.phases(policy, config.train.epochs, layout, backbone)
    for edge in getattr(policy, "edges", ()):
        if edge >= config.train.epochs:
            console.warn(
                f"freeze.policy: the change at epoch {edge} never comes; train.epochs is {config.train.epochs}"
            )
    asleep = [stage for stage in layout.stages if all(modes[stage] == "frozen" for _, modes in phases)]
    if len(phases) > 1 and asleep:
        console.say(f"frozen for the whole run, in every phase: {', '.join(asleep)}", keep=True)
    ever = {name for _, modes in phases for name, _ in freeze.trainable(layout, backbone, modes)}
    optimizer = optim.make_optimizer(config.optim, built.model, layout, ever, accelerator.device)
    caches = make_caches(accelerator, built, found, phases, measured, batch, samples, first, console)
    if task.start is not None and not loaded and not ranks.on_main(lambda: has_checkpoint(config.resume)):
        initialize(accelerator, built, found, caches.get("train"), console)
    ema = Ema(built.model, config.train.ema.decay) if config.train.ema else None
    folder = open_folder(resolved, parent)
    ranks.on_main(lambda: folders.lock(folder))
    say_data(resolved, found, first, total, console)
    rates = optim.stage_rates(config.optim, layout)
    report = {
        "visiontl": __version__,
        "run": str(folder),
        "task": task.name,
        "status": "started",
        "started": datetime.now().isoformat(timespec="seconds"),
        "command": command_line(),
        "seed": config.train.seed,
        "environment": {**environment(accelerator), **how},
        "data": {name: len(split) for name, split in found.splits().items()},
        "backbone": {
            "name": backbone.name,
            "weights": config.backbone.weights if config.init is None else f"init: {config.init}",
            "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
        },
        "policy": describe_policy(config.freeze.policy),
        "cached_features": sorted(caches),
        "trainability": [
            {"epoch": epoch, "rows": freeze.table(layout, backbone, modes, rates)} for epoch, modes in phases
        ],
        "config": to_yaml(as_begun(resolved), comments=False),
    }
    if accelerator.is_main_process:
        write_lists(folder, resolved, found)
    return Run(
        resolved, folder, console, accelerator, built, found, layout, phases, optimizer, steps_per_epoch, total,
        report, ema, caches,
    )  # fmt: skip


def backbone_to_train(resolved: Resolved, console: Console) -> tuple[Backbone, Path | None]:
    """The backbone with the weights that a run begins with; and None. Where they are gone and the run is resumed:
    with random weights and the preprocessing of the run's newest whole checkpoint; and that checkpoint, whose weights
    are then the model's."""
    try:
        return say_backbone(resolved, console), None
    except (VisionTLError, OSError) as error:
        folder = Path(resolved.config.resume or "") / "checkpoints"
        newest = store.newest_whole(folder, lambda text: None) if resolved.config.resume is not None else None
        spec = store.read_json(newest, "state.json").get("preprocessing") if newest is not None else None
        if spec is None:
            raise
        console.warn(f"what the run began with cannot be read ({error}); all weights come from {newest}")
        return bare_backbone(resolved, ImageSpec.from_json(spec)), newest


def probe_first_batch(
    accelerator: Accelerator, built: Built, found: Data, first: order.Order
) -> tuple[Probe, dict[str, Any], list[dict[str, Any]]]:
    """Measure on one training batch what the loss reads; also gives the batch and its samples."""
    config, task, cfg, meta = built.resolved.config, built.resolved.task, built.resolved.cfg, built.meta
    assert found.train is not None
    source = loader.Batches(found.train, task.collate, cfg, meta, config.train.seed, training=True)
    ids = order.fetched(first.group(0)[0], ranks.rank())
    batch = source[ids, 0, 0]
    if isinstance(batch, loader.Failure):
        raise batch.error
    batch = to_device(batch, accelerator.device)

    def losses() -> dict[str, Tensor]:
        with seeded(config.train.seed):
            with accelerator.autocast():
                outputs = built.model(batch)
            return task.loss(cfg, in_fp32(outputs), batch, meta)

    return probe(built.model, built.backbone, losses), batch, source.samples(ids, 0)


def make_caches(
    accelerator: Accelerator,
    built: Built,
    found: Data,
    phases: list[tuple[int, dict[str, Mode]]],
    measured: Probe,
    batch: Mapping[str, Any],
    samples: list[dict[str, Any]],
    first: order.Order,
    console: Console,
) -> dict[str, feature_cache.FeatureCache]:
    """Features of train and val, where the whole backbone is frozen for the whole run and caching is exact."""
    section = built.resolved.config.train
    frozen = len(phases) == 1 and all(mode == "frozen" for mode in phases[0][1].values())
    if not frozen or not section.cache or section.epochs == 0:
        return {}
    assert found.train is not None
    ids, train = order.fetched(first.group(0)[0], ranks.rank()), found.train
    again = ranks.agree(lambda: feature_cache.other_looks(train, ids, section.seed))
    reason = feature_cache.why_not(measured, batch, samples, again, section.cache_views)
    reasons = [text for text in ranks.gather_objects(reason) if text]
    if reasons:
        console.say(f"features of the frozen backbone are not cached: {reasons[0]}", keep=True)
        return {}
    reason = ranks.agree(lambda: asks_otherwise(accelerator, built, found, measured))
    reasons = [text for text in ranks.gather_objects(reason) if text]
    if reasons:
        console.say(f"features of val are not cached: {reasons[0]}", keep=True)
    _, maps, pooled, layers = measured.calls[0]
    backbone = built.backbone.eval()

    def forward(images: Tensor, *ask: Any) -> Features:
        with accelerator.autocast():
            return backbone(images, *ask)

    caches: dict[str, feature_cache.FeatureCache] = {}
    splits = found.splits()
    for name, views in (("train", section.cache_views or 1), ("val", 1)):
        split = splits.get(name)
        if split is None or (name == "val" and reasons):
            continue
        size = section.batch_size
        with console.progress(total=len(split) * views, unit="image", what=f"features of {name}") as bar:
            build = functools.partial(
                feature_cache.build, split, (maps, pooled, layers), forward, size, views, section.seed,
                built.resolved.config.loader.workers, accelerator.device, bar.update,
            )  # fmt: skip
            cache = ranks.agree(build)
        refused = [text for text in ranks.gather_objects(cache if isinstance(cache, str) else "") if text]
        if isinstance(cache, str) or refused:
            console.say(f"features of the frozen backbone are not cached: {refused[0]}", keep=True)
            return {}
        caches[name] = cache
    views = section.cache_views or 1
    console.say(f"features of the frozen backbone are cached ({views} {plural(views, 'view')} per image)", keep=True)
    return caches


def has_checkpoint(resume: str | None) -> bool:
    """Whether the run that is resumed, if any, has a whole checkpoint: it holds all that a task's `start` sets."""
    return resume is not None and store.newest_whole(Path(resume) / "checkpoints", lambda text: None) is not None


def initialize(
    accelerator: Accelerator, built: Built, found: Data, cache: feature_cache.FeatureCache | None, console: Console
) -> None:
    """The task's `start` on the main process; the other ranks take over its parameters and buffers."""
    task, config, model = built.resolved.task, built.resolved.config, built.model
    split, cache = (found.train, cache) if found.still is None else (found.still, None)
    start = task.start
    assert start is not None
    assert split is not None
    keys = order.evaluation_keys(len(split), config.train.eval_batch_size or config.train.batch_size)

    def batches(bar: Progress) -> Iterator[dict[str, Any]]:
        shown = still_batches(accelerator, built, split, built.backbone, keys, config.loader.workers, cache)
        for done, (ids, batch) in enumerate(shown, start=1):
            yield batch
            bar.update(done, images=len(ids))

    def compute() -> None:
        bar = console.progress(total=len(keys), unit="batch", what="start from the training data")
        with seeded(mix(config.train.seed, INIT, 1)), torch.no_grad(), accelerator.autocast(), bar as progress:
            start(built.resolved.cfg, model, batches(progress), built.meta)

    model.eval()
    ranks.on_main(compute)
    ranks.broadcast_module(model)


def asks_otherwise(accelerator: Accelerator, built: Built, found: Data, measured: Probe) -> str:
    """Why features asked for in training would not serve evaluation, or an empty string."""
    if found.val is None:
        return ""
    cfg, meta, config = built.resolved.cfg, built.meta, built.resolved.config.train
    source = loader.Batches(found.val, built.resolved.task.collate, cfg, meta, config.seed, training=False)
    batch = source[order.evaluation_keys(len(found.val), min(2, config.batch_size))[0]]
    if isinstance(batch, loader.Failure):
        raise batch.error
    batch = to_device(batch, accelerator.device)
    built.model.eval()
    with torch.no_grad(), accelerator.autocast(), watched(built.backbone) as calls:
        built.model(batch)
    alike = len(calls) == 1 and calls[0][1:] == measured.calls[0][1:]
    alike = alike and not feature_cache.why_not(
        Probe(set(), calls), batch, source.samples(batch["id"].tolist(), 0), [], 1
    )
    return "" if alike else "the model asks its backbone otherwise in evaluation than in training"


def check_folder(resolved: Resolved, parent: Path | None) -> None:
    """Refuse a taken name, a folder that cannot be resumed or written to, before anything else is done."""
    section = resolved.config.run
    if resolved.config.resume is not None:
        folders.require_run(Path(resolved.config.resume))
        folders.require_writable(Path(resolved.config.resume))
        return
    folders.require_writable(parent or Path(section.folder))
    if section.name is not None and os.path.exists((parent or Path(section.folder)) / section.name):
        raise CheckpointError(
            f"{Path(section.folder) / section.name} exists already and is never overwritten; choose another run.name"
        )


def open_folder(resolved: Resolved, parent: Path | None = None) -> Path:
    """The folder of a new run, or of the one that is resumed."""
    section = resolved.config.run
    if resolved.config.resume is not None:
        return Path(resolved.config.resume)
    parent = parent or Path(section.folder)
    if section.name is not None:
        return named_folder(parent, section.name)
    return run_folder(parent, Path(resolved.source).stem or resolved.task.name)


def write_lists(folder: Path, resolved: Resolved, found: Data) -> None:
    """What the run is: its config and the files of each split, one JSON string a line. A resumed run adds what a
    kill at its beginning left out, and changes nothing once there is a checkpoint, which was made of these files."""
    begun = store.step_folders(folder / "checkpoints")
    missing = [name for name in found.splits() if not (begun and (folder / "splits" / f"{name}.txt").exists())]
    if resolved.config.resume is None:
        write_text(folder / "config.yaml", to_yaml(resolved))
    (folder / "splits").mkdir(exist_ok=True)
    if missing:
        scan.write_unreadable(folder / "splits", found)
    for name in missing:
        lines = "".join(json.dumps(file, ensure_ascii=False) + "\n" for file in found.splits()[name].names)
        write_text(folder / "splits" / f"{name}.txt", lines)


def say_unread(layout: freeze.Layout, stages: tuple[str, ...], console: Console) -> None:
    unread = [stage for stage in stages if stage not in layout.stages]
    if layout.unread:
        whole = f"; whole stages: {', '.join(unread)}" if unread else ""
        console.say(f"{len(layout.unread)} parameters are not read by the loss and never train{whole}", keep=True)
    if layout.fixed:
        console.say(f"{len(layout.fixed)} parameters are fixed by the task or the architecture", keep=True)


def say_data(resolved: Resolved, found: Data, first: order.Order, total: int, console: Console) -> None:
    section, world = resolved.config.train, ranks.world()
    counts = ", ".join(f"{name} {len(split)}" for name, split in found.splits().items())
    console.say(f"images: {counts}; updates: {total}, epochs: {section.epochs}, processes: {world}")
    effective = section.batch_size * section.accumulate * world
    console.say(
        f"batch: {section.batch_size} per process x {section.accumulate} accumulated x {world} processes "
        f"= {effective} per update"
    )
    if first.dropped:
        console.say(
            f"{first.dropped} images of each epoch, other ones every time, are left over and not used", keep=True
        )
    if found.val is None:
        console.warn("there is no val split: no score picks the best weights, the last ones are kept")


def say_phase(run: Run, epoch: int, modes: Mapping[str, Mode]) -> None:
    rows = freeze.table(run.layout, run.built.backbone, modes, optim.stage_rates(run.resolved.config.optim, run.layout))
    total = sum(row["parameters"] for row in rows)
    active = sum(row["trainable"] for row in rows)
    run.console.table(
        f"epoch {epoch}: {human(active)} of {human(total)} parameters train",
        ["stage", "mode", "parameters", "trainable", "peak lr"],
        [[r["stage"], r["mode"], human(r["parameters"]), human(r["trainable"]), r["lr"]] for r in rows],
    )
