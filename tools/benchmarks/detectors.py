"""The child processes of the section `detection`: one training loop each, on the same detector and photos.

    python tools/benchmarks/detectors.py '{"loop": "engine", "head": "fcos", ...}'

engine: visiontl's own `fit` on a run that `set_up` made. bare: what one writes without a toolkit, on the model and the
data set that the same `set_up` built: DataLoader, autocast, zero_grad, backward, step, and nothing else. torchvision:
that loop again with torchvision's own data path and model parts: the photo goes from Pillow to float, the model's
GeneralizedRCNNTransform resizes, normalizes and pads it, and MultiScaleRoIAlign pools regions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms.v2 import functional

from visiontl.config.resolve import resolve
from visiontl.engine import device as placing
from visiontl.engine import order
from visiontl.engine.prepare import Run, set_up
from visiontl.freezing.apply import set_gradients, set_training
from visiontl.freezing.layout import trainable
from visiontl.processes.seeds import STEP, mix, seed_generators

sys.path.insert(0, str(Path(__file__).parent))
from loops import NEVER, engine
from rounds import Rounds, say


@dataclass(frozen=True)
class Spec:
    """What a child is told. source: the value of task.data; steps: of one round; own_allocator: as in loops.Spec."""

    folder: str
    loop: str
    head: str
    source: Any
    backbone: str
    short: int
    long: int
    batch: int
    steps: int
    epochs: int
    precision: str = "auto"
    channels_last: bool | str = "auto"
    threads: int = 2
    own_allocator: bool = False


def set_up_run(spec: Spec) -> Run:
    config = {
        "task": {
            "name": "detection",
            "data": spec.source,
            "head": spec.head,
            "size": {"short": spec.short, "long": spec.long},
            "augment": "none",  # so that every loop is shown the same pixels
            "fpn_width": 128,
            "box_width": 256,
        },
        "backbone": {"name": spec.backbone, "weights": "none"},
        "freeze": {"policy": {"first": 1}},
        # one rate and no decay, so that a bare optimizer with one group computes the same
        "optim": {"lr": 1e-4, "backbone_scale": 1.0, "weight_decay": 0.0, "schedule": "constant"},
        "train": {
            "epochs": spec.epochs,
            "batch_size": spec.batch,
            "precision": spec.precision,
            "channels_last": spec.channels_last,
            "log_every": spec.steps,  # each round holds one logged line
            "evaluate_every": NEVER,
            "checkpoint_every": NEVER,
        },
        "loader": {"workers": 0},
        "run": {"folder": spec.folder},
    }
    run = set_up(resolve(config, ()))
    say("told", run.placement.environment())
    return run


@dataclass
class Shown(Dataset):
    """The run's photos as the run shows them, as a data set of the usual kind."""

    photos: Any

    def __getitem__(self, id: int) -> tuple[Tensor, dict[str, Tensor]]:
        sample = self.photos[id, 0]
        return sample["image"], {"boxes": sample["boxes"], "labels": sample["labels"]}


@dataclass
class Whole(Dataset):
    """The same photos and boxes, unresized, as torchvision's references read them: (3, H, W) float32 0..1."""

    photos: Any

    def __getitem__(self, id: int) -> tuple[Tensor, dict[str, Tensor]]:
        annotated = self.photos.annotated[id]
        image = functional.to_dtype(functional.pil_to_tensor(self.photos.image(id)), torch.float32, scale=True)
        boxes = torch.from_numpy(annotated.boxes[~annotated.ignored]).float()
        return image, {"boxes": boxes, "labels": torch.from_numpy(annotated.labels[~annotated.ignored])}


def batches(run: Run, photos: Dataset) -> Iterator[list[Any]]:
    """All epochs, in the engine's order, through a plain DataLoader."""
    section = run.resolved.config.train
    for epoch in range(section.epochs):
        shown = order.epoch_order(run.data, section.seed, epoch, section.batch_size, 1, 1)
        ids = [list(shown.group(step)[0][0]) for step in range(len(shown))]
        yield from DataLoader(photos, batch_sampler=ids, collate_fn=list)


def bare(run: Run, rounds: Rounds, photos: Callable[[Any], Dataset]) -> None:
    """A loop without a toolkit. What is frozen is set once, before it begins."""
    config, device = run.resolved.config, run.accelerator.device
    model: Any = run.built.model  # a Detector
    _, modes = run.phases[0]
    set_gradients(model, trainable(run.layout, modes))
    set_training(model, run.built.backbone, modes, config.freeze.norm_stats)
    net, first_label = model.net, model.first_label
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=config.optim.lr, weight_decay=0.0, fused=True)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=run.placement.precision == "bf16")
    for step, batch in enumerate(batches(run, photos(run.data.train))):
        images = [image.to(device) for image, _ in batch]
        targets = [{"boxes": one["boxes"], "labels": one["labels"] + first_label} for _, one in batch]
        # the samplers of anchors and regions draw what they draw in the engine
        seed_generators(mix(config.train.seed, STEP, step, 0, 0), device)
        with autocast:
            losses = net(images, targets)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        rounds.tick(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def with_torchvisions_parts(run: Run, spec: Spec) -> None:
    """The model with torchvision's preprocessing and pooling in place of visiontl's."""
    net: Any = run.built.model.net
    backbone = run.built.backbone
    means, stds = list(backbone.spec.mean), list(backbone.spec.std)
    net.transform = GeneralizedRCNNTransform(spec.short, spec.long, means, stds, 32)
    backbone.normalize = lambda image: image
    if spec.head == "faster_rcnn":
        pool = net.roi_heads.box_roi_pool
        net.roi_heads.box_roi_pool = MultiScaleRoIAlign(pool.featmap_names, pool.output_size, pool.sampling_ratio)


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    if spec.own_allocator:
        placing.keep_freed_memory = lambda: False
    run = set_up_run(spec)
    rounds = Rounds(spec.steps)
    if spec.loop == "engine":
        engine(run, rounds)
    elif spec.loop == "bare":
        bare(run, rounds, Shown)
    else:
        with_torchvisions_parts(run, spec)
        bare(run, rounds, Whole)


if __name__ == "__main__":
    main()
