"""What training keeps in memory by each way: full fine-tuning, recomputed activations, low-rank adapters, a linear
probe, and torch.compile.

    python tools/memory.py

One process a row, random weights, fp32, 1 thread. `saved`: bytes that autograd keeps between the passes of an update,
by torch.autograd.graph.saved_tensors_hooks, each storage once and no parameter. `state`: gradients and the optimizer's.
`peak`: of the process's resident memory over what it had before the first update. Prints a table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
BACKBONES = {"timm/vit_small_patch16_224": 8, "timm/resnet50": 8}
WAYS = {
    "full fine-tuning": [],
    "train.recompute": ["train.recompute=true"],
    "lora, rank 8": ["freeze.policy={lora: {rank: 8}}"],
    "lora and recompute": ["freeze.policy={lora: {rank: 8}}", "train.recompute=true"],
    "train.compile": ["train.compile=true"],
    "adamw8bit": ["optim.name=adamw8bit"],
    "linear probe": ["freeze.policy=all", "features.cache=off"],
}
UPDATES = 3  # the time is that between the last two


def measured(backbone: str, batch: int, overrides: list[str]) -> dict[str, float]:
    """One row, in this process."""
    import tempfile

    import torch

    from visiontl.engine.train import fit
    from visiontl.testing.case import Case

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = (f"backbone.name={backbone}", "backbone.image_size=224", f"train.batch_size={batch}")
        run = Case("classification", Path(folder), {}, settings).run(*overrides, limit=UPDATES)
        own = {one.untyped_storage().data_ptr() for one in run.built.model.parameters()}
        saved: list[dict[int, int]] = []
        begun: list[float] = []

        def note(*_: object) -> None:
            if torch.is_grad_enabled():
                saved.append({})
                begun.append(time.perf_counter())

        run.built.model.register_forward_pre_hook(note)

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if saved and storage.data_ptr() not in own:
                saved[-1][storage.data_ptr()] = storage.nbytes()
            return tensor

        process, peak, done = psutil.Process(), [0], threading.Event()
        before = process.memory_info().rss

        def watch() -> None:
            while not done.is_set():
                peak[0] = max(peak[0], process.memory_info().rss)
                time.sleep(0.005)

        threading.Thread(target=watch, daemon=True).start()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            fit(run)
        done.set()
        moments = sum(
            value.nbytes for one in run.optimizer.state.values() for value in one.values() if hasattr(value, "nbytes")
        )
        trained = sum(
            one.nbytes for group in run.optimizer.param_groups for one in group["params"] if one.requires_grad
        )
        most = max(sum(found.values()) for found in saved if found) if any(saved) else 0
        sizes = {"saved": most, "state": moments + trained, "peak": peak[0] - before}
        return {**{name: size / 2**20 for name, size in sizes.items()}, "seconds": begun[-1] - begun[-2]}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measured(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
        return
    for backbone, batch in BACKBONES.items():
        print(f"\n{backbone}, batch {batch}\n")
        print("| way | saved, MB | state, MB | peak above the start, MB | s an update |\n|---|---|---|---|---|")
        for way, overrides in WAYS.items():
            command = [sys.executable, __file__, backbone, str(batch), *overrides]
            out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
            row = json.loads(out.splitlines()[-1])
            print(f"| {way} | {row['saved']:.0f} | {row['state']:.0f} | {row['peak']:.0f} | {row['seconds']:.1f} |")


if __name__ == "__main__":
    main()
