"""The numbers of a run: metrics.jsonl and metrics.csv, trackers, and the watch for values that are not finite."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType
from torch import Tensor, nn

from visiontl import plugins
from visiontl.config.resolve import Resolved, as_begun
from visiontl.config.write import flat_config, to_yaml
from visiontl.errors import ConfigError, TrainingError, did_you_mean
from visiontl.processes import ranks
from visiontl.report.console import Console
from visiontl.report.values import json_value
from visiontl.runs.environment import write_text
from visiontl.task import SampleDataset

METRICS = "metrics.jsonl"


class Metrics:
    """Appends one JSON object per logged line, on the main process; a resumed run drops what came later.

    due: the evaluation of `step` is still to be made, so a line of it is of an attempt that was cut off.
    While the disk is full, lines wait in memory, and training goes on."""

    def __init__(self, folder: Path, step: int, due: bool, accelerator: Accelerator, console: Console):
        self.folder, self.accelerator, self.console = folder, accelerator, console
        self.waiting = b""
        self.main = accelerator.is_main_process
        if self.main:
            before = [record for record in self.read(folder) if record["step"] <= step]
            kept = [record for record in before if not (due and record["step"] == step and record["kind"] == "val")]
            write_text(folder / METRICS, "".join(map(_line, kept)))
            self.file = (folder / METRICS).open("ab", buffering=0)

    @staticmethod
    def read(folder: Path) -> list[dict[str, Any]]:
        """All whole lines; a line cut off by a kill is passed over."""
        path, records = folder / METRICS, []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records

    def add(self, kind: str, step: int, epoch: float, values: Mapping[str, float], **speed: float) -> None:
        if not self.main:
            return
        record = {"step": step, "epoch": round(epoch, 6), "kind": kind, **values}
        record |= {name: round(value, 2) for name, value in speed.items()}
        self._write(_line(record))
        named = {f"{kind}/{name}": value for name, value in values.items()}
        if self.accelerator.trackers:
            self.accelerator.log(named, step=step)
        plugins.tell("visiontl_logged", self.console.warn, step=step, values=named)

    def _write(self, line: str) -> None:
        full = bool(self.waiting)
        self.waiting += line.encode()
        try:
            while self.waiting:
                self.waiting = self.waiting[self.file.write(self.waiting) :]
        except OSError as error:
            if not full:
                self.console.warn(f"{self.folder / METRICS} cannot be written ({error}); its lines wait in memory")

    def close(self) -> None:
        """Close the file and write the same numbers as a table for spreadsheets."""
        if not self.main:
            return
        self._write("")
        self.file.close()
        records = self.read(self.folder)
        columns = list(dict.fromkeys(key for record in records for key in record))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        try:
            write_text(self.folder / "metrics.csv", table.getvalue())
        except OSError as error:
            self.console.warn(f"{self.folder / 'metrics.csv'} cannot be written ({error})")


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(json_value(record, METRICS), allow_nan=False) + "\n"


class Watch:
    """Stops all ranks when loss or gradient is not finite. On a GPU a step is judged while the next one runs,
    so that nothing waits; no checkpoint is written in between.

    A gradient's norm reads every gradient once more (3 ms for 11 M parameters on one CPU), so it need not be
    measured in each step: after a gradient that is not finite the weights are not either, nor is the next loss, and
    `check_weights` stands before what is kept."""

    def __init__(self, device: torch.device, scaled: bool):
        self.device = device
        self.scaled = scaled  # under fp16 the scaler skips updates with infinite gradients; only the loss counts
        self.pending: tuple[int, Sequence[int], Tensor, Any, SampleDataset] | None = None
        self.unmeasured: Sequence[int] = ()  # samples of the newest judged step, where its norm was not measured

    def see(self, step: int, ids: Sequence[int], loss: Tensor, norm: Tensor | None, split: SampleDataset) -> None:
        """loss, norm: () on the device; the loss of this rank alone; norm: None where it was not measured."""
        self.check()
        own = loss.detach().float()
        total = ranks.sum_across(own.clone()) if ranks.active() else own
        numbers = torch.stack([total, own] if norm is None else [total, own, norm.detach().float()])
        copied = None
        if self.device.type == "cuda":
            numbers = numbers.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        self.pending = step, ids, numbers, copied, split
        if self.device.type != "cuda":
            self.check()

    def check(self) -> None:
        """Raise TrainingError with step, samples and advice if the step seen last was not finite on any rank."""
        if self.pending is None:
            return
        step, ids, numbers, copied, split = self.pending
        self.pending = None
        if copied is not None:
            copied.synchronize()
        total, own, *norms = numbers.tolist()
        before, self.unmeasured = self.unmeasured, () if norms else ids
        if math.isfinite(total) and (self.scaled or all(map(math.isfinite, norms))):
            return
        # the sum over ranks and the reduced gradient are the same everywhere, so every rank comes here
        found = ranks.gather_objects((own, list(ids), [str(split.names[i]) for i in ids[:4]], list(before)))
        guilty = [rank for rank, (value, *_) in enumerate(found) if not math.isfinite(value)]
        where = "; ".join(
            f"rank {rank}: loss {found[rank][0]:g}, sample ids {found[rank][1][:16]} ({', '.join(found[rank][2])})"
            + (f"; or it was the step before, sample ids {found[rank][3][:16]}" if found[rank][3] else "")
            for rank in guilty or range(len(found))
        )
        measured = f" (gradient norm {norms[0]:g})" if norms else ""
        raise TrainingError(
            f"step {step}: loss or gradient is not finite{measured}; training stopped on all ranks. "
            f"{where}. Try a smaller optim.lr, a warm-up (optim.warmup), optim.clip_norm=1.0 or train.precision=fp32, "
            "and look at these images"
        )


def check_weights(step: int, weights: Sequence[Tensor]) -> None:
    """Raise TrainingError if a weight is not finite after `step` updates: such weights must not be kept."""
    if not math.isfinite(float(nn.utils.get_total_norm(weights))):
        raise TrainingError(
            f"step {step}: the weights are not finite after this update, so its gradient was not; nothing was saved. "
            "Try a smaller optim.lr, a warm-up (optim.warmup), optim.clip_norm=1.0 or train.precision=fp32"
        )


def check_scale(scaler: Any, step: int) -> None:
    """Under fp16 an update with infinite gradients is skipped and the loss scale halved; below 1 nothing is learned."""
    if scaler is not None and scaler.get_scale() < 1:
        raise TrainingError(
            f"step {step}: the fp16 loss scale fell to {scaler.get_scale():g}, so updates are being skipped; try "
            "train.precision=bf16 or fp32, or a smaller optim.lr"
        )


def start_trackers(accelerator: Accelerator, console: Console, folder: Path, resolved: Resolved) -> None:
    """Start the trackers asked for (see check_trackers) and tell watchers what begins, on the main process."""
    settings = flat_config(resolved)
    if resolved.config.run.trackers:
        accelerator.project_configuration.logging_dir = str(folder)
        accelerator.init_trackers("visiontl", config=settings)
    if accelerator.is_main_process:
        report = {
            "run": str(folder),
            "name": folder.name,
            "task": resolved.task.name,
            "status": "started",
            "config": to_yaml(as_begun(resolved), comments=False),
            "settings": settings,
        }
        plugins.tell("visiontl_started", console.warn, report=report)


def check_trackers(names: Sequence[str]) -> None:
    available = [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]
    known = [kind.value for kind in LoggerType if kind.value != "all"]
    missing = [name for name in names if name not in available]
    if missing:
        install = missing[0] in known
        hint = "; install its package first" if install else did_you_mean(missing[0], known)
        raise ConfigError(f"run.trackers: {', '.join(missing)} cannot be used here{hint}")
