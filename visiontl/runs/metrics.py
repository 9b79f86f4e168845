"""The numbers of a run: metrics.jsonl and metrics.csv, and trackers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from visiontl import plugins
from visiontl.config.resolve import Resolved, as_begun
from visiontl.config.write import flat_config, to_yaml
from visiontl.errors import ConfigError, did_you_mean, shortened
from visiontl.kit.words import count, plural
from visiontl.report.console import Console
from visiontl.report.values import json_value
from visiontl.runs.files import METRICS, read_lines, write_text, writing
from visiontl.runs.folders import resume_command


class Metrics:
    """Appends one JSON object per logged line, on the main process; a resumed run drops what came later.

    due: the evaluation of `step` is still to be made, so a line of it is of an attempt that was cut off.
    While the disk is full, lines wait in memory, and training goes on."""

    def __init__(self, folder: Path, step: int, due: bool, accelerator: Accelerator, console: Console):
        self.folder, self.accelerator, self.console = folder, accelerator, console
        self.waiting = b""
        self.file: io.FileIO | None = None
        self.full = False
        self.main = accelerator.is_main_process
        if self.main:
            found, lost = read_lines(folder)
            if lost:
                are = "is" if lost == 1 else "are"
                console.warn(f"{folder / METRICS}: {count(lost, 'line')} that no run writes {are} left out")
            before = [record for record in found if record["step"] <= step]
            kept = [record for record in before if not (due and record["step"] == step and record["kind"] == "val")]
            self.begun = "".join(map(_line, kept))
            self._write("")

    @staticmethod
    def read(folder: Path) -> list[dict[str, Any]]:
        """All whole lines of a run; one cut off by a kill, or that no run wrote, is passed over."""
        return read_lines(folder)[0]

    def add(self, kind: str, step: int, epoch: float, values: Mapping[str, float], **speed: float) -> None:
        if not self.main:
            return
        record = {"step": step, "epoch": round(epoch, 6), "kind": kind, **values}
        record |= {name: round(value, 2) for name, value in speed.items()}
        self._write(_line(record))
        named = {f"{kind}/{name}": value for name, value in values.items()}
        _each_tracker(self.accelerator, self.console, f"at step {step}", lambda one: one.log(named, step=step))
        plugins.tell("visiontl_logged", self.console.warn, step=step, values=named)

    def _write(self, line: str) -> None:
        self.waiting += line.encode()
        try:
            self.flush()
            self.full = False
        except OSError as error:
            if not self.full:
                self.full = True
                self.console.warn(f"{self.folder / METRICS} cannot be written ({error}); its lines wait in memory")

    def flush(self) -> None:
        """Write what waits. Raises OSError while that cannot be done."""
        if self.file is None:
            write_text(self.folder / METRICS, self.begun)
            self.file = io.FileIO(self.folder / METRICS, "ab")
        while self.waiting:
            self.waiting = self.waiting[self.file.write(self.waiting) :]

    def close(self) -> None:
        """Close the file and write the same numbers as a table for spreadsheets. Raises CheckpointError where the disk
        refuses: the run is then whole up to here, and its end is made again when it goes on."""
        if not self.main:
            return
        with writing(self.folder, f"all weights are kept: make room, then {resume_command(self.folder)}"):
            self.flush()
            assert self.file is not None
            self.file.close()
            self._write_table()

    def _write_table(self) -> None:
        records = self.read(self.folder)
        columns = list(dict.fromkeys(key for record in records for key in record))
        table = io.StringIO()
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        write_text(self.folder / "metrics.csv", table.getvalue())


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(json_value(record, METRICS), allow_nan=False) + "\n"


def start_trackers(accelerator: Accelerator, console: Console, folder: Path, resolved: Resolved) -> None:
    """Start the trackers asked for (see check_trackers) and tell watchers what begins, on the main process."""
    settings = flat_config(resolved)
    if resolved.config.run.trackers:
        accelerator.project_configuration.logging_dir = str(folder)
        _init_trackers(accelerator, console, settings)
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


def _init_trackers(accelerator: Accelerator, console: Console, settings: Mapping[str, Any]) -> None:
    """Each tracker by itself, so that one that fails (no network, no account) takes no other with it."""
    kinds, begun = list(accelerator.log_with), []
    for kind in kinds:
        accelerator.log_with = [kind]
        try:
            accelerator.init_trackers("visiontl", config=dict(settings))
            begun += accelerator.trackers
        except (Exception, SystemExit) as error:  # a stranger's code
            name = getattr(kind, "value", None) or getattr(kind, "name", kind)
            left = f"{len(begun)} of {len(kinds)} trackers started so far"
            console.warn(
                f"tracker {name} could not be started and is left out; training goes on ({left}): {_why(error)}"
            )
    accelerator.log_with, accelerator.trackers = kinds, begun


def _each_tracker(accelerator: Accelerator, console: Console, when: str, call: Callable[[Any], None]) -> None:
    """Call each tracker; one that fails is named and left out from then on."""
    for tracker in list(accelerator.trackers):
        try:
            call(tracker)
        except (Exception, SystemExit) as error:  # a stranger's code
            accelerator.trackers = [one for one in accelerator.trackers if one is not tracker]
            left = f"{len(accelerator.trackers)} {plural(len(accelerator.trackers), 'tracker')} left"
            console.warn(
                f"tracker {tracker.name} failed {when} and is left out from here; training goes on ({left}): "
                f"{_why(error)}"
            )


def finish_trackers(accelerator: Accelerator, console: Console) -> None:
    _each_tracker(accelerator, console, "at the end", lambda one: one.finish())


def _why(error: BaseException) -> str:
    return shortened(f"{type(error).__name__}: {error}", 200)


def check_trackers(names: Sequence[str]) -> None:
    available = [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]
    known = [kind.value for kind in LoggerType if kind.value != "all"]
    missing = [name for name in names if name not in available]
    if missing:
        install = missing[0] in known
        hint = "; install its package first" if install else did_you_mean(missing[0], known)
        raise ConfigError(f"run.trackers: {', '.join(missing)} cannot be used here{hint}")
