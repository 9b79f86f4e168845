"""The child processes of the segmentation section: one training loop each, on the same weights, pixels and order.

    python tools/benchmarks/segmentation_loops.py '{"loop": "engine", "decoder": "fpn", ...}'

engine: visiontl's own `fit`. smp: what one writes around segmentation-models-pytorch without a toolkit.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from visiontl import Data
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine import order
from visiontl.engine import train as training
from visiontl.engine.prepare import Run, set_up

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Rounds, say

CLASSES, IMAGES = 11, 64
NEVER = "1000000 steps"
NAMES = {"fpn": "FPN", "unet": "Unet"}


@dataclass(frozen=True)
class Spec:
    folder: str
    loop: str
    decoder: str
    steps: int
    batch: int
    height: int
    width: int
    threads: int


class Pixels:
    """A split of random pictures and masks that are in memory already."""

    def __init__(self, size: tuple[int, int]):
        draw = np.random.default_rng(0)
        self.pixels = torch.from_numpy(draw.integers(0, 256, (IMAGES, 3, *size), dtype=np.uint8))
        self.masks = torch.from_numpy(draw.integers(0, CLASSES, (IMAGES, *size), dtype=np.uint8))
        self.names: Sequence[str] = [f"{i}.png" for i in range(IMAGES)]

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return {"image": self.pixels[key[0]], "mask": self.masks[key[0]]}

    def image(self, id: int) -> Image.Image:
        return Image.fromarray(self.pixels[id].permute(1, 2, 0).numpy())


def resolved(spec: Spec) -> Resolved:
    decoder: dict[str, Any] = {"name": spec.decoder}
    if spec.decoder == "fpn":
        decoder["dropout"] = 0.0  # drawn anew by each loop
    found = resolve(
        {
            "task": {"name": "segmentation", "data": ".", "decoder": decoder},
            "backbone": {"name": "timm/resnet18", "weights": "none", "image_size": [spec.height, spec.width]},
            # one rate and no decay, so that a bare optimizer with one group computes the same
            "optim": {"lr": 1e-4, "backbone_scale": 1.0, "weight_decay": 0.0, "schedule": "constant"},
            "train": {"epochs": 5000, "batch_size": spec.batch, "evaluate_every": NEVER, "checkpoint_every": NEVER},
            "loader": {"workers": 0},
            "run": {"folder": spec.folder},
        }
    )

    def pixels(cfg: Any, image: Any, meta: Any = None) -> Data:
        names = [str(k) for k in range(CLASSES)]
        counts = {"classes": names, "counts": [1] * CLASSES, "background": None, "colors": [[0, 0, 0]] * CLASSES}
        return Data(train=Pixels(image.size), meta=counts)

    return replace(found, task=replace(found.task, data=pixels))


def engine(run: Run, rounds: Rounds) -> None:
    task = run.resolved.task

    def loss(*arguments: Any) -> dict[str, Tensor]:
        losses = task.loss(*arguments)
        rounds.tick(losses["loss"])
        return losses

    run.resolved = replace(run.resolved, task=replace(task, loss=loss))
    training.fit(run)


class Plain(Dataset):
    """The same pictures as a data set of the usual kind."""

    def __init__(self, split: Any):
        self.split = split

    def __getitem__(self, id: int) -> tuple[Tensor, Tensor]:
        sample = self.split[id, 0]
        return sample["image"], sample["mask"]


def batches(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """All epochs, in the engine's order, through a plain DataLoader."""
    section = run.resolved.config.train
    for epoch in range(section.epochs):
        shown = order.epoch_order(run.data, section.seed, epoch, section.batch_size, 1, 1)
        ids = [list(shown.group(step)[0][0]) for step in range(len(shown))]
        yield from DataLoader(Plain(run.data.train), batch_sampler=ids)


def library_model(run: Run, spec: Spec) -> nn.Module:
    """segmentation-models-pytorch's model on its own encoder, with the weights that the run begins with. Its head does
    not upsample: the loop does, pixel centers at halves, as the run."""
    import segmentation_models_pytorch as smp

    options: dict[str, Any] = {"decoder_dropout": 0.0, "upsampling": 1} if spec.decoder == "fpn" else {}
    net: Any = getattr(smp, NAMES[spec.decoder])("resnet18", encoder_weights=None, classes=CLASSES, **options)
    own: Any = run.built.model
    net.encoder.load_state_dict({**own.decode.backbone.body.state_dict(), "fc.weight": None, "fc.bias": None})
    net.decoder.load_state_dict(own.decode.decoder.state_dict())
    if spec.decoder == "unet":
        net.segmentation_head[0] = nn.Conv2d(own.decode.width, CLASSES, 1)
    net.segmentation_head[0].load_state_dict(own.head.state_dict())
    return net


def smp(run: Run, spec: Spec, rounds: Rounds) -> None:
    """A loop without a toolkit."""
    config = run.resolved.config
    environment = run.placement.environment()
    net = library_model(run, spec).train()
    if environment["channels_last"]:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone = run.built.backbone
    mean, std = 255 * backbone.mean.clone(), 255 * backbone.std.clone()  # (1, 3, 1, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.optim.lr, weight_decay=0.0, fused=True)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=environment["precision"] == "bf16")
    for image, mask in batches(run):
        if environment["channels_last"]:
            image = image.contiguous(memory_format=torch.channels_last)
        with autocast:
            logits = net((image - mean) / std)
            if logits.shape[2:] != mask.shape[1:]:
                logits = functional.interpolate(logits, mask.shape[1:], mode="bilinear", align_corners=False)
        loss = functional.cross_entropy(logits.float(), mask.long())
        rounds.tick(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    torch.set_num_threads(spec.threads)
    run = set_up(resolved(spec))
    say("told", run.placement.environment())
    rounds = Rounds(spec.steps, None)
    if spec.loop == "engine":
        engine(run, rounds)
    else:
        smp(run, spec, rounds)


if __name__ == "__main__":
    main()
