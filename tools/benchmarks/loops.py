"""The child processes of the sections: one training loop each, on the same model, pixels and order.

    python tools/benchmarks/loops.py '{"loop": "engine", "model": "timm/resnet18", ...}'

engine: visiontl's own `fit` on a run that `set_up` made; a round's ticks come from the task's loss, which the loop
calls once per step. bare: what one writes without a toolkit, on the model that the same `set_up` built: DataLoader,
autocast, zero_grad, backward, step, and nothing else. wrong: bare, with the convolutions and linear layers of the
backbone marked as not needing gradients, and BatchNorm left as `model.train()` leaves it: statistics that move, scale
and shift that train. still: everything is built, nothing runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from visiontl import Data
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine import caching, order
from visiontl.engine import device as placing
from visiontl.engine import train as training
from visiontl.engine.prepare import Run, set_up

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Rounds, say

CLASSES = 10
NEVER = "1000000 steps"


@dataclass(frozen=True)
class Spec:
    """What a child is told. steps: of one round; size: pixels; loop: engine, bare, wrong or still.

    own_allocator: leave the C library's as the process found it, as a loop without visiontl has it.
    """

    folder: str
    loop: str
    model: str
    steps: int
    batch: int
    size: int
    policy: Any = "none"
    precision: str = "fp32"
    channels_last: bool | str = False
    compile: bool = False
    cache: bool = False
    images: int = 64
    epochs: int = 5000
    threads: int = 1
    own_allocator: bool = False


class Pixels:
    """A split of random pictures that are in memory already: data costs both loops the same, and little."""

    def __init__(self, count: int, size: tuple[int, int]):
        drawn = np.random.default_rng(0).integers(0, 256, (count, 3, *size), dtype=np.uint8)
        self.pixels = torch.from_numpy(drawn)  # (N, 3, H, W)
        self.labels = np.arange(count, dtype=np.int64) % CLASSES
        self.names: Sequence[str] = [f"{i}.png" for i in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        size = tuple(self.pixels.shape[2:])
        return {"image": self.pixels[key[0]], "size": size, "label": self.labels[key[0]]}

    def image(self, id: int) -> Image.Image:
        return Image.fromarray(self.pixels[id].permute(1, 2, 0).numpy())


def resolved(spec: Spec) -> Resolved:
    """The run's config, with the task's data replaced by pixels in memory."""
    config = {
        "task": {"name": "classification", "data": {"folder": "."}, "augment": "none"},
        "backbone": {"name": spec.model, "weights": "none", "image_size": spec.size},
        "freeze": {"policy": spec.policy},
        # one rate and no decay, so that a bare optimizer with one group computes the same
        "optim": {"lr": 1e-4, "backbone_scale": 1.0, "weight_decay": 0.0, "schedule": "constant"},
        "train": {
            "epochs": spec.epochs,
            "batch_size": spec.batch,
            "precision": spec.precision,
            "channels_last": spec.channels_last,
            "compile": spec.compile,
            "evaluate_every": NEVER,
            "checkpoint_every": NEVER,
        },
        "features": {"cache": "memory" if spec.cache else "off"},
        "loader": {"workers": 0},
        "run": {"folder": spec.folder},
    }
    found = resolve(config, ())

    def pixels(cfg: Any, image: Any, meta: Any = None) -> Data:
        names = [str(i) for i in range(CLASSES)]
        counts = {"labels": "single", "classes": names, "ids": names, "counts": [1] * CLASSES, "images": spec.images}
        return Data(train=Pixels(spec.images, image.size), meta=counts)

    return replace(found, task=replace(found.task, data=pixels))


def set_up_run(spec: Spec) -> Run:
    """set_up, and how long the feature cache took, where there is one."""
    build, took = caching.features_of, [0.0]

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return build(*arguments)
        finally:
            took[0] += time.perf_counter() - began

    caching.features_of = timed
    run = set_up(resolved(spec))
    say("told", {"cache_seconds": took[0], "cached": sorted(run.caches), **run.placement.environment()})
    return run


def engine(run: Run, rounds: Rounds) -> None:
    task = run.resolved.task

    def loss(*arguments: Any) -> dict[str, Tensor]:
        losses = task.loss(*arguments)
        rounds.tick(losses["loss"])
        return losses

    run.resolved = replace(run.resolved, task=replace(task, loss=loss))
    training.fit(run)


@dataclass
class Plain(Dataset):
    """The same pictures as a data set of the usual kind."""

    split: Any
    size: int = field(init=False)

    def __getitem__(self, id: int) -> dict[str, Any]:
        return self.split[id, 0]


def batches(run: Run, collate: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """All epochs, in the engine's order, through a plain DataLoader."""
    section, device = run.resolved.config.train, run.accelerator.device
    for epoch in range(section.epochs):
        shown = order.epoch_order(run.data, section.seed, epoch, section.batch_size, 1, 1)
        ids = [list(shown.group(step)[0][0]) for step in range(len(shown))]
        yield from DataLoader(
            Plain(run.data.train), batch_sampler=ids, collate_fn=collate, pin_memory=device.type == "cuda"
        )


def bare(run: Run, rounds: Rounds, freeze: Callable[[nn.Module], None] | None = None) -> None:
    """A loop without a toolkit."""
    config, device = run.resolved.config, run.accelerator.device
    collate = run.resolved.task.collate
    precision = run.placement.precision
    model = run.built.model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if freeze:
        freeze(run.built.backbone)
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=config.optim.lr, weight_decay=0.0, fused=device.type in ("cpu", "cuda"))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    if config.train.compile:
        model.compile()
    for batch in batches(run, lambda samples: collate(run.resolved.cfg, samples, None, run.built.meta)):
        batch = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        with autocast:
            logits = model(batch)["logits"]
        loss = F.cross_entropy(logits.float(), batch["label"], reduction="none").mean()  # the same bits as the task
        rounds.tick(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def freeze_wrongly(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    if spec.own_allocator:
        placing.keep_freed_memory = lambda: False
    run = set_up_run(spec)
    on_gpu = run.accelerator.device.type == "cuda"
    rounds = Rounds(spec.steps, torch.cuda.synchronize if on_gpu else None)
    if spec.loop == "still":
        rounds.tick()
    elif spec.loop == "engine":
        engine(run, rounds)
    else:
        bare(run, rounds, freeze_wrongly if spec.loop == "wrong" else None)


if __name__ == "__main__":
    main()
