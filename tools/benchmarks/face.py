"""Training a face embedding against a bare PyTorch loop: steps a second on the CPU."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.children import CPU, wait
from benchmarks.engine import check_losses
from benchmarks.harness import ROOT, Case, Child, Options, Table, measure, ratios, seconds

ABOUT = """
visiontl's training loop with the face task (ArcFace on a 128-dimensional neck, 16 identities) against a loop written
by hand: the same network with the same initial weights, the same pictures in memory in the same order, cross entropy
on the same logits, zero_grad, backward, fused AdamW, no logging and no checks. The losses of every step are compared.
Each loop is a process; they take turns of 10 steps, in rotating order. Ratios are medians over rounds, with quartiles.
`bare again` is the control: what this machine cannot tell apart.
"""

STEPS = 10  # of a round: one logged line
FP32 = {"precision": "fp32", "channels_last": False, "steps": STEPS}
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "MobileNetV2 0.5": ({"model": "timm/mobilenetv2_050", "batch": 8, "size": 112, **FP32}, 30),
    "ResNet-18": ({"model": "timm/resnet18", "batch": 8, "size": 112, **FP32}, 16),
}
QUICK = {"tiny": ({"model": "timm/mobilenetv3_small_050", "batch": 4, "size": 32, **FP32}, 2)}
LOOPS = {"bare": "bare", "bare again": "bare", "engine": "engine"}


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    for name, case in (QUICK if options.quick else CASES).items():
        yield f"Face embedding on the CPU: {name}", partial(compare, name, *case)


def compare(name: str, common: Mapping[str, Any], rounds: int) -> Table:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = {}
        for loop, kind in LOOPS.items():
            told = json.dumps({"folder": folder, "loop": kind, **common})
            command = [sys.executable, str(ROOT / "tools/benchmarks/face_loops.py"), told]
            found[loop] = stack.enter_context(Child(loop, command, 1, CPU))
        wait(found)
        laps = measure([Case(loop, child.lap) for loop, child in found.items()], rounds, warmup=2)
    check_losses(name, laps, exact=True)
    rows = []
    for loop, mine in laps.items():
        each = seconds(mine)
        ratio = "1" if loop == "bare" else ratios(mine, laps["bare"]).text(4)
        rows.append([loop, each.text(2, 1e3 / STEPS), f"{STEPS / each.median:.2f}", ratio, "same bits"])
    columns = ["loop", "ms per step", "steps/s", "/ bare", "loss"]
    values = {loop: [lap.seconds / STEPS for lap in mine] for loop, mine in laps.items()}
    return Table(columns, rows, [f"{common['batch']} x {common['size']} px, fp32, 1 thread."], values=values)
