"""Training: everything is set up once, then one loop runs from the first optimizer update to the last."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontl import plugins
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine import loader
from visiontl.engine.announcements import announce_phase, warn_of_no_loss
from visiontl.engine.apart import apart
from visiontl.engine.best import judge, judged, patience_is_over, say_worth, split_rows
from visiontl.engine.collated import collate_once
from visiontl.engine.deciding import pace
from visiontl.engine.device import current_device, to_device
from visiontl.engine.example import with_example
from visiontl.engine.feature_cache import split_batches
from visiontl.engine.ledger import Ledger
from visiontl.engine.onward import next_command
from visiontl.engine.optim import in_steps, lr_factor, set_lr
from visiontl.engine.order import images_of, training_keys
from visiontl.engine.partial import divisors
from visiontl.engine.prepare import Run, set_up
from visiontl.engine.rehearse import rehearse
from visiontl.engine.reporting import report_items, report_of, shown_in_training, side_by_side, write
from visiontl.engine.results import Result
from visiontl.engine.rows import say_scores, score_rows
from visiontl.engine.saving import load_best, resume, write_best
from visiontl.engine.usage import memory_used
from visiontl.engine.watch import Watch, check_gradients, check_scale, check_weights
from visiontl.engine.wholes import with_start
from visiontl.engine.workers import explained
from visiontl.engine.wrapping import wrap
from visiontl.errors import CheckpointError
from visiontl.freezing.apply import set_gradients, set_training
from visiontl.freezing.layout import trainable
from visiontl.freezing.policies import Mode
from visiontl.kit.words import count
from visiontl.processes import liveness, ranks, signals
from visiontl.processes.seeds import STEP, mix, seed_generators
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.images import write_images
from visiontl.runs.metrics import Metrics, finish_trackers, start_trackers
from visiontl.runs.origin import Asked, as_started
from visiontl.runs.previews import read_previews


def train(
    config: str | Path | Mapping[str, Any] | Resolved, *overrides: str | Mapping[str, Any], dry_run: bool = False
) -> Result:
    """One whole run. Returns the report that is also written to the run folder (report.json, report.html).

    config: a file, a mapping or a resolved config; overrides: "train.epochs=5" ..., or {"train.epochs": 5}
    dry_run: one batch of everything (train, evaluate, save, load, predict), in a folder that is removed.
    """
    resolved = resolve(config, overrides)
    current_device()  # starts the process group
    console = Console(main=ranks.rank() == 0)
    with liveness.watched() as links:
        if dry_run:
            return rehearse(resolved, lambda run: finish(run, fit(run)))
        resolved = with_example(with_start(resolved, console), console)
        folder, ended = ranks.on_main(lambda: folders.choose(resolved, console))
        if ended:
            return Result(ranks.on_main(lambda: folders.ended_report(folder, console)).to_json())
        begun = nullcontext() if folder is None else as_started(Asked(folder), console)
        with begun as asked:
            core = resolved.config.model_copy(update={"resume": str(asked.run) if asked else None})
            run = set_up(replace(resolved, config=core), console=console)
            links.advice = f"; to go on from the last checkpoint: {folders.resume_command(run.folder)}"
            try:
                with explained(links.advice):
                    gc.freeze()  # what stands now stays: else each collection looks at all that was imported, for 0.2 s
                    return finish(run, fit(run))
            finally:
                gc.unfreeze()
                folders.release(run.folder)


def fit(run: Run) -> Ledger:
    """The loop. Everything random in update `step` is a function of (seed, step, rank) or (seed, epoch, id)."""
    config, section = run.resolved.config, run.resolved.config.train
    model, optimizer, accelerator = run.built.model, run.optimizer, run.accelerator
    rank, world, device = ranks.rank(), ranks.world(), accelerator.device
    evaluate_every = in_steps(section.evaluate_every, run.steps_per_epoch)
    assert run.data.train is not None
    progress = resume(run)
    ledger = Ledger(run, progress)
    watch = Watch(device, run.placement.precision == "fp16")
    start_trackers(accelerator, run.console, run.folder, run.resolved)
    batches = training_batches(run, progress.step)
    asked = ranks.AnyRank()
    phase: Phase | None = None

    # ----------------------------------------------------------------------- what was cut off, or stands at the start
    if progress.due:
        judge(run, ledger)
        if progress.step == run.total:
            ledger.save_the_end()
        else:
            ledger.save()
    stop = patience_is_over(run, ledger)

    with (
        signals.requests() as request,
        run.console.progress(run.total, progress.step, every=section.log_every, epochs=section.epochs) as bar,
    ):
        for step in range(progress.step, progress.step if stop else run.total):
            epoch, local = divmod(step, run.steps_per_epoch)

            # --------------------------------------------------- phase: freeze and wrap anew where the policy changes
            begins = phase is None or (local == 0 and any(epoch == first for first, _ in run.phases))
            if begins:
                phase = None  # the old wrapper's gradient buckets go before the new one's come
                phase = begin_phase(run, epoch)
            assert phase is not None

            # ------------------------------------------------------ update: gradients in micro-batches, then one step
            group = run.orders(epoch).group(local)
            images = images_of(group)
            factor = lr_factor(config.optim, step, run.total, run.steps_per_epoch) * phase.pace
            set_lr(optimizer, factor)
            loss = torch.zeros((), device=device)  # (), of this rank
            for index, (micro, batch) in enumerate(zip(group, divisors(batches, group), strict=True)):
                cached = replayed(run, batch["id"], epoch)
                batch = to_device(batch, device)
                batch["progress"] = step / run.total
                # dropout, drop path, a detector's samplers; only now, because a loader's start draws a number too
                seed_generators(mix(section.seed, STEP, step, rank, index), device)
                last = index == len(group) - 1
                with nullcontext() if last else accelerator.no_sync(phase.wrapped):
                    with cached:
                        outputs = phase.wrapped(batch)
                    losses = run.method.losses(run.resolved, outputs, batch)
                    share = len(micro[rank]) * world / images  # ranks are averaged by DDP; samples must be
                    part = losses["loss"] if share == 1 else losses["loss"] * share
                    # Accelerate's own divides by 1 first; without a scaler that is all it does besides
                    part.backward() if accelerator.scaler is None else accelerator.backward(part)
                loss += part.detach()
                ledger.add(losses, len(micro[rank]))
            if begins:
                check_gradients(model, phase.chosen)
            done = step + 1 == run.total
            logged = (step + 1) % section.log_every == 0 or done
            accelerator.unscale_gradients(phase.optimizer)
            norm = None
            if logged or config.optim.clip_norm is not None:
                norm = nn.utils.get_total_norm([one.grad for one in phase.chosen if one.grad is not None])
            watch.see(step, [id for micro in group for id in micro[rank]], loss, norm, run.data.train)
            if norm is not None and config.optim.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(phase.chosen, config.optim.clip_norm, norm)
            # Accelerate's wrapper looks for an optional package at every step (0.1 ms) and else adds the scaler
            (optimizer if accelerator.scaler is None else phase.optimizer).step()
            for parameter in phase.chosen:
                parameter.grad = None
            if run.ema:
                run.ema.update(model)
            progress.step = step + 1

            # ------------------------------------------------------------------------------------------------- record
            values: dict[str, float] = {}
            if norm is not None and logged:
                watch.check()
                check_scale(accelerator.scaler, progress.step)
                values = {**ledger.averages(), "lr": config.optim.lr * factor, "grad_norm": float(norm)}
                ledger.write(
                    "train", values, images_per_second=bar.images_per_second or 0.0, memory=memory_used(device)
                )
                warn_of_no_loss(values, progress.step, run.console)
            bar.update(progress.step, images=images, values=values)

            # --------------------------------------------------------------------------- evaluate, save, perhaps stop
            progress.due = progress.step % evaluate_every == 0 or done
            saved = ledger.wants_checkpoint(logged)
            stopped = asked.said(request.signal is not None) and not done
            if progress.due or saved or stopped:
                watch.check()
                check_weights(progress.step, phase.chosen)
            if stopped:
                ledger.save_and_stop(request.signal)
            if progress.due:
                judge(run, ledger)
                set_training(model, run.built.backbone, phase.modes, config.freeze.norm_stats)
                stop = patience_is_over(run, ledger)
            if done or stop:
                ledger.save_the_end()
            elif saved:
                ledger.save()
            if stop:
                break
    asked.close()
    watch.check()
    if stop:
        run.console.say(f"stopped early: {progress.without_gain} evaluations without improvement", keep=True)
        ledger.status = "stopped early"
    ledger.close()
    accelerator.free_memory()
    return ledger


@dataclass(frozen=True)
class Phase:
    """The model between two changes of what is frozen. chosen: the parameters that train; pace: of all their rates."""

    modes: Mapping[str, Mode]
    wrapped: Any
    optimizer: Any
    chosen: list[nn.Parameter]
    pace: float


def begin_phase(run: Run, epoch: int) -> Phase:
    """Freeze as the phase that an epoch belongs to wants it, and wrap the model anew."""
    config, built = run.resolved.config, run.built
    first, modes = max((phase for phase in run.phases if phase[0] <= epoch), key=lambda phase: phase[0])
    set_gradients(built.model, trainable(run.layout, modes))
    set_training(built.model, built.backbone, modes, config.freeze.norm_stats)
    announce_phase(run.trainability(modes, first), first, run.console)
    wrapped, prepared = wrap(run.accelerator, built.model, run.optimizer, config.train.compile)
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    return Phase(modes, wrapped, prepared, [one for one in parameters if one.requires_grad], pace(run.resolved, first))


def training_batches(run: Run, start: int) -> Iterator[dict[str, Any]]:
    """This rank's batches from update `start` on, micro-batch by micro-batch."""
    config, cache = run.resolved.config, run.caches.get("train")
    assert run.data.train is not None
    keys = training_keys(run.orders, ranks.rank(), start, run.steps_per_epoch, config.train.epochs)
    made = split_batches(run.built, run.data.train, training=True, cache=cache)
    batches = collate_once(made, config.train.batch_size, config.train.epochs)
    return loader.load(batches, keys, config.loader.workers, run.accelerator.device.type == "cuda", run.console)


def replayed(run: Run, ids: torch.Tensor, epoch: int) -> AbstractContextManager[None]:
    """Within the block the backbone answers with the cached features of these images, where there are any."""
    if "train" not in run.caches:
        return nullcontext()
    return run.built.backbone.replay(run.caches["train"].at(ids, epoch, run.accelerator.device))


# ------------------------------------------------------------------------------------------------------------ the end


def finish(run: Run, ledger: Ledger) -> Result:
    """Score val and test once with the best weights, and write the report."""
    progress, kept = ledger.progress, run.kept
    if progress.best is not None:
        ranks.on_main(lambda: load_best(run, kept.model))
        ranks.broadcast_module(kept.model)
    splits = judged(run)
    rows = {name: split_rows(run, name) for name in splits}
    scores = {name: apart(run.resolved, score_rows(run.built, rows[name])) for name in splits}
    if progress.best is None:  # a run that kept none so far exports what it has
        ranks.on_main(lambda: write_best(run, scores.get("val")))
    for name, split in splits.items():
        say_scores(run.console, f"{name}: {count(len(split), 'image')}, best weights", scores[name])
    trivial = say_worth(run, ledger, rows.get("val"))
    for line in plugins.failures():
        run.console.warn(line)
    seen = shown_in_training(run) if ranks.rank() == 0 else []
    report = ranks.on_main(lambda: report_of(run, ledger, scores, trivial, rows))

    def conclude() -> None:
        shown = {name: report_items(run.built, run.accelerator, rows[name], one, name) for name, one in splits.items()}
        items = [*read_previews(run.folder), *side_by_side(shown)]
        try:
            for name, split in splits.items():
                write_images(run.folder, name, split.names, rows[name])
            page = write(run.folder, report, items, Metrics.read(run.folder), seen)
        except OSError as error:
            raise CheckpointError(
                f"{run.folder}: the report cannot be written ({error}); the model is kept: make room, then "
                f"{folders.resume_command(run.folder)}"
            ) from None
        run.console.say(f"report: {page}")
        run.console.say(f"model:  {run.folder / 'model'}")
        run.console.say(f"next:   {next_command(run.resolved, run.folder, run.data.splits())}")
        plugins.tell("visiontl_finished", run.console.warn, report=report.to_json())

    ranks.on_main(conclude)
    finish_trackers(run.accelerator, run.console)
    return Result(report.to_json())
