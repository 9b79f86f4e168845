"""The engine against a bare PyTorch loop: what a step costs more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.children import children
from benchmarks.harness import (
    BenchmarkError,
    Case,
    Lap,
    Options,
    Table,
    differences,
    gpu_name,
    loss_difference,
    measure,
    ratios,
    seconds,
)

ABOUT = """
visiontl's own training loop (`visiontl.engine.train.fit` on a run made by `set_up`, logging every 10 updates as by
default) against the loop that one writes by hand: DataLoader, autocast where the precision asks for it, zero_grad,
backward, fused AdamW, and no logging, no check for values that are not finite, no progress. Same model, same initial
weights, same pictures in memory in the same order; the losses of every step are compared. Each loop is a process;
they take turns of 10 steps, in rotating order. A round runs from one loss to the loss 10 steps later, so it holds
everything that a loop does per step; set-up, evaluation and checkpoints are outside. Ratios and differences are
medians over rounds, with quartiles. `bare again` is the control: what this machine cannot tell apart.
"""

STEPS = 10  # of a round: one logged line
FP32 = {"precision": "fp32", "channels_last": False}
DEFAULTS = {"precision": "auto", "channels_last": "auto"}
# name -> (common settings, rounds)
CPU_STEPS: dict[str, tuple[dict[str, Any], int]] = {
    "10 ms": ({"model": "timm/mobilenetv3_small_050", "batch": 2, "size": 64, **FP32}, 80),
    "50 ms": ({"model": "timm/mobilenetv2_050", "batch": 4, "size": 128, **FP32}, 40),
    "50 ms, defaults": ({"model": "timm/mobilenetv2_100", "batch": 4, "size": 128, **DEFAULTS}, 40),
    "300 ms": ({"model": "timm/resnet18", "batch": 8, "size": 160, **FP32}, 12),
}
GPU_STEPS: dict[str, tuple[dict[str, Any], int]] = {
    f"{model}, {'compiled' if compiled else 'eager'}": (
        {"model": f"timm/{model}", "batch": 64, "size": 224, "images": 256, "compile": compiled, **DEFAULTS},
        20,
    )
    for model in ("resnet50", "mobilenetv2_100", "vit_small_patch16_224")
    for compiled in (False, True)
}
QUICK = {"tiny": ({"model": "timm/mobilenetv3_small_050", "batch": 2, "size": 32, **FP32}, 2)}
LOOPS: dict[str, dict[str, Any]] = {
    "bare": {"loop": "bare"},
    "bare again": {"loop": "bare"},
    "engine": {"loop": "engine"},
}
OWN = "bare, the C library's allocator as Python finds it"


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.quick:
        yield "Overhead per step, sample", partial(compare, QUICK, LOOPS)
        return
    loops = {**LOOPS, OWN: {"loop": "bare", "own_allocator": True}}
    for name, case in CPU_STEPS.items():
        yield f"Steps of {name} on the CPU", partial(compare, {name: case}, loops)
    if gpu_name():
        yield "Overhead per step on the GPU", partial(compare, GPU_STEPS, LOOPS, gpu=True)


def compare(
    cases: Mapping[str, tuple[Mapping[str, Any], int]], loops: Mapping[str, Mapping[str, Any]], gpu: bool = False
) -> Table:
    """One row per kind of step and loop."""
    rows, values = [], {}
    for name, (common, rounds) in cases.items():
        settings = {"steps": STEPS, **common}
        with children(loops, settings, gpu) as found:
            laps = measure([Case(loop, child.lap) for loop, child in found.items()], rounds, warmup=2)
            precision = found["engine"].told["precision"]
        drift = check_losses(name, laps, exact=not gpu)
        model = f"{common['model'].partition('/')[2]}, {common['batch']} x {common['size']} px, {precision}"
        for loop, mine in laps.items():
            rows.append(row(name, model, loop, mine, laps["bare"], common["batch"], drift))
        values[name] = {loop: [lap.seconds / STEPS for lap in mine] for loop, mine in laps.items()}
    columns = ["step", "model", "loop", "ms per step", "images/s", "/ bare", "µs per step more than bare", "loss"]
    return Table(columns, rows, NOTES, values=values)


def row(name: str, model: str, loop: str, laps: list[Lap], bare: list[Lap], batch: int, drift: float) -> list[str]:
    each = seconds(laps)
    compared = ["1", "0"]
    if loop != "bare":
        compared = [ratios(laps, bare).text(4), differences(laps, bare).text(0, 1e6 / STEPS)]
    loss = "same bits" if drift == 0 else f"within {drift:.1e}"
    speed = f"{batch * STEPS / each.median:.1f}"
    return [name, model, loop, each.text(2, 1e3 / STEPS), speed, *compared, loss]


def check_losses(name: str, laps: Mapping[str, list[Lap]], exact: bool) -> float:
    """The largest relative difference. Raises BenchmarkError where the loops did not compute the same."""
    drift = loss_difference(laps, "bare")
    if drift > (0.0 if exact else 0.05):  # a GPU's sums may run in another order, and small differences grow
        raise BenchmarkError(f"{name}: losses differ by {drift:.2e} between the loops, so their times say nothing")
    return drift


NOTES = [
    "All loops but the one that says otherwise keep freed memory in the process, as visiontl does on the CPU "
    "(`visiontl.engine.cpu.keep_freed_memory`); the last row of each block is what a loop without it takes. Target: "
    "at most 1 % at 50 ms and at most 400 µs."
]
