"""Peak memory of training, above a process that has everything in place and does not train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.children import children
from benchmarks.engine import DEFAULTS, FP32
from benchmarks.harness import Options, Table

ABOUT = """
Peak resident memory (VmHWM) of a fresh process per case, on the CPU. The *bare process* has imported everything, holds
the same model, optimizer and pictures, and stops before the first update; what a case adds is its peak above that
process's peak. `none` and `all` run the same batches.
"""

MODELS = {"mobilenetv2_100": 16, "resnet18": 16, "regnetx_004": 16}
CASES: dict[str, dict[str, Any]] = {
    "bare process": {"loop": "still"},
    "none": {"loop": "engine"},
    "first: 2 stages": {"loop": "engine", "policy": {"first": 2}},
    "all": {"loop": "engine", "policy": "all"},
    "bare loop, everything trains": {"loop": "bare"},
    "none, the C library's allocator as Python finds it": {"loop": "engine", "own_allocator": True},
    "none, defaults": {"loop": "engine", **DEFAULTS},
    "all, defaults": {"loop": "engine", "policy": "all", **DEFAULTS},
}


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.quick:
        common = {"model": "timm/mobilenetv3_small_050", "batch": 8, "size": 64}
        sample = {name: CASES[name] for name in ("bare process", "none", "all")}
        yield "Peak memory, sample", partial(compare, common, sample, 1)
        return
    for model, batch in MODELS.items():
        common = {"model": f"timm/{model}", "batch": batch, "size": 224}
        yield f"Peak memory, {model}, batch {batch}, 224 pixels", partial(compare, common, CASES, 3)


def compare(common: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]], steps: int) -> Table:
    settings = {**FP32, **common, "steps": steps}
    peaks = {}
    for name, spec in cases.items():
        with children({name: spec}, settings) as found:
            child = found[name]
            peaks[name] = child.peak_bytes if spec["loop"] == "still" else child.lap().peak_bytes
    floor = peaks["bare process"]
    added = {name: (peak - floor) / 2**20 for name, peak in peaks.items()}
    rows = [
        [name, f"{peak / 2**20:.0f}", f"{added[name]:.0f}", f"{added[name] / max(added['none'], 1e-9):.2f}"]
        for name, peak in peaks.items()
    ]
    note = f"Peaks are read after 1 + {steps} updates. Target: `all` adds less than half of what `none` adds."
    return Table(["case", "peak, MiB", "added, MiB", "added / added by `none`"], rows, [note], values={"bytes": peaks})
