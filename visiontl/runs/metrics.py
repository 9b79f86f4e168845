"""The numbers of a run: metrics.jsonl and metrics.csv, and trackers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from visiontl import plugins
from visiontl.config.resolve import Resolved, as_begun
from visiontl.config.write import flat_config, to_yaml
from visiontl.errors import ConfigError, did_you_mean
from visiontl.report.console import Console
from visiontl.report.values import json_value
from visiontl.runs.environment import write_text

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
