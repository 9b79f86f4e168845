"""Inputs read in forked processes, one after the other: crashes, hangs, too much time or memory are recorded."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.campaigns.fuzzing.mutations import mutate
from tools.campaigns.fuzzing.readers import Disagreement, Reader, Unforeseen
from visiontl.errors import VisionTLError, clean

SECONDS = 2.0  # of a processor, for one input; of a command, beyond what it takes with nothing changed
BYTES = 500 << 20  # of memory that an input may add
ROOM = 3 << 30  # bytes of addresses that a process may add before it is refused any
PATIENCE = 60.0  # seconds by the clock until an input counts as hanging
LINES, COLUMNS = 12, 2000  # of what is said of an input
SPAM = 20_000  # characters that reading may print


@dataclass(frozen=True)
class Verdict:
    """What came of one input. kind: "read", "refused", or what went wrong, with its place. said: in words."""

    reader: str
    number: int
    file: str
    kind: str
    said: str
    seconds: float
    bytes: int

    @property
    def failed(self) -> bool:
        return self.kind not in ("read", "refused")


class Place:
    """A valid folder of a reader, and a copy of it in which one file at a time is another."""

    def __init__(self, reader: Reader, folder: Path):
        self.reader, self.whole, self.copy = reader, folder / "whole", folder / "copy"
        if not self.whole.exists():
            unfinished = folder / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            self._prepare(unfinished)
            unfinished.rename(self.whole)
        self.files = sorted({path.relative_to(self.whole) for one in reader.files for path in self.whole.glob(one)})
        self.files = [path for path in self.files if (self.whole / path).is_file()]
        if not self.files:
            raise FileNotFoundError(f"{reader.name}: {reader.files} are not in {self.whole}")
        self.restore()
        (self.copy / "CHANGED").write_text(str(self.files[0]))
        found = judged(reader, self.copy)  # what is imported at the first reading is no input's
        self.seconds = 0.0  # of a processor, that reading takes anyway
        if reader.whole:
            self.restore()
            (self.copy / "CHANGED").write_text(str(self.files[0]))
            began = time.process_time()
            judged(reader, self.copy)
            self.seconds = time.process_time() - began
        if found[0] != "read":
            raise AssertionError(f"{reader.name}: what nobody changed is not read: {found}")
        if reader.whole:
            self.restore()

    def _prepare(self, folder: Path) -> None:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            self.reader.prepare(folder)

    def restore(self) -> None:
        shutil.rmtree(self.copy, ignore_errors=True)
        shutil.copytree(self.whole, self.copy)

    def changed(self, dice: random.Random) -> tuple[Path, bytes]:
        file = dice.choice(self.files)
        return file, mutate(file.name, (self.whole / file).read_bytes(), dice)

    def read(self, file: Path, content: bytes) -> tuple[str, str]:
        """(kind, what was said) of reading the folder with that file changed."""
        (self.copy / "CHANGED").write_text(str(file))
        (self.copy / file).write_bytes(content)
        try:
            return judged(self.reader, self.copy)
        finally:
            if self.reader.whole:
                self.restore()
            else:
                (self.copy / file).write_bytes((self.whole / file).read_bytes())


def judged(reader: Reader, folder: Path) -> tuple[str, str]:
    """(kind, said): whether reading ends well, or in words that a person can use."""
    printed = StringIO()
    try:
        with redirect_stdout(printed), redirect_stderr(printed), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            warnings.simplefilter("ignore", DeprecationWarning)  # as Python has it
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            found = reader.read(folder)
    except VisionTLError as error:
        return wording(str(error), folder)
    except (Disagreement, Unforeseen) as error:
        return f"{type(error).__name__}{_place(str(error))}", str(error)[-600:]
    except (Exception, SystemExit) as error:  # what is looked for
        return f"{type(error).__name__} at {raised_at(error)}", str(error)[:600]
    if len(printed.getvalue()) > SPAM:
        return "prints too much", printed.getvalue()[:600]
    if warned:
        return f"warns: {warned[0].category.__name__}", str(warned[0].message)[:600]
    if not finite(found):
        return "gives what is not finite", ""
    return "read", ""


def _place(text: str) -> str:
    found = re.search(r"\((\w+\.py:\d+)\)", text)
    return f" at {found[1]}" if found else ""


def wording(text: str, folder: Path) -> tuple[str, str]:
    lines = clean(text).splitlines()
    shown = text.replace(str(folder), "HERE")
    if len(lines) > LINES or any(len(line) > COLUMNS for line in lines) or not text.strip():
        return "a wall of text", shown[:600]
    if "Traceback" in text or any(line.startswith("error: forged") for line in lines):
        return "forged", shown[:600]
    return "refused", shown[:600]


def raised_at(error: BaseException) -> str:
    """The last place of ours that an error went through."""
    ours = [one for one in traceback.extract_tb(error.__traceback__) if "visiontl" in one.filename]
    frames = ours or traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"


def finite(found: Any) -> bool:
    """Whether all numbers in a tree, an array or a tensor are."""
    if isinstance(found, torch.Tensor):
        return bool(torch.isfinite(found.float()).all()) if found.is_floating_point() else True
    if isinstance(found, np.ndarray):
        return bool(np.isfinite(found).all()) if found.dtype.kind in "fc" else True
    if isinstance(found, dict):
        return all(finite(one) for one in found.values())
    if isinstance(found, list | tuple):
        return all(finite(one) for one in found)
    return not isinstance(found, float) or bool(np.isfinite(found))


def attempt(place: Place, seed: int, number: int, keep: Path | None = None) -> Verdict:
    """Input `number` of a reader: a function of (seed, reader, number). keep: a folder for what failed."""
    file, content = place.changed(random.Random(f"{seed} {place.reader.name} {number}"))
    before, began = resident("VmRSS"), time.process_time()
    forget_peak()
    kind, said = place.read(file, content)
    seconds, added = time.process_time() - began, max(0, resident("VmHWM") - before)
    if kind in ("read", "refused"):
        kind = f"takes {seconds:.0f} s" if seconds > SECONDS + place.seconds else kind
        kind = f"takes {added >> 20} MB" if added > BYTES else kind
    verdict = Verdict(place.reader.name, number, str(file), kind, said, round(seconds, 3), added)
    if keep is not None and verdict.failed:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{place.reader.name}-{number}-{file.name}").write_bytes(content)
    return verdict


def forget_peak() -> None:
    with suppress(OSError):  # where it may not be done, the peak is that of all inputs
        Path("/proc/self/clear_refs").write_text("5")


def resident(key: str) -> int:
    """Bytes of a line of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{key}:\s+(\d+)", text)
    return int(found[1]) << 10 if found else 0


def verdicts(place: Place, seed: int, numbers: range, keep: Path) -> Iterator[Verdict]:
    """Of each input, in a process that is forked anew after one that ended or hung."""
    left = numbers
    while len(left):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _serve(place, seed, left, keep, writing)
        os.close(writing)
        done = 0
        for verdict in _answers(reading):
            done += 1
            yield verdict
        os.close(reading)
        end = ended(child)
        left = left[done:]
        if len(left):
            file, content = place.changed(random.Random(f"{seed} {place.reader.name} {left[0]}"))
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{place.reader.name}-{left[0]}-{file.name}").write_bytes(content)
            yield Verdict(place.reader.name, left[0], str(file), end, "", 0.0, 0)
            left = left[1:]
            place.restore()


def ended(child: int) -> str:
    """How a child that says no more has ended; one that has not is ended."""
    for _ in range(20):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return f"the process ended ({os.waitstatus_to_exitcode(status)})"
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return f"hangs for {PATIENCE:.0f} s"


def _answers(pipe: int) -> Iterator[Verdict]:
    """What a child writes, until it ends or says nothing for too long."""
    kept = b""
    while select.select([pipe], [], [], PATIENCE)[0]:
        more = os.read(pipe, 1 << 16)
        if not more:
            return
        *lines, kept = (kept + more).split(b"\n")
        for line in lines:
            yield Verdict(**json.loads(line))


def _serve(place: Place, seed: int, numbers: range, keep: Path, pipe: int) -> None:
    """The child: answers to each input, and never returns."""
    try:
        limit = resident("VmSize") + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for number in numbers:
            line = json.dumps(asdict(attempt(place, seed, number, keep))).encode() + b"\n"
            while line:
                line = line[os.write(pipe, line) :]
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(9)
