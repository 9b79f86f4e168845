"""Segmentation: the engine against a bare loop with the library's own model, and the cost of scores at full size."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from benchmarks.children import CPU, wait
from benchmarks.harness import (
    ROOT,
    BenchmarkError,
    Case,
    Child,
    Lap,
    Options,
    Table,
    differences,
    loss_difference,
    measure,
    ratios,
    seconds,
)
from torch import Tensor
from torch.nn import functional

ABOUT = """
Steps: `visiontl.engine.train.fit` on a segmentation run, against the loop that one writes by hand around
segmentation-models-pytorch's model with its own encoder: the same decoder, the same weights to begin with (moved
over), the same pictures and masks in memory in the same order, normalization on the device, cross-entropy, fused
AdamW, the same precision and memory layout. The losses of all steps are compared. Each loop is a process; they take
turns. `smp again` is the control.

Evaluation: forward passes over batches that are there already, alone, and followed by what an evaluation does with
them: a class for each pixel of the photos' own size, and of the size seen, and the counts of both. Decoding is outside.
"""

STEPS = 5  # of a round
# name -> (settings, rounds)
RUNS: dict[str, tuple[dict[str, Any], int]] = {
    "FPN, ResNet-18": ({"decoder": "fpn", "batch": 4, "height": 192, "width": 256}, 12),
    "U-Net, ResNet-18": ({"decoder": "unet", "batch": 4, "height": 192, "width": 256}, 12),
}
QUICK = {"U-Net, tiny": ({"decoder": "unet", "batch": 2, "height": 64, "width": 64}, 2)}
LOOPS = ("smp", "smp again", "engine")
TOLERANCE = 0.02  # of losses: sums run in another order, and steps let differences grow
CLASSES = 11
AREAS = (3, 4)  # places with classes of their own: of the cells 4 and 12 % are undecided; after CamVid 3 and 10 %


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    threads = 1 if options.quick else 2
    yield "Steps of training", partial(steps, QUICK if options.quick else RUNS, threads)
    yield "Evaluation at the photos' own size", partial(evaluation, 2 if options.quick else 12, threads, options.quick)


def steps(runs: Mapping[str, tuple[Mapping[str, Any], int]], threads: int) -> Table:
    rows, values = [], {}
    for name, (settings, rounds) in runs.items():
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            found = {}
            for loop in LOOPS:
                told = {"folder": folder, "steps": STEPS, "loop": loop.split()[0], "threads": threads, **settings}
                command = [sys.executable, str(ROOT / "tools/benchmarks/segmentation_loops.py"), json.dumps(told)]
                found[loop] = stack.enter_context(Child(loop, command, threads, CPU))
            wait(found)
            laps = measure([Case(loop, child.lap) for loop, child in found.items()], rounds, warmup=1)
        drift = loss_difference(laps, "smp")
        if drift > TOLERANCE:
            raise BenchmarkError(f"{name}: losses differ by {drift:.2e}, so the times say nothing")
        rows += [row(name, settings, loop, mine, laps["smp"], drift) for loop, mine in laps.items()]
        values[name] = {loop: [lap.seconds / STEPS for lap in mine] for loop, mine in laps.items()}
    columns = ["model", "loop", "ms per step", "steps/s", "/ smp", "processor time / smp", "losses"]
    return Table(columns, rows, [f"{threads} threads a process. Target: within 2 %."], values=values)


def row(name: str, settings: Mapping[str, Any], loop: str, laps: list[Lap], smp: list[Lap], drift: float) -> list[str]:
    each = seconds(laps)
    size = f"{name}, {settings['batch']} x {settings['height']} x {settings['width']}"
    work = ratios([Lap(lap.cpu_seconds) for lap in laps], [Lap(lap.cpu_seconds) for lap in smp])
    compared = ["1", "1"] if loop == "smp" else [ratios(laps, smp).text(3), work.text(3)]
    return [size, loop, each.text(1, 1e3 / STEPS), f"{STEPS / each.median:.2f}", *compared, f"within {drift:.1e}"]


def evaluation(rounds: int, threads: int, quick: bool) -> Table:
    torch.set_num_threads(threads)
    rows, values = [], {}
    models = {"FPN of 128 channels, MobileNetV2": ("timm/mobilenetv2_100", {"name": "fpn", "width": 128})}
    if not quick:
        models["FPN, ResNet-18"] = ("timm/resnet18", {"name": "fpn"})
        models["U-Net, ResNet-18"] = ("timm/resnet18", {"name": "unet"})
    for name, (backbone, decoder) in models.items():
        forward, of_areas, of_noise = judged(backbone, decoder)
        cases = {"forward": forward, "forward again": forward}
        cases |= {"forward and scores of areas": of_areas, "the same without numba": partial(by_numpy, of_areas)}
        cases["forward and scores of noise"] = of_noise
        laps = measure([Case(case, partial(timed, run)) for case, run in cases.items()], rounds)
        for case, mine in laps.items():
            more = differences(mine, laps["forward"]).text(1, 1e3 / 8)
            rows.append([name, case, seconds(mine).text(1, 1e3 / 8), ratios(mine, laps["forward"]).text(3), more])
        values[name] = {case: [lap.seconds for lap in mine] for case, mine in laps.items()}
    columns = ["model", "what", "ms per photo", "/ forward", "ms per photo more than forward"]
    note = f"Batch of 8, 11 classes, seen at 256 x 192, photos of 480 x 360; {threads} threads. Target: at most 1.08."
    return Table(columns, rows, [note], values=values)


def by_numpy(run: Callable[[], Any]) -> Any:
    from visiontl_segmentation import compiled

    loops, compiled.loops = compiled.loops, lambda: None
    try:
        return run()
    finally:
        compiled.loops = loops


def judged(name: str, decoder: Mapping[str, Any]) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """The forward pass of a batch; the same with the rows of an evaluation, of logits that hold areas as those of a
    trained network do, with masks a little apart from them, and of noise with masks of noise, the worst case."""
    from visiontl_segmentation.config import SegmentationConfig
    from visiontl_segmentation.model import model
    from visiontl_segmentation.pixels import decided
    from visiontl_segmentation.scores import rows

    import visiontl

    torch.manual_seed(0)
    cfg = SegmentationConfig.model_validate({"data": ".", "decoder": decoder})
    meta = {"classes": [str(k) for k in range(CLASSES)], "counts": [1] * CLASSES}
    backbone = visiontl.load_backbone(name, "none", (192, 256))
    backbone.channels_last = True
    net = model(cfg, backbone, meta).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = {
        "image": torch.randint(0, 256, (8, 3, 192, 256), dtype=torch.uint8),
        "mask": torch.randint(0, CLASSES, (8, 192, 256), dtype=torch.uint8),
        "truth": list(torch.randint(0, CLASSES, (8, 360, 480), dtype=torch.uint8)),
        "size": torch.tensor([[360, 480]] * 8),
        "shown": torch.tensor([[192, 256]] * 8),
    }

    def forward() -> Any:
        with torch.no_grad():
            return net(batch)

    made = forward()
    grid, extent = made["logits"].shape[2:], (192, 256)
    areas = functional.interpolate(torch.randn(8, CLASSES, *AREAS), grid, mode="bicubic")
    areas, noise = (
        one.to(memory_format=torch.channels_last if made["logits"].stride(1) == 1 else torch.contiguous_format)
        for one in (areas, torch.randn(8, CLASSES, *grid))
    )
    drawn = [[decided(one, extent, extent, size) for one in areas] for size in (extent, (360, 480))]
    masks = {
        "mask": torch.stack(drawn[0]).roll((2, 2), (1, 2)),
        "truth": [one.roll((3, 3), (0, 1)) for one in drawn[1]],
    }

    def scored(logits: Tensor, batch: Mapping[str, Any]) -> Any:
        return rows(cfg, {**forward(), "logits": logits}, batch, meta)

    return forward, lambda: scored(areas, {**batch, **masks}), lambda: scored(noise, batch)


def timed(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
