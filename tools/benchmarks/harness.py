"""Measuring several things side by side: rotating order, ratios per round, a control, tables with date and hardware.

A *case* is a callable that runs one timed round and returns its seconds, or a `Lap` (seconds and the losses of the
round). `measure` runs all cases once per round, in an order that rotates and turns round, and compares each with
the reference *within* the round, so that a machine that is busy for a while slows both. What a table shows is the
median of these ratios with its quartiles. The reference is there twice, under two names: where the second one's
ratio is not 1, the difference is what this machine cannot tell apart.

Two kinds of cases:

    Case("peer", lambda: seconds_of_one_process(...))              # anything that takes a while by itself
    with Child("engine", [sys.executable, "child.py", ...]) as child:
        Case("engine", child.lap)                                  # a loop that waits for its turn, see rounds.py

A section is a module with `tables(options) -> iterable of (title, callable -> Table)`; `run_section` measures the
tables that its .jsonl does not have yet and writes them all to .md. A table:

    laps = measure([Case("bare", a), Case("bare again", b), Case("engine", c)], rounds=20, warmup=2)
    return Table(["loop", "ms per step"], [[name, ...] for name, found in laps.items()], notes=["..."])
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = ("visiontl", "torch", "torchvision", "timm", "accelerate")
ROOT = Path(__file__).resolve().parents[2]


class BenchmarkError(Exception):
    """A case that broke, or cases that do not compute the same."""


@dataclass(frozen=True)
class Options:
    """What the command line says. quick: seconds instead of minutes, for tests; the numbers then mean nothing.

    data, weights: folders of real photos and weights, for sections that use them; None where absent.
    """

    quick: bool = False
    data: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Lap:
    """One round of one case. losses: of its steps, as float.hex() text; cpu_seconds: of its process, all threads
    together, which does not count what other programs took; both where the case tells."""

    seconds: float
    losses: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    peak_bytes: int = 0  # of the process so far


@dataclass(frozen=True)
class Case:
    name: str
    lap: Callable[[], Lap | float]


@dataclass(frozen=True)
class Table:
    """title is set by run_section. notes: sentences below the table: what was compared, how, and what it means."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()
    title: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # raw numbers, for the .jsonl


def order_of(count: int, number: int) -> list[int]:
    """The order of `count` cases in round `number`: each is first in turn, with either neighbor before it."""
    order = [(i + number // 2) % count for i in range(count)]
    return order[::-1] if number % 2 else order


def measure(cases: Sequence[Case], rounds: int, warmup: int = 1) -> dict[str, list[Lap]]:
    """name -> its laps, one per round; the first `warmup` rounds are run and left out."""
    laps: dict[str, list[Lap]] = {case.name: [] for case in cases}
    assert len(laps) == len(cases), "two cases have the same name"
    for number in range(warmup + rounds):
        for index in order_of(len(cases), number):
            found = cases[index].lap()
            lap = found if isinstance(found, Lap) else Lap(float(found))
            if number >= warmup:
                laps[cases[index].name].append(lap)
    return laps


@dataclass(frozen=True)
class Spread:
    """Median and quartiles."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 3, scale: float = 1.0) -> str:
        """'1.002 [0.998, 1.005]'"""
        low, middle, high = (f"{value * scale:.{digits}f}" for value in (self.low, self.median, self.high))
        return f"{middle} [{low}, {high}]"


def spread(values: Iterable[float]) -> Spread:
    values = list(values)
    if len(values) < 2:
        return Spread(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(middle, low, high)


def seconds(laps: Sequence[Lap]) -> Spread:
    return spread(lap.seconds for lap in laps)


def ratios(laps: Sequence[Lap], reference: Sequence[Lap]) -> Spread:
    """Seconds of each lap / seconds of the reference in the same round: above 1 is slower."""
    return spread(mine.seconds / other.seconds for mine, other in zip(laps, reference, strict=True))


def differences(laps: Sequence[Lap], reference: Sequence[Lap]) -> Spread:
    """Seconds of each lap - seconds of the reference in the same round."""
    return spread(mine.seconds - other.seconds for mine, other in zip(laps, reference, strict=True))


def loss_difference(laps: Mapping[str, Sequence[Lap]], reference: str) -> float:
    """The largest relative difference between the losses of any case and the reference's; 0 means the same bits."""
    largest = 0.0
    for name, found in laps.items():
        for mine, other in zip(found, laps[reference], strict=True):
            if len(mine.losses) != len(other.losses):
                raise BenchmarkError(
                    f"{name} told {len(mine.losses)} losses in a round, {reference} {len(other.losses)}"
                )
            for one, two in zip(map(float.fromhex, mine.losses), map(float.fromhex, other.losses), strict=True):
                largest = max(largest, abs(one - two) / max(abs(two), 1e-12)) if one != two else largest
    return largest


class Child(AbstractContextManager):
    """A process that runs a loop in rounds (see rounds.py). Started at once, ready when the first lap begins.

    It gets OMP_NUM_THREADS and MKL_NUM_THREADS, no network for Hugging Face, and writes its messages to a file that
    is shown where it breaks. told: what it said with `say("told", {...})` before its first round.
    """

    def __init__(self, name: str, command: Sequence[str], threads: int = 1, env: Mapping[str, str] | None = None):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (lives as long as the child)
        self.told: dict[str, Any] = {}
        self.ready = False
        self.peak_bytes = 0  # when it became ready
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **thread_variables(threads), "HF_HUB_OFFLINE": "1", **(env or {})},
        )

    def lap(self) -> Lap:
        self.wait_until_ready()
        answer = self._ask()
        more = {key: answer[key] for key in ("cpu_seconds", "peak_bytes") if key in answer}
        return Lap(answer["seconds"], tuple(answer.get("losses", ())), **more)

    def wait_until_ready(self) -> None:
        """Set-up and first step are done; to be called for all children before the first is timed."""
        if not self.ready:
            self.peak_bytes = self._read().get("peak_bytes", 0)
            self.ready = True

    def _ask(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        last = []
        for line in self.process.stdout:
            if line.startswith("@told "):
                self.told |= json.loads(line[6:])
            elif line.startswith("@round "):
                return json.loads(line[7:])
            elif line.strip():
                last = [*last[-15:], line]
        self.process.wait()
        self.errors.seek(0)
        tail = self.errors.read()[-3000:]
        raise BenchmarkError(f"{self.name} ended with {self.process.returncode}:\n{''.join(last)}\n{tail}")

    def __exit__(self, *_: Any) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                stream.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def thread_variables(threads: int) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def machine() -> dict[str, Any]:
    """Hardware, versions, date and command of this run."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu_name(),
        "cpus": usable,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu_name(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "tools/benchmark.py", *sys.argv[1:]]),
        "load": round(psutil.getloadavg()[0], 2),
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        flags = next((line for line in lines if line.startswith("flags")), "").split()
    except OSError:
        return platform.processor() or platform.machine()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{names[0] if names else platform.machine()} ({', '.join(known)})" if known else names[0]


def gpu_name() -> str | None:
    """Asked of the driver's tool, so that the parent holds no context on the GPU."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout.strip() else None


def describe(where: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    gpu = f", {where['gpu']}" if where["gpu"] else ", no GPU"
    return (
        f"{where['cpu']}, {where['cpus']} CPUs used, {where['memory_gib']} GiB{gpu}; {where['system']}, "
        f"Python {where['python']}, {versions}; load {where['load']} when the table began; {where['date']}."
    )


def markdown(table: Mapping[str, Any]) -> str:
    """A record of the .jsonl -> a heading, the table and its notes."""
    lines = [f"## {table['title']}", "", "| " + " | ".join(table["columns"]) + " |"]
    lines.append("| " + " | ".join("---" for _ in table["columns"]) + " |")
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table["rows"]]
    lines += ["", *table["notes"], "", describe(table["where"]), "", f"Command: `{table['where']['command']}`", ""]
    return "\n".join(lines)


def run_section(
    name: str, about: str, tables: Iterable[tuple[str, Callable[[], Table]]], out: Path | None
) -> list[dict[str, Any]]:
    """Measure the tables of a section, print them, and return their records.

    about: the section's introduction. out: a folder for benchmark_NAME.md and .jsonl; tables that the .jsonl holds
    already are not measured again (remove it, or a line of it, to do so). None: nothing is written.
    """
    log = out / f"benchmark_{name}.jsonl" if out else None
    records = []
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    done = {record["title"] for record in records}
    for title, make in tables:
        if title in done:
            print(f"{title}: measured before, see {log}")
            continue
        where = machine()
        record = {**asdict(make()), "title": title, "where": where}
        records.append(record)
        print("\n" + markdown(record), flush=True)
        if log:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            text = "\n".join([f"# Benchmark: {name}", "", about.strip(), "", *map(markdown, records)])
            log.with_suffix(".md").write_text(text, encoding="utf-8")
    return records
