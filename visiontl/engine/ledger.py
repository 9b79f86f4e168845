"""What a run in training knows of its past: progress, metrics, the sums since the last line, the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from visiontl.engine.optim import in_steps
from visiontl.engine.prepare import Run
from visiontl.engine.saving import Progress, tried, write_best, write_checkpoint
from visiontl.errors import CheckpointError, Stopped
from visiontl.processes import ranks
from visiontl.runs import folders
from visiontl.runs.metrics import Metrics

SHARE, LONG = 0.03, 600.0  # of the time that checkpoints may take; seconds without one in a long epoch


class Ledger:
    """scores: of val, by the newest evaluation."""

    def __init__(self, run: Run, progress: Progress):
        self.run, self.progress = run, progress
        self.metrics = Metrics(run.folder, progress.step, progress.due, run.accelerator, run.console)
        self.window: dict[str, Any] = progress.window[ranks.rank()] if progress.window else {}
        self.began = time.perf_counter() - progress.seconds
        self.scores: dict[str, Any] | None = None
        self.status = "finished"  # or "stopped early"
        self.saved, self.cost = time.perf_counter(), 0.0  # when the newest checkpoint was written, seconds that it took

    def add(self, losses: Mapping[str, Any], images: int) -> None:
        """Count a micro-batch's means into the window: {name: [sum of mean * images, images]}, kept on the device in
        double precision where it has any: no waiting."""
        for name, value in losses.items():
            if isinstance(value, Tensor) and value.device.type == "cpu":
                value = float(value.detach())
            elif isinstance(value, Tensor):
                value = value.detach().to(torch.float32 if value.device.type == "mps" else torch.float64)
            total, samples = self.window.get(name, (0.0, 0))
            self.window[name] = [total + value * images, samples + images]

    def averages(self) -> dict[str, float]:
        """Means of the window, over the samples of all ranks that each value was given for; it is empty then."""
        parts = ranks.gather_objects({name: (float(total), count) for name, (total, count) in self.window.items()})
        self.window.clear()
        names = dict.fromkeys(name for part in parts for name in part)
        sums = {name: [part[name] for part in parts if name in part] for name in names}
        return {
            name: sum(total for total, _ in found) / sum(count for _, count in found) for name, found in sums.items()
        }

    def write(self, kind: str, values: Mapping[str, float], **speed: float) -> None:
        """One line of metrics, of the newest update."""
        step = self.progress.step
        self.metrics.add(kind, step, step / self.run.steps_per_epoch, values, **speed)

    def settle(self) -> None:
        """Bring progress up to date with what the loop keeps beside it, on every rank."""
        local = {name: [float(total), count] for name, (total, count) in self.window.items()}
        self.progress.window = ranks.gather_objects(local)
        self.progress.seconds = time.perf_counter() - self.began
        ranks.broadcast_buffers(self.run.built.model)

    def wants_checkpoint(self, logged: bool) -> bool:
        """Whether a checkpoint belongs to the newest update: by its number; auto: at the end of an epoch by what the
        last one took, and where a line is logged by the time since. The same on every rank."""
        every, per_epoch = self.run.resolved.config.train.checkpoint_every, self.run.steps_per_epoch
        if every != "auto":
            return self.progress.step % in_steps(every, per_epoch) == 0
        ends, since = self.progress.step % per_epoch == 0, time.perf_counter() - self.saved
        worth = self.cost <= SHARE * since if ends else since > LONG
        return ranks.broadcast_object(worth) if ends or logged else False

    def save(self, last: bool = False) -> bool:
        """A checkpoint of the newest update; True when it was written."""
        began = time.perf_counter()
        self.settle()

        def write() -> None:
            self.metrics.flush()  # a checkpoint never stands without the numbers before it
            write_checkpoint(self.run, self.progress)

        written = tried(self.run, self.progress.step, write, last)
        self.saved, self.cost = time.perf_counter(), time.perf_counter() - began
        return written

    def save_best(self, last: bool) -> bool:
        """The weights as `model/` and `checkpoints/best`; True when they were written."""
        self.settle()
        return tried(self.run, self.progress.step, lambda: write_best(self.run, self.scores), last)

    def save_the_end(self) -> None:
        if not self.save(last=True) or self.progress.due:
            raise CheckpointError(
                f"{self.run.folder}: the end of the run could not be saved; make room and continue it: "
                f"{folders.resume_command(self.run.folder)}"
            )

    def save_and_stop(self, signal: str | None) -> NoReturn:
        """Some rank was asked to stop, and now all know: save, and say how to go on."""
        state = "saved" if self.save() else "NOT saved (the last checkpoint stands)"
        names = [name for name in ranks.gather_objects(signal) if name]
        raise Stopped(
            f"stopped by {names[0]} at step {self.progress.step} of {self.run.total}, {state}; to continue: "
            f"{folders.resume_command(self.run.folder)}"
        )

    def close(self) -> None:
        self.progress.seconds = time.perf_counter() - self.began
        self.metrics.close()
