"""How long one waits: for help, for a config error, for the first update."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import ROOT, BenchmarkError, Case, Lap, Options, Table, measure, ratios, seconds

ABOUT = """
Fresh processes, with everything in the page cache: from the start of the process to its end, and for training to the
first line in the run's `metrics.jsonl`, which is written when the first update is done. `import torch` is what any tool
on PyTorch pays before it can do anything. Processor seconds are of all threads, and disturbed less by other work.
"""

CONFIG = "configs/classification/quickstart.yaml"
# the bundled network trains from random weights on pictures of 64 px, so that waiting is measured and not its work
TINY = ["task.data=example", "backbone.name=visiontl/tiny", "backbone.weights=none", "freeze.policy=none"]
REFERENCE = "python -c 'import torch'"


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    yield "Start", partial(compare, 1 if options.quick else 7)


def compare(rounds: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            Case(REFERENCE, partial(whole, [sys.executable, "-c", "import torch"], 0)),
            Case("the same again", partial(whole, [sys.executable, "-c", "import torch"], 0)),
            Case("visiontl --help", partial(whole, [*VISIONTL, "--help"], 0)),
            Case("visiontl train, a config error", partial(whole, [*VISIONTL, "train", CONFIG, "train.epoch=3"], 2)),
            Case(f"visiontl train {CONFIG}, to the first update", partial(first_update, Path(folder))),
        ]
        laps = measure(cases, rounds)
    spent = {name: [Lap(lap.cpu_seconds) for lap in mine] for name, mine in laps.items()}
    rows = [
        [name, *(text for each in (laps, spent) for text in (seconds(each[name]).text(2), against(each, name)))]
        for name in laps
    ]
    values = {name: [[lap.seconds, lap.cpu_seconds] for lap in mine] for name, mine in laps.items()}
    note = "The example data are drawn before the clock starts. Median and quartiles."
    columns = ["process", "seconds", "/ `import torch`", "processor s", "/ `import torch`"]
    return Table(columns, rows, [note], values=values)


def against(laps: Mapping[str, Sequence[Lap]], name: str) -> str:
    return ratios(laps[name], laps[REFERENCE]).text(2)


VISIONTL = [sys.executable, "-c", "import sys; from visiontl.cli import main; sys.exit(main())"]
ENVIRONMENT = {**os.environ, "ACCELERATE_USE_CPU": "true"}


def processor() -> float:
    """Seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def whole(command: Sequence[str], status: int) -> Lap:
    began, before = time.perf_counter(), processor()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
    took = Lap(time.perf_counter() - began, cpu_seconds=processor() - before)
    if done.returncode != status:
        raise BenchmarkError(f"{command} ended with {done.returncode}, not {status}: {done.stderr[-500:]}")
    return took


def first_update(folder: Path) -> Lap:
    """Until a run has logged its first update; the run is then stopped."""
    name = f"run-{time.time_ns()}"
    lines = folder / name / "metrics.jsonl"
    overrides = [*TINY, f"run.folder={folder}", f"run.name={name}", "train.log_every=1"]
    began, before = time.perf_counter(), processor()
    with (folder / f"{name}.txt").open("w") as said:
        run = subprocess.Popen(
            [*VISIONTL, "train", CONFIG, *overrides], cwd=ROOT, stdout=said, stderr=said, env=ENVIRONMENT
        )
        try:
            while not (lines.exists() and lines.stat().st_size):
                if run.poll() is not None:
                    raise BenchmarkError(f"the run ended early: {Path(said.name).read_text()[-1000:]}")
                time.sleep(0.002)
            took = time.perf_counter() - began
        finally:
            run.kill()
            run.wait()
    return Lap(took, cpu_seconds=processor() - before)
