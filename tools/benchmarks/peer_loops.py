"""The child processes of peers.py: one framework each, training torchvision's MobileNetV2 on the same photos.

    python tools/benchmarks/peer_loops.py '{"peer": "lightning", "photos": "FOLDER", "weights": "FILE.pth", ...}'

Each framework calls `rounds.tick(loss)` once per step, where the loss is computed. Matched: everyone starts from the
same weights, head included, and gets the same pixels in the batches that visiontl's order gives, plain SGD, fp32 and no
loader process. Otherwise each framework does what its own tutorial does, and what it does by default.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, models, transforms

from visiontl import Data, ImageSpec
from visiontl.engine import order
from visiontl.kit.images import fit_tensor, open_image
from visiontl.spec import IMAGENET_MEAN, IMAGENET_STD

sys.path.insert(0, str(Path(__file__).parent))
from rounds import Rounds

CLASSES = 2
SIZE = 224
RATE, MOMENTUM = 1e-3, 0.9  # matched
NEVER = "1000000 steps"


@dataclass(frozen=True)
class Spec:
    """photos: a folder with train and val; folder: for what is written; probe: train the head alone.

    steps: of one round; 0: no rounds, the whole training and its end are timed from outside.
    """

    peer: str
    photos: str
    weights: str
    folder: str
    matched: bool
    probe: bool = False
    steps: int = 0
    epochs: int = 5
    batch: int = 16
    size: int = SIZE


class Untimed:
    def tick(self, loss: Any = None) -> None:
        pass


def fixed_head(layer: nn.Linear) -> None:
    """The same start for everyone."""
    with torch.no_grad():
        layer.weight.copy_(0.01 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
        layer.bias.zero_()


def network(spec: Spec) -> nn.Module:
    """torchvision's MobileNetV2 with a new head. Matched: without the dropout that visiontl's head does not have."""
    model = models.mobilenet_v2()
    if spec.weights:
        model.load_state_dict(torch.load(spec.weights, weights_only=True))
    head = nn.Linear(model.last_channel, CLASSES)
    model.classifier[1] = head
    if spec.matched:
        model.classifier[0] = nn.Identity()
        fixed_head(head)
    return model


@dataclass
class Photos(Dataset):
    """The evaluation view of each training photo, normalized: (3, H, W) float and its class."""

    files: list[tuple[str, int]]
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, id: int) -> tuple[Tensor, int]:
        path, label = self.files[id]
        pixels = fit_tensor(open_image(path), ImageSpec(size=(self.size, self.size)))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        # in the order of visiontl's backbone, for the same bits: fine-tuning magnifies a rounding tenfold per step
        return torch.addcmul((0.0 - mean) / std, pixels.float(), 1.0 / std / 255), label


def matched_loader(spec: Spec) -> DataLoader:
    """All epochs as one, in the batches of visiontl's order."""
    photos: Any = Photos(datasets.ImageFolder(Path(spec.photos, "train")).samples, spec.size)
    ids: list[list[int]] = []
    for epoch in range(spec.epochs):
        shown = order.epoch_order(Data(train=photos, meta={}), 0, epoch, spec.batch, 1, 1)
        ids += [list(shown.group(step)[0][0]) for step in range(len(shown))]
    return DataLoader(photos, batch_sampler=ids)


def tutorial_folder(spec: Spec) -> datasets.ImageFolder:
    """Photos through the transforms of the Hugging Face and Lightning tutorials."""
    steps = [transforms.RandomResizedCrop(spec.size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
    steps.append(transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    return datasets.ImageFolder(Path(spec.photos, "train"), transforms.Compose(steps))


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=RATE, momentum=MOMENTUM)


def use_visiontl(spec: Spec, rounds: Rounds | Untimed) -> None:
    from visiontl.config.resolve import resolve
    from visiontl.engine import train as training
    from visiontl.engine.prepare import set_up

    config: dict[str, Any] = {
        "task": {"name": "classification", "data": {"folder": spec.photos, "format": "splits"}},
        "backbone": {"name": "torchvision/mobilenet_v2", "weights": spec.weights or "none", "image_size": spec.size},
        "freeze": {"policy": "all" if spec.probe else "none"},
        "train": {"epochs": spec.epochs, "batch_size": spec.batch},
        "run": {"folder": spec.folder},
    }
    if spec.steps:  # a round holds steps and nothing else
        config["train"] |= {"evaluate_every": NEVER, "checkpoint_every": NEVER}
    if spec.probe:
        config["task"]["augment"] = "none"  # as the linear probes in configs/ have it
    if spec.matched:
        config["task"]["augment"] = "none"
        config["backbone"]["preprocessing"] = {"crop": 0.875, "interpolation": "bilinear"}
        config["optim"] = {
            "name": "sgd", "lr": RATE, "momentum": MOMENTUM, "backbone_scale": 1.0, "weight_decay": 0.0,
            "schedule": "constant",
        }  # fmt: skip
        config["train"] |= {"precision": "fp32", "channels_last": False}
        config["loader"] = {"workers": 0}
    found = resolve(config, ())
    task = found.task

    def model(*arguments: Any) -> nn.Module:
        made: Any = task.model(*arguments)
        if spec.matched:
            fixed_head(made.head[-1])
        return made

    def loss(*arguments: Any) -> dict[str, Tensor]:
        losses = task.loss(*arguments)
        rounds.tick(losses["loss"])
        return losses

    # what visiontl.train does; the loss is timed from here on, because the set-up computes it once too
    run = set_up(replace(found, task=replace(task, model=model)))
    run.resolved = replace(run.resolved, task=replace(run.resolved.task, loss=loss))
    training.finish(run, training.fit(run))


def use_timm(spec: Spec, rounds: Rounds | Untimed) -> None:
    """The loop of timm's train.py (train_one_epoch)."""
    from timm.data import ImageDataset, create_loader  # type: ignore[attr-defined]
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
    from timm.utils import AverageMeter, freeze  # type: ignore[attr-defined]

    model = network(spec)
    if spec.probe:
        freeze(model, ["features"])
    if spec.matched:
        loader: Any = matched_loader(spec)
        optimizer = create_optimizer_v2(model, "momentum", lr=RATE, weight_decay=0.0, momentum=MOMENTUM)
    else:
        folder = ImageDataset(str(Path(spec.photos, "train")))
        loader = create_loader(
            folder, (3, spec.size, spec.size), spec.batch, is_training=True, num_workers=4, device=torch.device("cpu")
        )
        optimizer = create_optimizer_v2(model, "sgd", lr=0.01, weight_decay=2e-5, momentum=0.9)
    seen = AverageMeter()
    for _ in range(1 if spec.matched else spec.epochs):
        model.train()
        for image, label in loader:
            loss = F.cross_entropy(model(image), label)
            rounds.tick(loss)
            seen.update(loss.item(), len(image))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


class Answering(nn.Module):
    """A network as the Hugging Face Trainer wants it: it computes its loss."""

    def __init__(self, model: nn.Module, tick: Callable[[Any], None]):
        super().__init__()
        self.model, self.tick = model, tick

    def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.model(pixel_values)
        loss = F.cross_entropy(logits, labels)
        self.tick(loss)
        return {"loss": loss, "logits": logits}


def named(samples: Any) -> dict[str, Tensor]:
    images, labels = zip(*samples, strict=True)
    return {"pixel_values": torch.stack(images), "labels": torch.tensor(labels)}


def use_transformers(spec: Spec, rounds: Rounds | Untimed) -> None:
    from transformers import Trainer, TrainingArguments

    network_ = network(spec)
    if spec.probe:
        network_.features.requires_grad_(False)  # type: ignore[union-attr]
    model = Answering(network_, rounds.tick)
    common: dict[str, Any] = {
        "output_dir": spec.folder, "per_device_train_batch_size": spec.batch, "use_cpu": True, "report_to": "none",
        "remove_unused_columns": False,
    }  # fmt: skip
    if not spec.matched:
        arguments = TrainingArguments(**common, num_train_epochs=spec.epochs)
        Trainer(model, arguments, data_collator=named, train_dataset=tutorial_folder(spec)).train()
        return

    class Matched(Trainer):
        def get_train_dataloader(self) -> Any:
            loader = matched_loader(spec)
            return DataLoader(loader.dataset, batch_sampler=loader.batch_sampler, collate_fn=named)

    optimizer = sgd(model.parameters())
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    arguments = TrainingArguments(**common, num_train_epochs=1, max_grad_norm=0.0)
    folder = matched_loader(spec).dataset
    Matched(model, arguments, train_dataset=folder, data_collator=named, optimizers=(optimizer, constant)).train()


def use_lightning(spec: Spec, rounds: Rounds | Untimed) -> None:
    """Lightning's transfer learning page: the frozen extractor in eval mode, and no gradient there."""
    import lightning

    class Learner(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(spec)

        def training_step(self, batch: Any, _: int) -> Tensor:
            image, label = batch
            if spec.probe:
                self.model.features.eval()  # type: ignore[union-attr]
                with torch.no_grad():
                    features = self.model.features(image).mean((2, 3))  # type: ignore[operator]
                logits = self.model.classifier(features)  # type: ignore[operator]
            else:
                logits = self.model(image)
            loss = F.cross_entropy(logits, label)
            rounds.tick(loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.parameters()) if spec.matched else torch.optim.Adam(self.parameters(), lr=1e-3)

    loader = matched_loader(spec) if spec.matched else DataLoader(tutorial_folder(spec), spec.batch, shuffle=True)
    trainer = lightning.Trainer(
        max_epochs=1 if spec.matched else spec.epochs, accelerator="cpu", default_root_dir=spec.folder
    )
    trainer.fit(Learner(), loader)


def use_fastai(spec: Spec, rounds: Rounds | Untimed) -> None:
    """fastai's vision tutorial: its own loaders and transforms; `freeze` leaves batch norm training."""
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.torch_core import default_device
    from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms, params

    default_device(False)

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        value = F.cross_entropy(logits, label)
        if torch.is_grad_enabled():
            rounds.tick(value)
        return value

    model = network(spec)
    if spec.matched:
        loader = matched_loader(spec)
        loaders = DataLoaders(loader, DataLoader(loader.dataset, batch_size=1), device=torch.device("cpu"))
        learner = Learner(
            loaders,
            model,
            loss,
            opt_func=partial(OptimWrapper, opt=torch.optim.SGD, momentum=MOMENTUM),
            path=spec.folder,
        )
        learner.fit(1, lr=RATE)
        return
    loaders = ImageDataLoaders.from_folder(
        spec.photos, train="train", valid="val", bs=spec.batch, item_tfms=Resize(spec.size), batch_tfms=aug_transforms()
    )

    def groups(made: Any) -> list[Any]:
        return [params(made.features), params(made.classifier)]

    learner = Learner(loaders, model, loss, splitter=groups, path=spec.folder)
    if spec.probe:
        learner.freeze()
    learner.fit_one_cycle(spec.epochs)


PEERS: dict[str, Callable[[Spec, Any], None]] = {
    "visiontl": use_visiontl,
    "timm": use_timm,
    "transformers": use_transformers,
    "lightning": use_lightning,
    "fastai": use_fastai,
}


def main() -> None:
    spec = Spec(**json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    rounds = Rounds(spec.steps) if spec.steps else Untimed()
    PEERS[spec.peer](spec, rounds)


if __name__ == "__main__":
    main()
