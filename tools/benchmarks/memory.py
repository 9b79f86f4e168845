"""Peak memory of training, above a process that has everything in place and does not train."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.children import children
from benchmarks.engine import DEFAULTS, FP32
from benchmarks.harness import ROOT, BenchmarkError, Options, Table, thread_variables
from benchmarks.peers import PHOTOS

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
    if options.data is not None:
        names = RANKED[:3] if options.quick else RANKED
        yield f"Ranking {len(names)} backbones", partial(ranked, options.data, names, 20 if options.quick else 64)
    if options.quick:
        common = {"model": "timm/mobilenetv3_small_050", "batch": 8, "size": 64}
        sample = {name: CASES[name] for name in ("bare process", "none", "all")}
        yield "Peak memory, sample", partial(compare, common, sample, 1)
        return
    for model, batch in MODELS.items():
        common = {"model": f"timm/{model}", "batch": batch, "size": 224}
        yield f"Peak memory, {model}, batch {batch}, 224 pixels", partial(compare, common, CASES, 3)


# the first needs the most, so that a peak which grows after it is of what was not let go
RANKED = (
    "timm/mobilenetv2_100", "timm/resnet14t", "timm/resnet18", "timm/resnet18d", "timm/mobilenetv3_small_050",
    "timm/mobilenetv3_small_100", "timm/lcnet_050", "timm/lcnet_100", "timm/tinynet_e", "timm/tinynet_d",
    "timm/mnasnet_small", "timm/regnetx_002", "timm/regnety_002", "timm/resnet10t", "timm/mobilenetv2_050",
    "timm/efficientnet_lite0", "timm/ghostnet_100", "timm/semnasnet_075", "timm/mobilevit_xxs",
    "torchvision/squeezenet1_1",
)  # fmt: skip


def ranked(data: Path, names: Sequence[str], images: int) -> Table:
    """What one process holds that ranks these backbones, with random weights."""
    config = {
        "task": {"name": "classification", "data": str(data.resolve() / PHOTOS), "augment": "none"},
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
        "features": {"cache": "off"},
        "loader": {"workers": 0},
    }
    spec = {"config": config, "backbones": names, "images": images}
    place = ROOT / "tools" / "benchmarks" / "ranked_memory.py"
    environment = {**os.environ, **thread_variables(1), "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, str(place), json.dumps(spec)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise BenchmarkError(f"ranking ended with {done.returncode}: {done.stderr[-1000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    shown = range(len(names)) if len(names) < 4 else (0, *range(3, len(names), 4))
    rows = []
    for i in shown:
        mebibytes = [f"{told[part][i][number] / 2**20:.0f}" for number in (2, 3) for part in ("cost", "features")]
        rows.append([i + 1, names[i], f"{told['cost'][i][1] / 1e6:.1f}", *mebibytes])
    columns = ["backbones so far", "the last one", "parameters, M"]
    columns += [f"{word}, MiB, after its {part}" for word in ("held", "peak") for part in ("cost", "features")]
    note = (
        f"{images} photos at 224 pixels. All backbones are first built for their size and time, then once more, in the "
        "same order, for their features. Memory is read when a backbone was let go of."
    )
    return Table(columns, rows, [note], values=told)


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
