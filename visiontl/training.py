"""Training: everything is set up once, then one loop runs from the first optimiser update to the last."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visiontl import checkpoint, data, distributed, features, freeze, html, optim, plugins
from visiontl.config import Resolved, resolve
from visiontl.device import to_device
from visiontl.environment import write_text
from visiontl.errors import TrainingError, did_you_mean
from visiontl.evaluation import gather_rows, report_items, say_scores, scalars, score_rows
from visiontl.randomness import mix
from visiontl.record import Metrics, Watch
from visiontl.saving import Progress, read_previews, resume, save, save_previews, write_best
from visiontl.setup import Run, say_phase, set_up


class Step(nn.Module):
    """What Accelerate wraps: made afresh at each phase edge, so that DDP sees what trains from then on."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> Any:
        return self.model(batch)


def train(config: str | Path | Mapping[str, Any] | Resolved, *overrides: str, dry_run: bool = False) -> dict[str, Any]:
    """One whole run. Returns the report that is also written to the run folder (report.json, report.html).

    config: a file, a mapping or a resolved config; overrides: "train.epochs=5" ...
    dry_run: one batch of everything (train, evaluate, save, load, predict), in a folder that is removed.
    """
    resolved = resolve(config, overrides)
    if dry_run:
        from visiontl.dryrun import rehearse

        return rehearse(resolved)
    run = set_up(resolved)
    progress = fit(run)
    return finish(run, progress)


def fit(run: Run) -> Progress:
    """The loop. Everything random in update `step` is a function of (seed, step, rank) or (seed, epoch, id)."""
    config, task, cfg, meta = run.resolved.config, run.resolved.task, run.resolved.cfg, run.built.meta
    accelerator, built, optimizer, section = run.accelerator, run.built, run.optimizer, config.train
    rank, world, device = distributed.rank(), distributed.world(), accelerator.device
    progress = resume(run)
    evaluate_every = optim.in_steps(section.evaluate_every, run.steps_per_epoch)
    checkpoint_every = optim.in_steps(section.checkpoint_every, run.steps_per_epoch)
    edges = {epoch * run.steps_per_epoch: modes for epoch, modes in run.phases}
    metrics = Metrics(run.folder, progress.step, accelerator)
    watch = Watch(device, run.report["environment"]["precision"] == "fp16")
    window = progress.window[rank] if rank < len(progress.window) else {}
    orders: dict[int, data.Order] = {}

    def order(epoch: int) -> data.Order:
        if epoch not in orders:
            if len(orders) > 2:  # the loader reads a little ahead of the loop
                orders.pop(min(orders))
            orders[epoch] = data.epoch_order(
                run.data, section.seed, epoch, section.batch_size, section.accumulate, world
            )
        return orders[epoch]

    keys = data.training_keys(order, rank, progress.step, run.steps_per_epoch, section.epochs)
    loader = training_batches(run, keys)
    assert run.data.train is not None
    wrapped: Any = None
    prepared: Any = None
    fresh_phase = False
    began = time.perf_counter() - progress.seconds
    with run.console.progress(run.total, progress.step, every=section.log_every, epochs=section.epochs) as bar:
        for step in range(progress.step, run.total):
            if step in edges or wrapped is None:
                edge = max(start for start in edges if start <= step)
                modes = edges[edge]
                freeze.apply(built.model, built.backbone, run.layout, modes)
                freeze.set_training(built.model, built.backbone, run.layout, modes, config.freeze.norm_stats)
                say_phase(run, edge // run.steps_per_epoch, modes)
                accelerator.free_memory()
                wrapped, prepared = accelerator.prepare(compiled(Step(built.model), section.compile), optimizer)
                chosen = [
                    parameter
                    for group in optimizer.param_groups
                    for parameter in group["params"]
                    if parameter.requires_grad
                ]
                fresh_phase = True

            epoch = step // run.steps_per_epoch
            group = order(epoch).group(step - epoch * run.steps_per_epoch)
            images = sum(len(ids) for micro in group for ids in micro)
            factor = optim.lr_factor(config.optim, step, run.total, run.steps_per_epoch)
            optim.set_lr(optimizer, factor)
            seen: list[int] = []
            total_loss = torch.zeros((), device=device)
            for index, micro in enumerate(group):
                batch = to_device(next(loader), device)
                batch["progress"] = step / run.total
                # dropout, drop path, a detector's samplers; only now, because a loader's start draws a number too
                torch.manual_seed(mix(section.seed, data.STEP, step, rank, index))
                seen += micro[rank]
                last = index == len(group) - 1
                with contextlib.nullcontext() if last else accelerator.no_sync(wrapped):
                    with replayed(run, "train", batch, epoch):
                        outputs = wrapped(batch)
                    losses = task.loss(cfg, outputs, batch, meta)
                    share = len(micro[rank]) * world / images  # ranks are averaged by DDP; samples must be
                    accelerator.backward(losses["loss"] * share)
                total_loss += losses["loss"].detach() * share
                for name, value in losses.items():
                    add(window, name, value, len(micro[rank]))
                add(window, "images", 1.0, len(micro[rank]))
            if fresh_phase:
                check_gradients(run, chosen)
                fresh_phase = False
            accelerator.unscale_gradients(prepared)
            gradients = [parameter.grad for parameter in chosen if parameter.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            watch.see(step, seen, total_loss, norm, run.data.train)
            if config.optim.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(chosen, config.optim.clip_norm, norm)
            prepared.step()
            optimizer.zero_grad(set_to_none=True)
            if run.ema:
                run.ema.update(built.model)

            progress.step = step + 1
            done, at = progress.step == run.total, (progress.step) / run.steps_per_epoch
            values: dict[str, float] = {}
            if progress.step % section.log_every == 0 or done:
                watch.check()
                values = {**averages(window, world), "lr": config.optim.lr * factor, "grad_norm": float(norm)}
                metrics.add("train", progress.step, at, values, images_per_second=bar.images_per_second or 0.0)
                window.clear()
            bar.update(progress.step, images=images, values=values)

            stop = False
            if progress.step % evaluate_every == 0 or done:
                watch.check()
                improved = evaluate_split(run, progress, metrics, at)
                freeze.set_training(built.model, built.backbone, run.layout, modes, config.freeze.norm_stats)
                stop = section.early_stop is not None and progress.without_gain >= section.early_stop
                if improved:
                    save(run, progress, window, began, best=True)
            if progress.step % checkpoint_every == 0 or done or stop:
                watch.check()
                save(run, progress, window, began, best=False)
            if stop:
                run.console.say(f"stopped early: {progress.without_gain} evaluations without improvement", keep=True)
                run.report["status"] = "stopped early"
                break
    watch.check()
    progress.seconds = time.perf_counter() - began
    metrics.close()
    accelerator.free_memory()
    return progress


def training_batches(run: Run, keys: Iterator[data.Key]) -> Iterator[dict[str, Any]]:
    task, config, cache = run.resolved.task, run.resolved.config, run.caches.get("train")
    assert run.data.train is not None
    batches = features.split_batches(
        run.data.train, task.collate, run.resolved.cfg, run.built.meta, config.train.seed, True, cache
    )
    workers = 0 if cache else config.loader.workers  # handing cached samples to a process costs more than it saves
    return data.load(batches, keys, workers, run.accelerator.device.type == "cuda")


def replayed(run: Run, split: str, batch: Mapping[str, Any], epoch: int) -> contextlib.AbstractContextManager[None]:
    """Within the block the backbone answers with its cached features, where there are any."""
    if split not in run.caches:
        return contextlib.nullcontext()
    return run.built.backbone.replay(run.caches[split].at(batch, epoch, run.accelerator.device))


def compiled(step: nn.Module, wanted: bool) -> nn.Module:
    if wanted:
        step.compile()
    return step


def add(window: dict[str, Any], name: str, value: Any, count: int) -> None:
    """Sum of value * count, kept on the device in double precision where it has any: no synchronisation."""
    if isinstance(value, Tensor):
        value = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
    window[name] = window.get(name, 0.0) + value * count


def averages(window: Mapping[str, Any], world: int) -> dict[str, float]:
    """Means over the samples of all ranks since the last logged line."""
    local = {name: float(value) for name, value in window.items()}
    ranks = distributed.gather_objects(local)
    images = sum(part["images"] for part in ranks)
    return {name: sum(part[name] for part in ranks) / images for name in local if name != "images"}


def evaluate_split(run: Run, progress: Progress, metrics: Metrics, at: float) -> bool:
    """Score the val split; True when it is the best so far. Without a val split the newest weights are the best."""
    task = run.resolved.task
    key, direction = task.best
    if run.data.val is None:
        progress.best = {"score": key, "value": None, "step": progress.step, "epoch": round(at, 4)}
        return True
    rows = split_rows(run, "val")
    scores = score_rows(run.built, rows)
    if key not in scores:
        raise TrainingError(
            f"the task's best score is {key!r}, but `score` gave {', '.join(scores)}{did_you_mean(key, scores)}"
        )
    if task.preview is not None and run.accelerator.is_main_process:
        shown = task.preview(run.resolved.cfg, rows, run.built.meta, run.data.val.image)
        save_previews(run.folder, progress.step, shown)
    values = scalars(scores)
    metrics.add("val", progress.step, at, values)
    value = values[key]
    run.console.say(f"epoch {at:.4g}  val  " + "  ".join(f"{name} {number:.4f}" for name, number in values.items()))
    before = progress.best["value"] if progress.best else None
    better = value == value and (before is None or (value > before if direction == "max" else value < before))
    if better:
        progress.best = {"score": key, "value": value, "step": progress.step, "epoch": round(at, 4)}
        progress.without_gain = 0
    else:
        progress.without_gain += 1
        if value != value:
            run.console.warn(f"val {key} is not a number at step {progress.step}")
    return better


def split_rows(run: Run, split: str) -> list[Any]:
    """Rows of a split through the weights that count: the average, where there is one."""
    config = run.resolved.config
    samples = run.data.splits()[split]
    built = run.built
    model = run.ema.model if run.ema else built.model
    size = config.train.eval_batch_size or config.train.batch_size
    cache = run.caches.get(split)
    return gather_rows(run.accelerator, built, samples, model, size, config.loader.workers, run.console, split, cache)


def finish(run: Run, progress: Progress) -> dict[str, Any]:
    """Score val and test once with the best weights, and write the report."""
    best = run.folder / "model"
    if (best / "model.safetensors").exists():
        weights = checkpoint.read_tensors(best, "model.safetensors")
        (run.ema.model if run.ema else run.built.model).load_state_dict(weights)
    elif run.accelerator.is_main_process:
        write_best(run, progress)  # train.epochs: 0
    distributed.barrier()
    scores: dict[str, Any] = {}
    items: list[Any] = []
    for name in ("val", "test"):
        split = run.data.splits().get(name)
        if split is None:
            continue
        rows = split_rows(run, name)
        scores[name] = score_rows(run.built, rows)
        if run.accelerator.is_main_process:
            items += report_items(run.built, rows, split, name)
        say_scores(run.console, f"{name}: {len(split)} images, best weights", scores[name])
    report = {
        **run.report,
        "status": run.report["status"] if run.report["status"] == "stopped early" else "finished",
        "steps": progress.step,
        "seconds": round(progress.seconds, 2),
        "best": progress.best,
        "scores": scores,
        "notes": run.console.notes,
    }
    if run.accelerator.is_main_process:
        write_text(run.folder / "report.json", json.dumps(report, indent=1))
        page = html.write_report(run.folder, report, Metrics.read(run.folder), [*read_previews(run.folder), *items])
        run.console.say(f"report: {page}")
        run.console.say(f"model:  {run.folder / 'model'}")
        plugins.manager().hook.visiontl_finished(report=report)
    if run.resolved.config.run.trackers:
        run.accelerator.end_training()
    distributed.barrier()
    return report


def check_gradients(run: Run, chosen: list[nn.Parameter]) -> None:
    """Once per phase: every parameter that was declared trainable has a gradient, the same on every rank."""
    names = {id(parameter): name for name, parameter in run.built.model.named_parameters()}
    silent = [names[id(parameter)] for parameter in chosen if parameter.grad is None]
    if silent:
        raise TrainingError(
            f"{len(silent)} trainable parameters got no gradient, such as {', '.join(silent[:3])}; the loss must read "
            "every part of the model in every batch"
        )
    if distributed.world() > 1:
        sums = [float(parameter.grad.double().sum()) for parameter in chosen if parameter.grad is not None]
        for rank, other in enumerate(distributed.gather_objects(sums)):
            for parameter, mine, theirs in zip(chosen, sums, other, strict=True):
                if mine != theirs and abs(mine - theirs) > 1e-6 * max(abs(mine), abs(theirs)):
                    raise TrainingError(f"gradients of {names[id(parameter)]} differ between this rank and rank {rank}")
