"""The numbers of a run: metrics.jsonl and metrics.csv, trackers, and the watch for values that are not finite."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from torch import Tensor

from visiontl import distributed, plugins
from visiontl.config import Resolved, to_plain
from visiontl.errors import ConfigError, TrainingError, did_you_mean
from visiontl.task import SampleDataset

METRICS = "metrics.jsonl"


class Metrics:
    """Appends one JSON object per logged line, on the main process; a resumed run drops what came later."""

    def __init__(self, folder: Path, step: int, accelerator: Accelerator):
        self.folder, self.accelerator = folder, accelerator
        self.main = accelerator.is_main_process
        if self.main:
            kept = [record for record in self.read(folder) if record["step"] <= step]
            text = "".join(json.dumps(record) + "\n" for record in kept)
            (folder / METRICS).write_text(text, encoding="utf-8")
            self.file = (folder / METRICS).open("a", encoding="utf-8")

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
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self.file.write(json.dumps(finite) + "\n")
        self.file.flush()
        named = {f"{kind}/{name}": value for name, value in values.items()}
        if self.accelerator.trackers:
            self.accelerator.log(named, step=step)
        plugins.manager().hook.visiontl_logged(step=step, values=named)

    def close(self) -> None:
        """Close the file and write the same numbers as a table for spreadsheets."""
        if not self.main:
            return
        self.file.close()
        records = self.read(self.folder)
        columns = list(dict.fromkeys(key for record in records for key in record))
        with (self.folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(records)


class Watch:
    """Stops all ranks when loss or gradient is not finite. On a GPU a step is judged while the next one runs,
    so that nothing waits; no checkpoint is written in between."""

    def __init__(self, device: torch.device, scaled: bool):
        self.device = device
        self.scaled = scaled  # under fp16 the scaler skips updates with infinite gradients; only the loss counts
        self.pending: tuple[int, Sequence[int], Tensor, SampleDataset] | None = None

    def see(self, step: int, ids: Sequence[int], loss: Tensor, norm: Tensor, split: SampleDataset) -> None:
        self.check()
        numbers = torch.stack([loss.detach().float(), norm.detach().float()])
        if self.device.type == "cuda":
            numbers = numbers.to("cpu", non_blocking=True)
        self.pending = step, ids, numbers, split
        if self.device.type != "cuda":
            self.check()

    def check(self) -> None:
        """Raise TrainingError with step, samples and advice if the step seen last was not finite."""
        if self.pending is None:
            return
        step, ids, numbers, split = self.pending
        self.pending = None
        if self.device.type == "cuda":
            torch.cuda.current_stream().synchronize()
        loss, norm = numbers.tolist()
        bad_norm = not math.isfinite(norm) and not self.scaled
        if math.isfinite(loss) and not bad_norm:
            return
        # an unbounded gradient reaches every rank through the reduction, so every rank comes here
        found = [(loss, list(ids), [str(split.names[i]) for i in ids[:4]])]
        if bad_norm:
            found = distributed.gather_objects(found[0])
        where = "; ".join(
            f"rank {rank}: loss {value:g}, sample ids {samples[:16]} ({', '.join(names)})"
            for rank, (value, samples, names) in enumerate(found)
            if not math.isfinite(value) or len(found) == 1
        )
        raise TrainingError(
            f"step {step}: loss {loss:g}, gradient norm {norm:g}; training stopped on all ranks. "
            f"{where or 'the loss was finite on every rank, the gradient was not'}. Try a smaller optim.lr, a warm-up "
            "(optim.warmup), optim.clip_norm=1.0 or train.precision=fp32, and look at these images"
        )


def start_trackers(accelerator: Accelerator, names: Sequence[str], folder: Path, resolved: Resolved) -> None:
    """Start the trackers asked for; one that is not installed is an error, never a shrug."""
    if not names:
        return
    accelerator.project_configuration.set_directories(str(folder))
    flat = dict(_flatten(to_plain(resolved)))
    accelerator.init_trackers("visiontl", config=flat)


def check_trackers(names: Sequence[str]) -> None:
    available = [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]
    missing = [name for name in names if name not in available]
    if missing:
        hint = did_you_mean(missing[0], available) or "; install its package first"
        raise ConfigError(f"run.trackers: {', '.join(missing)} cannot be used here{hint}")


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flatten(value, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, value if isinstance(value, int | float | str | bool) else str(value)))
    return flat
