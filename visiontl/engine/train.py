"""Training: everything is set up once, then one loop runs from the first optimizer update to the last."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from visiontl import plugins
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine import feature_cache, loader, optim, order
from visiontl.engine.device import current_device, to_device
from visiontl.engine.evaluate import gather_rows, report_items, say_scores, scalars, score_rows, to_json, with_example
from visiontl.engine.prepare import Run, say_phase, set_up
from visiontl.engine.saving import (
    Progress,
    best_is_whole,
    read_previews,
    resume,
    save,
    save_previews,
    say_space,
    write_best,
)
from visiontl.errors import CheckpointError, Stopped, TrainingError, did_you_mean
from visiontl.freezing import freeze
from visiontl.freezing.policies import Mode
from visiontl.processes import liveness, ranks, signals
from visiontl.processes.seeds import mix, seed_generators
from visiontl.report import page
from visiontl.report.console import Console
from visiontl.runs import folders, store
from visiontl.runs.environment import write_text
from visiontl.runs.metrics import Metrics, Watch, check_scale, check_weights, start_trackers
from visiontl.task import SampleDataset


class Step(nn.Module):
    """What Accelerate wraps: made afresh at each phase edge, so that DDP sees what trains from then on."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> Any:
        return self.model(batch)


@dataclass(frozen=True)
class Phase:
    """The model between two changes of what is frozen. chosen: the parameters that train."""

    modes: Mapping[str, Mode]
    wrapped: Any
    optimizer: Any
    chosen: list[nn.Parameter]


def train(config: str | Path | Mapping[str, Any] | Resolved, *overrides: str, dry_run: bool = False) -> dict[str, Any]:
    """One whole run. Returns the report that is also written to the run folder (report.json, report.html).

    config: a file, a mapping or a resolved config; overrides: "train.epochs=5" ...
    dry_run: one batch of everything (train, evaluate, save, load, predict), in a folder that is removed.
    """
    resolved = resolve(config, overrides)
    current_device()  # starts the process group
    console = Console(main=ranks.rank() == 0)
    with liveness.watched() as links:
        if dry_run:
            from visiontl.engine.rehearse import rehearse

            return rehearse(resolved)
        resolved = with_example(resolved, console)
        folder, ended = ranks.on_main(lambda: folders.choose(resolved, console))
        if ended:
            return ranks.on_main(lambda: folders.say_ended(folder, console))
        core = resolved.config.model_copy(update={"resume": None if folder is None else str(folder)})
        run = set_up(replace(resolved, config=core), console=console)
        links.advice = f"; to go on from the last checkpoint: {folders.resume_command(run.folder)}"
        try:
            return finish(run, fit(run))
        finally:
            folders.release(run.folder)


def fit(run: Run) -> Progress:
    """The loop. Everything random in update `step` is a function of (seed, step, rank) or (seed, epoch, id)."""
    config, section = run.resolved.config, run.resolved.config.train
    accelerator, built, optimizer = run.accelerator, run.built, run.optimizer
    rank, world, device = ranks.rank(), ranks.world(), accelerator.device
    progress = resume(run)
    if config.resume is None:
        ranks.on_main(lambda: say_space(run))
    evaluate_every = optim.in_steps(section.evaluate_every, run.steps_per_epoch)
    checkpoint_every = optim.in_steps(section.checkpoint_every, run.steps_per_epoch)
    edges = {epoch * run.steps_per_epoch: modes for epoch, modes in run.phases}
    metrics = Metrics(run.folder, progress.step, progress.due, accelerator, run.console)
    watch = Watch(device, run.report["environment"]["precision"] == "fp16")
    start_trackers(accelerator, run.console, run.folder, run.resolved)
    window: dict[str, Any] = progress.window[rank] if progress.window else {}
    orders: dict[int, order.Order] = {}

    def order_of(epoch: int) -> order.Order:
        if epoch not in orders:
            if len(orders) > 2:  # the loader reads a little ahead of the loop
                orders.pop(min(orders))
            orders[epoch] = order.epoch_order(
                run.data, section.seed, epoch, section.batch_size, section.accumulate, world
            )
        return orders[epoch]

    keys = order.training_keys(order_of, rank, progress.step, run.steps_per_epoch, section.epochs)
    batches = training_batches(run, keys)
    assert run.data.train is not None
    phase: Phase | None = None
    began = time.perf_counter() - progress.seconds
    asked = ranks.AnyRank()

    def judge() -> None:
        """The evaluation that belongs to the newest update; keeps the best weights."""
        before, last = progress.best, progress.step == run.total
        improved = evaluate_split(run, progress, metrics, progress.step / run.steps_per_epoch)
        if progress.step == 0:
            others = {name: score_rows(built, split_rows(run, name)) for name in judged(run) if name != "val"}
            progress.start = ({"val": run.scores} if run.scores else {}) | others
        progress.due = False
        if improved and not save(run, progress, window, began, best=True, last=last):
            progress.best, progress.due = before, last  # at the end it is made again when the run goes on

    def patience_is_over() -> bool:
        return section.early_stop is not None and progress.without_gain >= section.early_stop

    def save_the_end() -> None:
        if not save(run, progress, window, began, last=True) or progress.due:
            raise CheckpointError(
                f"{run.folder}: the end of the run could not be saved; make room and continue it: "
                f"{folders.resume_command(run.folder)}"
            )

    if progress.due:
        judge()
        if progress.step == run.total:
            save_the_end()
        else:
            save(run, progress, window, began)
    stop = patience_is_over()
    with (
        signals.requests() as request,
        run.console.progress(run.total, progress.step, every=section.log_every, epochs=section.epochs) as bar,
    ):
        for step in range(progress.step, progress.step if stop else run.total):
            fresh_phase = step in edges or phase is None
            if fresh_phase:
                edge = max(start for start in edges if start <= step)
                phase = None  # the old wrapper's gradient buckets go before the new one's come
                phase = begin_phase(run, edge // run.steps_per_epoch, edges[edge])
            assert phase is not None
            chosen = phase.chosen

            epoch = step // run.steps_per_epoch
            group = order_of(epoch).group(step - epoch * run.steps_per_epoch)
            factor = optim.lr_factor(config.optim, step, run.total, run.steps_per_epoch)
            optim.set_lr(optimizer, factor)
            loss = backward(run, phase, batches, group, step, window)
            if fresh_phase:
                check_gradients(run, chosen)
            done = step + 1 == run.total
            logged = (step + 1) % section.log_every == 0 or done
            accelerator.unscale_gradients(phase.optimizer)
            norm = None
            if logged or config.optim.clip_norm is not None:
                norm = nn.utils.get_total_norm([parameter.grad for parameter in chosen if parameter.grad is not None])
            watch.see(step, [id for micro in group for id in micro[rank]], loss, norm, run.data.train)
            if norm is not None and config.optim.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(chosen, config.optim.clip_norm, norm)
            # Accelerate's wrapper looks for an optional package at every step (0.1 ms) and else adds the scaler
            (optimizer if accelerator.scaler is None else phase.optimizer).step()
            optimizer.zero_grad(set_to_none=True)
            if run.ema:
                run.ema.update(built.model)

            progress.step = step + 1
            at = progress.step / run.steps_per_epoch
            values: dict[str, float] = {}
            if norm is not None and logged:
                watch.check()
                check_scale(accelerator.scaler, progress.step)
                values = {**averages(window), "lr": config.optim.lr * factor, "grad_norm": float(norm)}
                metrics.add("train", progress.step, at, values, images_per_second=bar.images_per_second or 0.0)
                window.clear()
            bar.update(progress.step, images=order.images_of(group), values=values)

            progress.due = progress.step % evaluate_every == 0 or done
            keep = progress.due or progress.step % checkpoint_every == 0
            stopped = asked.said(request.signal is not None) and not done
            if keep or stopped:
                watch.check()
                check_weights(progress.step, chosen)
            if stopped:
                stop_here(run, progress, window, began, request.signal)
            if progress.due:
                judge()
                freeze.set_training(built.model, built.backbone, run.layout, phase.modes, config.freeze.norm_stats)
                stop = patience_is_over()
            if done or stop:
                save_the_end()
            elif progress.step % checkpoint_every == 0:
                save(run, progress, window, began)
            if stop:
                break
    asked.close()
    watch.check()
    if stop:
        run.console.say(f"stopped early: {progress.without_gain} evaluations without improvement", keep=True)
        run.report["status"] = "stopped early"
    progress.seconds = time.perf_counter() - began
    metrics.close()
    accelerator.free_memory()
    return progress


def begin_phase(run: Run, epoch: int, modes: Mapping[str, Mode]) -> Phase:
    """Freeze as the phase wants it, and wrap the model anew."""
    config, built = run.resolved.config, run.built
    freeze.apply(built.model, built.backbone, run.layout, modes)
    freeze.set_training(built.model, built.backbone, run.layout, modes, config.freeze.norm_stats)
    say_phase(run, epoch, modes)
    run.accelerator.free_memory()
    step = compiled(Step(built.model), config.train.compile)
    wrapped, prepared = run.accelerator.prepare(step, run.optimizer)
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    return Phase(modes, wrapped, prepared, [parameter for parameter in parameters if parameter.requires_grad])


def backward(
    run: Run, phase: Phase, batches: Iterator[dict[str, Any]], group: order.Group, step: int, window: dict[str, Any]
) -> Tensor:
    """The gradients of one update, in micro-batches. Adds to the window; returns this rank's loss, ()."""
    task, cfg, meta, seed = run.resolved.task, run.resolved.cfg, run.built.meta, run.resolved.config.train.seed
    accelerator, rank, world = run.accelerator, ranks.rank(), ranks.world()
    images = order.images_of(group)
    total = torch.zeros((), device=accelerator.device)
    for index, micro in enumerate(group):
        batch = next(batches)
        features_of = replayed(run, batch["id"].tolist(), step // run.steps_per_epoch)
        batch = to_device(batch, accelerator.device)
        batch["progress"] = step / run.total
        # dropout, drop path, a detector's samplers; only now, because a loader's start draws a number too
        seed_generators(mix(seed, order.STEP, step, rank, index), accelerator.device)
        last = index == len(group) - 1
        with contextlib.nullcontext() if last else accelerator.no_sync(phase.wrapped):
            with features_of:
                outputs = phase.wrapped(batch)
            losses = task.loss(cfg, outputs, batch, meta)
            share = len(micro[rank]) * world / images  # ranks are averaged by DDP; samples must be
            loss = losses["loss"] if share == 1 else losses["loss"] * share
            accelerator.backward(loss)
        total += loss.detach()
        for name, value in losses.items():
            add(window, name, value, len(micro[rank]))
    return total


def stop_here(run: Run, progress: Progress, window: Mapping[str, Any], began: float, signal: str | None) -> NoReturn:
    """Some rank was asked to stop, and now all know: save, and say how to go on."""
    saved = save(run, progress, window, began)
    names = [name for name in ranks.gather_objects(signal) if name]
    state = "saved" if saved else "NOT saved (the last checkpoint stands)"
    raise Stopped(
        f"stopped by {names[0]} at step {progress.step} of {run.total}, {state}; to continue: "
        f"{folders.resume_command(run.folder)}"
    )


def training_batches(run: Run, keys: Iterator[order.Key]) -> Iterator[dict[str, Any]]:
    task, config, cache = run.resolved.task, run.resolved.config, run.caches.get("train")
    assert run.data.train is not None
    batches = feature_cache.split_batches(
        run.data.train, task.collate, run.resolved.cfg, run.built.meta, config.train.seed, True, cache
    )
    workers = 0 if cache else config.loader.workers  # handing cached samples to a process costs more than it saves
    return loader.load(batches, keys, workers, run.accelerator.device.type == "cuda")


def replayed(run: Run, ids: list[int], epoch: int) -> contextlib.AbstractContextManager[None]:
    """Within the block the backbone answers with the cached features of these images, where there are any."""
    if "train" not in run.caches:
        return contextlib.nullcontext()
    return run.built.backbone.replay(run.caches["train"].at(ids, epoch, run.accelerator.device))


def compiled(step: nn.Module, wanted: bool) -> nn.Module:
    if wanted:
        step.compile()
    return step


def add(window: dict[str, Any], name: str, value: Any, count: int) -> None:
    """[sum of value * count, count], kept on the device in double precision where it has any: no waiting."""
    if isinstance(value, Tensor) and value.device.type == "cpu":
        value = float(value.detach())
    elif isinstance(value, Tensor):
        value = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
    total, samples = window.get(name, (0.0, 0))
    window[name] = [total + value * count, samples + count]


def averages(window: Mapping[str, Any]) -> dict[str, float]:
    """Means since the last logged line, over the samples of all ranks that each value was given for."""
    parts = ranks.gather_objects({name: (float(total), count) for name, (total, count) in window.items()})
    names = dict.fromkeys(name for part in parts for name in part)
    sums = {name: [part[name] for part in parts if name in part] for name in names}
    return {name: sum(total for total, _ in found) / sum(count for _, count in found) for name, found in sums.items()}


def evaluate_split(run: Run, progress: Progress, metrics: Metrics, at: float) -> bool:
    """Score the val split; True when it is the best so far. Without a val split the newest weights are the best."""
    task = run.resolved.task
    key, direction = task.best
    if run.data.val is None:
        progress.best = {"score": key, "value": None, "step": progress.step, "epoch": round(at, 4)}
        return True
    rows = split_rows(run, "val")
    scores = run.scores = score_rows(run.built, rows)
    if key not in scores:
        raise TrainingError(
            f"the task's best score is {key!r}, but `score` gave {', '.join(scores)}{did_you_mean(key, scores)}"
        )
    preview = task.preview
    if preview is not None:
        arguments = (run.resolved.cfg, rows, run.built.meta, run.data.val.image)
        ranks.on_main(lambda: save_previews(run, progress.step, preview(*arguments)))
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


def judged(run: Run) -> dict[str, SampleDataset]:
    """The splits that were not trained on."""
    return {name: split for name, split in run.data.splits().items() if name != "train"}


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
    model = run.ema.model if run.ema else run.built.model
    if progress.best is not None:
        ranks.on_main(lambda: load_best(run, model))
        ranks.broadcast_module(model)
    splits = judged(run)
    rows = {name: split_rows(run, name) for name in splits}
    scores = {name: score_rows(run.built, rows[name]) for name in splits}
    if progress.best is None:  # a run that kept none so far exports what it has
        run.scores = scores.get("val")
        ranks.on_main(lambda: write_best(run))
    for name, split in splits.items():
        say_scores(run.console, f"{name}: {len(split)} images, best weights", scores[name])
    report = {
        **run.report,
        "status": run.report["status"] if run.report["status"] == "stopped early" else "finished",
        "steps": progress.step,
        "seconds": round(progress.seconds, 2),
        "best": progress.best,
        "scores": scores,
        **({"scores_at_start": progress.start} if progress.start else {}),
        "notes": run.console.notes,
    }

    def write() -> None:
        items = [item for name, split in splits.items() for item in report_items(run.built, rows[name], split, name)]
        try:
            written = page.write_report(
                run.folder, report, Metrics.read(run.folder), [*read_previews(run.folder), *items]
            )
            write_text(run.folder / "report.json", to_json(report))  # last: it is what says that the run has ended
        except OSError as error:
            raise CheckpointError(
                f"{run.folder}: the report cannot be written ({error}); the model is kept: make room, then "
                f"{folders.resume_command(run.folder)}"
            ) from None
        run.console.say(f"report: {written}")
        run.console.say(f"model:  {run.folder / 'model'}")
        plugins.tell("visiontl_finished", run.console.warn, report=report)

    ranks.on_main(write)
    for tracker in run.accelerator.trackers:
        tracker.finish()
    return report


def load_best(run: Run, model: nn.Module) -> None:
    """The best weights into the model."""
    if not best_is_whole(run):
        raise CheckpointError(f"{run.folder / 'model'}: the best weights were damaged while the run went on")
    model.load_state_dict(store.read_tensors(run.folder / "model", "model.safetensors"))


def check_gradients(run: Run, chosen: list[nn.Parameter]) -> None:
    """Once per phase: every parameter that was declared trainable has a gradient, the same on every rank."""
    names = {id(parameter): name for name, parameter in run.built.model.named_parameters()}
    silent = [names[id(parameter)] for parameter in chosen if parameter.grad is None]
    silent = list(dict.fromkeys(name for part in ranks.gather_objects(silent) for name in part))
    if silent:
        raise TrainingError(
            f"{len(silent)} trainable parameters got no gradient, such as {', '.join(silent[:3])}; the loss must read "
            "every part of the model in every batch"
        )
    if ranks.world() > 1:
        sums = [float(parameter.grad.double().sum()) for parameter in chosen if parameter.grad is not None]
        for rank, other in enumerate(ranks.gather_objects(sums)):
            for parameter, mine, theirs in zip(chosen, sums, other, strict=True):
                if mine != theirs and abs(mine - theirs) > 1e-6 * max(abs(mine), abs(theirs)):
                    raise TrainingError(f"gradients of {names[id(parameter)]} differ between this rank and rank {rank}")
