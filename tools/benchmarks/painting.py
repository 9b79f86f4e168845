"""Time and memory of painting a picture: transformer networks, AdaIN, and one step of optimizing, at three sizes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import ROOT, Child, Options, Table, seconds
from benchmarks.rounds import Rounds, peak_bytes, say

ABOUT = """
One square picture in a process of its own, fp32, without tiles, from bytes to bytes. *Added* is the peak resident
memory (VmHWM) above that of the same process before its first picture, model included. Weights are random, which
changes no time.
"""

SIZES = (256, 512, 1024)
THREADS = 2
WAYS: dict[str, dict[str, Any]] = {
    "feed-forward, width 32 (default)": {"way": "feed_forward", "width": 32},
    "feed-forward, width 16": {"way": "feed_forward", "width": 16},
    "AdaIN, SqueezeNet 1.1 to features.4": {"way": "adain", "encoder": "features.4"},
    "one step of optimizing, SqueezeNet 1.1": {"way": "optimize"},
}


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    sizes, rounds = ((64,), 2) if options.quick else (SIZES, 9)
    yield "Painting one picture", partial(compare, sizes, rounds)


def compare(sizes: tuple[int, ...], rounds: int) -> Table:
    rows, values = [], {}
    for name, spec in WAYS.items():
        for size in sizes:
            command = [sys.executable, str(ROOT / "tools/benchmarks/painting.py"), json.dumps({**spec, "size": size})]
            with Child(name, command, THREADS, {"OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}) as child:
                laps = [child.lap() for _ in range(rounds)]
            added = (max(lap.peak_bytes for lap in laps) - child.told["bytes"]) / 2**20
            cpu = sorted(lap.cpu_seconds for lap in laps)[len(laps) // 2]
            rows.append([name, size, seconds(laps).text(2), f"{cpu:.2f}", f"{added:.0f}"])
            values[f"{name}, {size}"] = {"seconds": seconds(laps).median, "cpu_seconds": cpu, "added_mib": added}
    note = f"Median of {rounds} with quartiles; {THREADS} threads."
    return Table(["way", "pixels a side", "seconds", "CPU seconds", "added memory, MiB"], rows, [note], values=values)


def main(spec: dict[str, Any]) -> None:
    """The child: one picture, or one step, a round."""
    import torch
    from visiontl_style.config import PredictOptions, StyleConfig
    from visiontl_style.example import waves
    from visiontl_style.loss_network import LossNetwork, choose_layers
    from visiontl_style.model import model
    from visiontl_style.optimize import Settings, optimize
    from visiontl_style.pictures import encoded
    from visiontl_style.predictions import Painter

    import visiontl

    photo = torch.randint(0, 256, (3, spec["size"], spec["size"]), dtype=torch.uint8)
    backbone = visiontl.load_backbone("torchvision/squeezenet1_1", "none")
    say("told", {"bytes": peak_bytes()})
    if spec["way"] == "optimize":
        judge = LossNetwork(backbone, choose_layers(backbone))
        image, ticks = photo[None].float() / 255, Rounds(1)
        optimize(judge, image, [image.flip(3)], Settings(steps=10**6), lambda step, parts, picture: ticks.tick())
        return
    cfg = StyleConfig.model_validate(
        {
            "data": {"photos": ["x"]},
            "way": spec["way"],
            "width": spec.get("width", 32),
            "encoder_layer": spec.get("encoder", "auto"),
        }
    )
    meta = {"styles": [{"name": "waves", "png": encoded(waves())}]}
    made = model(cfg, backbone, meta).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    backbone.channels_last = True
    options = PredictOptions.model_validate({"tile": 4096})
    painter = Painter(cfg, made, meta, options, {"waves": 1.0})
    rounds = Rounds(1)
    while True:
        started = time.perf_counter()
        with torch.no_grad():
            painter.paint(photo)
        rounds.tick(time.perf_counter() - started)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
