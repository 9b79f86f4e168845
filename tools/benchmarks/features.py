"""Features on disk: a frozen run with and without them, beside other ways to train the same head on the same photos.

    uv venv PEERS && uv pip install --python PEERS/bin/python -e . transformers lightning fastai scikit-learn
    VISIONTL_TEST_DATA=../shared PEERS/bin/python tools/benchmark.py features --out docs/results

Everyone trains a head on torchvision's MobileNetV2, frozen, on the ants and bees of hymenoptera (244 photos to train on
and 153 to validate, 224 pixels), one process on one thread, fp32. Batches hold 61 photos, so that none is smaller and
the weights of visiontl's runs can be compared to the bit. Processor seconds of whole processes, imports and reports
included: neighbors on the machine disturb them less than wall time. Ratios are within one round.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.harness import ROOT, BenchmarkError, Options, Table, thread_variables
from benchmarks.peers import CPU, PEERS, PHOTOS, WEIGHTS, absent, command, versions

BATCH, EPOCHS, LONG = 61, 30, 330
ABOUT = __doc__ or ""


@dataclass(frozen=True)
class Took:
    """A process: processor seconds, peak memory in MiB, what it told in its last line."""

    cpu: float
    peak: float
    told: Mapping[str, Any]


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    if options.data is None or options.weights is None:
        raise BenchmarkError("the runs need photos and weights: give --data and --weights, or set VISIONTL_TEST_DATA")
    spec = {
        "photos": str(options.data.resolve() / PHOTOS),
        "weights": str(options.weights.resolve() / WEIGHTS),
        "batch": BATCH,
        "size": 64 if options.quick else 224,
    }
    yield "A frozen run", partial(whole_table, spec, 2 if options.quick else EPOCHS, not options.quick)
    yield "An epoch and an update", partial(epoch_table, spec, 20 if options.quick else LONG)
    yield "Many heads at once", partial(heads_table, spec, 2 if options.quick else 60)


def process(words: list[str], folder: str) -> Took:
    environment = {**os.environ, **thread_variables(1), **CPU, "HF_HUB_OFFLINE": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise BenchmarkError(f"{words[-1]} ended with {done.returncode}: {done.stderr[-1000:]}")
    line = next((line for line in reversed(done.stdout.splitlines()) if line.startswith('{"')), "{}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(line)
    return Took(cpu, float(told.get("peak", 0.0)), told)


def child(spec: Mapping[str, Any], folder: str, **more: Any) -> Took:
    place = ROOT / "tools" / "benchmarks" / "feature_loops.py"
    return process([sys.executable, str(place), json.dumps({**spec, "folder": folder, **more})], folder)


def whole_table(spec: Mapping[str, Any], epochs: int, with_peers: bool) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        run = partial(child, spec, folder, loop="run")
        fresh = run(cache="disk", epochs=epochs)
        one, two = run(cache="off", epochs=1), run(cache="off", epochs=2)
        found = {
            "visiontl, features.cache: off, by one and two epochs": Took(later(one, two, epochs), two.peak, two.told),
            "visiontl, a new store": fresh,
            "visiontl, the same store again": run(cache="disk", epochs=epochs),
            "scikit-learn: features once, logistic regression": child(spec, folder, loop="scikit", epochs=0),
            "visiontl, the same store, a third time": run(cache="disk", epochs=epochs),
            "visiontl, the same store, two epochs": run(cache="disk", epochs=2),
        }
        heads = [took.told["head"] for name, took in found.items() if "head" in took.told]
        if len({heads[0], heads[-1]}) > 1 or len(set(heads[1:-1])) > 1:
            raise BenchmarkError(f"the heads differ: {heads}")
        for peer, name in PEERS.items() if with_peers else ():
            if name not in absent():
                found[f"{name}, by one and two epochs"] = by_two(peer, spec, folder, epochs)
    reference = found["visiontl, a new store"].cpu
    rows = [
        [name, f"{took.cpu:.1f}", f"{took.cpu / reference:.2f}", f"{took.peak:.0f}" if took.peak else "", head(took)]
        for name, took in found.items()
    ]
    notes = [
        f"{epochs} epochs, each scored on the validation photos by visiontl (and by fastai), not by the others. "
        "Where it says so, the seconds are those of a run of one epoch and of as many more as the difference to one of "
        "two epochs says, for epochs on photos cost the same each time.",
        "head: the first digits of the SHA-256 over the trained weights. Two epochs on photos and on stored features "
        "end with the same bits, and so do thirty on a new store and on one that was there.",
        versions() if with_peers else "",
    ]
    return Table(["what", "processor s", "/ a new store", "peak MiB", "head"], rows, [note for note in notes if note])


def head(took: Took) -> str:
    return str(took.told.get("head", ""))[:12]


def by_two(peer: str, spec: Mapping[str, Any], folder: str, epochs: int) -> Took:
    one, two = (
        process(command(peer, {**spec, "folder": folder, "matched": False, "probe": True, "epochs": number}), folder)
        for number in (1, 2)
    )
    return Took(later(one, two, epochs), 0.0, {})


def later(one: Took, two: Took, epochs: int) -> float:
    """Processor seconds of so many epochs, by those of one and of two."""
    return one.cpu + (epochs - 1) * (two.cpu - one.cpu)


def epoch_table(spec: Mapping[str, Any], epochs: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        run = partial(child, spec, folder, loop="run")
        one, two = run(cache="off", epochs=1), run(cache="off", epochs=2)
        run(cache="disk", epochs=1)
        short, long = run(cache="disk", epochs=epochs // 10), run(cache="disk", epochs=epochs)
        updates = child(spec, folder, loop="updates", epochs=epochs, cache="disk", batch=32).told
    plain = two.cpu - one.cpu
    warm = (long.cpu - short.cpu) / (epochs - epochs // 10)
    rows = [
        ["an epoch on photos, val scored", f"{plain * 1000:.0f}", f"{plain / warm:.0f}"],
        ["an epoch on stored features, val scored", f"{warm * 1000:.1f}", "1"],
        ["an update of 32 on stored features, the engine", f"{updates['engine']:.3f}", f"{updates['ratio']:.2f}"],
        ["an update of 32 on the same tensors, a bare loop", f"{updates['bare']:.3f}", "1"],
    ]
    notes = [
        "Milliseconds of the processor. An epoch: the difference between runs of 1 and 2, and of "
        f"{epochs // 10} and {epochs} epochs, without what a run takes besides; with metrics, scores, checkpoints. "
        "An update: the median of five turns "
        "of both loops in one process, without evaluation; the bare loop draws an order, indexes two tensors, and runs "
        "linear layer, cross entropy, zero_grad, backward and a fused AdamW.",
    ]
    return Table(["what", "ms", "ratio"], rows, notes)


def heads_table(spec: Mapping[str, Any], epochs: int) -> Table:
    with tempfile.TemporaryDirectory() as folder:
        told = child(spec, folder, loop="heads", epochs=epochs, cache="disk", batch=32).told
    names = {
        "bare": "one head, a bare loop",
        "one": "one head, visiontl sweep --heads 1",
        "ten": "ten heads at once",
        "fifty": "fifty heads at once",
    }
    rows = [[name, f"{told[key]:.3f}", f"{told[f'{key} / bare']:.2f}"] for key, name in names.items()]
    notes = [
        "Milliseconds of the processor an update of 32 of 244 photos, 1,280 features, two classes: the median of five "
        f"turns of {epochs} epochs; the ratio is the median of the turns' own."
    ]
    return Table(["what", "ms", "/ a bare loop"], rows, notes)
