"""Peers: visiontl against other ways to train the same network on the same photos.

    uv venv PEERS && uv pip install --python PEERS/bin/python -e . transformers lightning fastai
    VISIONTL_TEST_DATA=../shared PEERS/bin/python tools/benchmark.py peers --out docs/results

The peers are no dependencies of visiontl: an environment of their own holds them, and one that is not installed there
is listed as such. Everyone trains torchvision's MobileNetV2 with the same weights on the ants and bees of hymenoptera
(244 photos, 224 pixels, 16 in a batch), in one process on one thread; visiontl through its own engine. In the tables
of steps every framework is a process, and they take turns of a few steps, in rotating order.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks.harness import (
    ROOT,
    BenchmarkError,
    Case,
    Child,
    Lap,
    Options,
    Spread,
    Table,
    measure,
    ratios,
    seconds,
    spread,
    thread_variables,
)

PHOTOS = "classification/hymenoptera"
WEIGHTS = "mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth"
PEERS = {
    "timm": "timm's own loop",
    "transformers": "Hugging Face Trainer",
    "lightning": "Lightning",
    "fastai": "fastai",
}
BATCH = 16
TOLERANCE = 1e-4  # relative, of each step's loss
COMPARED = 20  # steps
CPU = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
# what visiontl.engine.cpu.keep_freed_memory sets, for every process: matched rows must not differ in their allocator
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0"}
ABOUT = __doc__ or ""


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.data is None or options.weights is None:
        raise BenchmarkError("the peers train on photos: give --data and --weights, or set VISIONTL_TEST_DATA")
    common = {
        "photos": str(options.data.resolve() / PHOTOS),
        "weights": str(options.weights.resolve() / WEIGHTS),
        "batch": BATCH,
        **({"size": 64} if options.quick else {}),
    }
    steps, rounds = (2, 2) if options.quick else (4, 5)
    yield "Peers, matched settings", partial(steps_table, {**common, "matched": True}, steps, rounds)
    yield (
        "Peers, matched settings, losses",
        partial(losses_table, {**common, "matched": True}, 2 if options.quick else COMPARED),
    )
    yield (
        "Peers, everyone's defaults, full fine-tuning",
        partial(steps_table, {**common, "matched": False}, steps, rounds),
    )
    epochs, times = (1, 1) if options.quick else (3, 2)
    whole = {**common, "matched": False, "probe": True, "epochs": epochs}
    yield "Peers, everyone's defaults, a whole linear probe", partial(whole_table, whole, times)


def steps_table(common: Mapping[str, Any], steps: int, rounds: int) -> Table:
    """Time per step. Matched: a row counts where each of the first losses is visiontl's."""
    matched, laps = common["matched"], laps_of(common, steps, rounds)
    rows, values = [], {}
    for name, mine in laps.items():
        apart = furthest(mine, laps["visiontl"]) if matched else None
        mean = sum(map(float.fromhex, mine[-1].losses)) / steps
        loss = f"{mean:.3f}" if apart is None else f"{apart:.1e}"
        if apart is not None and not apart <= TOLERANCE:
            rows.append([name, "refused: other losses", "", "", "", loss])
            continue
        speed = f"{steps * common['batch'] / seconds(mine).median:.1f}"
        per_step = seconds(mine).text(0, 1e3 / steps)
        slower = ratios(mine, laps["visiontl"])
        rows.append([name, per_step, speed, slower.text(2), processor(mine, laps["visiontl"]).text(2), loss])
        values[name] = slower.median
    rows += [[name, "not installed", "", "", "", ""] for name in absent()]
    last = "loss, furthest from visiontl's" if matched else "mean loss of the last round"
    return Table(
        ["framework", "ms per step", "images per second", "time / visiontl's", "CPU time / visiontl's", last],
        rows,
        [
            MATCHED.format(compared=min(COMPARED, rounds * steps)) if matched else DEFAULTS,
            f"{rounds} rounds of {steps} steps; medians and quartiles. CPU time: of the "
            f"training process, without its loader processes. {versions()}",
        ],
        values=values,
    )


def losses_table(common: Mapping[str, Any], steps: int) -> Table:
    """The loss of each step, framework beside framework."""
    laps = laps_of(common, steps, 1)
    curves = {name: [float.fromhex(text) for text in mine[0].losses] for name, mine in laps.items()}
    rows = [
        [step, *(f"{loss:.7f}" for loss in losses)] for step, losses in enumerate(zip(*curves.values(), strict=True))
    ]
    apart = max(furthest(mine, laps["visiontl"]) for mine in laps.values())
    note = f"The same settings as in the table of times; at most {apart:.1e} apart (relative). {versions()}"
    return Table(["step", *curves], rows, [note], values=curves)


def laps_of(common: Mapping[str, Any], steps: int, rounds: int) -> dict[str, list[Lap]]:
    """Each framework's rounds of so many steps, in turn."""
    environment = {**CPU, **(ALLOCATOR if common["matched"] else {})}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = {}
        for name, peer in present().items():
            found[name] = stack.enter_context(
                Child(name, command(peer, {**common, "steps": steps, "folder": folder}), 1, environment)
            )
            found[name].wait_until_ready()
        return measure([Case(name, child.lap) for name, child in found.items()], rounds, warmup=0)


def whole_table(common: Mapping[str, Any], times: int) -> Table:
    """Time of a whole training, from the start of the process to its end."""
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case(name, partial(whole, peer, {**common, "folder": folder})) for name, peer in present().items()]
        laps = measure(cases, times, warmup=0)
    rows: list[list[Any]] = []
    for name, mine in laps.items():
        rows.append([name, seconds(mine).text(1), ratios(mine, laps["visiontl"]).text(2)])
    rows += [[name, "not installed", ""] for name in absent()]
    note = f"{common['epochs']} epochs, from the start of the process to its end, imports included; {times} rounds."
    values = {name: ratios(mine, laps["visiontl"]).median for name, mine in laps.items()}
    return Table(["framework", "seconds", "time / visiontl's"], rows, [note, PROBE, versions()], values=values)


MATCHED = (
    "Full fine-tuning with the same initial weights, pixels, batches and order; fp32, contiguous, no augmentation, "
    "dropout or loader process, SGD of rate 1e-3 and momentum 0.9. The losses of the first {compared} steps must be "
    f"visiontl's to a relative {TOLERANCE:g}, or the row is refused. Every process has the allocator settings that "
    "visiontl chooses for itself (glibc keeps freed memory), so that the table compares loops and not allocators."
)
DEFAULTS = (
    "Full fine-tuning with what each framework or its tutorial sets: precision, memory layout, loader processes, "
    "augmentation and optimizer. visiontl: bf16 where the CPU multiplies in it, "
    "channels_last, freed memory kept, 2 loader processes; "
    "timm: its train.py's, 4 loader processes; Hugging Face and Lightning: none; fastai: one per CPU; all fp32. Loader "
    "processes read ahead while others have their turn. The losses are no comparison: each has its own augmentation "
    "and rate."
)
PROBE = (
    "The backbone is frozen as each framework's documentation does it: visiontl with its feature cache; timm's "
    "`freeze`; `requires_grad_(False)` with Hugging Face, which leaves batch norm statistics moving; Lightning's "
    "extractor in eval mode under no_grad; fastai's `freeze`, which leaves batch norm training. visiontl and fastai "
    "also score the validation photos in each epoch, visiontl writes checkpoints and a report; this is counted."
)


def present() -> dict[str, str]:
    """Row -> peer: visiontl, itself again as a control, and what is installed."""
    missing = absent()
    return {"visiontl": "visiontl", "visiontl again": "visiontl"} | {
        name: peer for peer, name in PEERS.items() if name not in missing
    }


def absent() -> list[str]:
    return [name for peer, name in PEERS.items() if version(peer) is None]


def version(peer: str) -> str | None:
    try:
        return importlib.metadata.version(peer)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> str:
    return "Versions: " + ", ".join(f"{peer} {version(peer)}" for peer in PEERS if version(peer)) + "."


def command(peer: str, spec: Mapping[str, Any]) -> list[str]:
    place = ROOT / "tools" / "benchmarks" / "peer_loops.py"
    return [sys.executable, str(place), json.dumps({**spec, "peer": peer})]


def whole(peer: str, spec: Mapping[str, Any]) -> float:
    environment = {**os.environ, **thread_variables(1), **CPU, "HF_HUB_OFFLINE": "1"}
    began = time.perf_counter()
    done = subprocess.run(command(peer, spec), cwd=spec["folder"], capture_output=True, text=True, env=environment)
    took = time.perf_counter() - began
    if done.returncode:
        raise BenchmarkError(f"{peer} ended with {done.returncode}: {done.stderr[-1000:]}")
    return took


def processor(mine: Sequence[Lap], reference: Sequence[Lap]) -> Spread:
    """CPU seconds of each lap / of the reference in the same round: what neighbors on the machine disturb less."""
    return spread(lap.cpu_seconds / other.cpu_seconds for lap, other in zip(mine, reference, strict=True))


def furthest(mine: Sequence[Lap], reference: Sequence[Lap]) -> float:
    """The largest relative difference of the first losses, in order. Infinite where some are missing or not finite."""
    ours, theirs = ([float.fromhex(text) for lap in laps for text in lap.losses] for laps in (mine, reference))
    if not ours or len(ours) != len(theirs):
        return float("inf")
    apart = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours[:COMPARED], theirs[:COMPARED], strict=True)]
    return max(value if value == value else float("inf") for value in apart)
