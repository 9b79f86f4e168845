"""How long one waits: for help, for a config error, for the first update."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import ROOT, BenchmarkError, Case, Options, Table, measure, ratios, seconds

ABOUT = """
Wall time of fresh processes, with everything in the page cache: from the start of the process to its end, and for
training to the first line in the run's `metrics.jsonl`, which is written when the first update is done. `import torch`
is what any tool on PyTorch pays before it can do anything.
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
    rows = [[name, seconds(mine).text(2), ratios(mine, laps[REFERENCE]).text(2)] for name, mine in laps.items()]
    values = {name: [lap.seconds for lap in mine] for name, mine in laps.items()}
    note = "The example data are drawn before the clock starts. Median and quartiles."
    return Table(["process", "seconds", "/ `import torch`"], rows, [note], values=values)


VISIONTL = [sys.executable, "-c", "import sys; from visiontl.cli import main; sys.exit(main())"]
ENVIRONMENT = {**os.environ, "ACCELERATE_USE_CPU": "true"}


def whole(command: Sequence[str], status: int) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
    took = time.perf_counter() - began
    if done.returncode != status:
        raise BenchmarkError(f"{command} ended with {done.returncode}, not {status}: {done.stderr[-500:]}")
    return took


def first_update(folder: Path) -> float:
    """Seconds until a run has logged its first update; the run is then stopped."""
    name = f"run-{time.time_ns()}"
    lines = folder / name / "metrics.jsonl"
    overrides = [*TINY, f"run.folder={folder}", f"run.name={name}", "train.log_every=1"]
    began = time.perf_counter()
    with (folder / f"{name}.txt").open("w") as said:
        run = subprocess.Popen(
            [*VISIONTL, "train", CONFIG, *overrides], cwd=ROOT, stdout=said, stderr=said, env=ENVIRONMENT
        )
        try:
            while not (lines.exists() and lines.stat().st_size):
                if run.poll() is not None:
                    raise BenchmarkError(f"the run ended early: {Path(said.name).read_text()[-1000:]}")
                time.sleep(0.002)
            return time.perf_counter() - began
        finally:
            run.kill()
            run.wait()
