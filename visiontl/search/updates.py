"""Real updates of a run that is set up for a moment and leaves nothing behind."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.device import to_device
from visiontl.engine.optim import set_lr
from visiontl.engine.order import images_of
from visiontl.engine.partial import divisors
from visiontl.engine.prepare import Run, set_up
from visiontl.engine.train import begin_phase, replayed, training_batches
from visiontl.processes import liveness
from visiontl.processes.seeds import STEP, mix, seed_generators
from visiontl.report.console import Console, Manner, speaking
from visiontl.runs import folders
from visiontl.search.sweep import release_memory


@contextmanager
def for_a_moment(resolved: Resolved, changes: dict[str, Any], updates: int) -> Iterator[Run]:
    """A run with other settings, in a folder that is gone afterwards; warnings alone are said. Raises what a run
    raises that cannot be set up."""
    own = {"run.name": None, "run.trackers": [], "resume": None}
    changed = resolve(resolved, [{**changes, **own}])
    with tempfile.TemporaryDirectory(prefix="visiontl-tune-") as made, liveness.watched():
        with speaking(Manner(quiet=True, stream=sys.stderr)):
            console = Console()
            run = set_up(changed, limit=updates, parent=Path(made), console=console)
        try:
            yield run
        finally:
            folders.release(run.folder)
            run.accelerator.free_memory()
            release_memory()


def losses(run: Run, factors: Iterable[float]) -> Iterator[float]:
    """One update for each factor of the learning rates; gives its loss, measured before the weights change.

    The model is in the run's first phase of freezing throughout. A loss that is not finite is given, and the weights
    are not worth going on with then.
    """
    section, device = run.resolved.config.train, run.accelerator.device
    with speaking(Manner(quiet=True, stream=sys.stderr)):
        phase = begin_phase(run, 0)
    batches = training_batches(run, 0)
    for step, factor in enumerate(factors):
        epoch, local = divmod(step, run.steps_per_epoch)
        group = run.orders(epoch).group(local)
        images = images_of(group)
        set_lr(run.optimizer, factor)
        total = 0.0
        for index, (micro, batch) in enumerate(zip(group, divisors(batches, group), strict=True)):
            cached = replayed(run, batch["id"].tolist(), epoch)
            batch = to_device(batch, device)
            batch["progress"] = step / run.total
            seed_generators(mix(section.seed, STEP, step, 0, index), device)
            with cached:
                outputs = phase.wrapped(batch)
            found = run.method.losses(run.resolved, outputs, batch)
            part = found["loss"] * (len(micro[0]) / images)
            run.accelerator.backward(part)
            total += float(part.detach())
        run.accelerator.unscale_gradients(phase.optimizer)
        if (most := run.resolved.config.optim.clip_norm) is not None:
            torch.nn.utils.clip_grad_norm_(phase.chosen, most)
        (run.optimizer if run.accelerator.scaler is None else phase.optimizer).step()
        run.optimizer.zero_grad(set_to_none=True)
        yield total
