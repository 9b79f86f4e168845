"""Many linear heads on the same frozen features at once: learning rates, weight decays and layers in one pass."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visiontl.config.schema import OptimConfig
from visiontl.engine.optim import lr_factor
from visiontl.processes.seeds import ORDER, generator
from visiontl.report import noise

DECAYS = (0.0, 0.01, 0.1)
LOW, HIGH = 1e-4, 1e-1  # learning rates


@dataclass(frozen=True)
class Head:
    """One head's settings. layer: whose features it reads."""

    layer: str
    lr: float
    decay: float

    @property
    def title(self) -> str:
        return f"{self.layer}, lr {self.lr:.2g}, decay {self.decay:g}"


@dataclass(frozen=True)
class Features:
    """layers: {name: (N, E) float32}; y: (N,) class numbers."""

    layers: Mapping[str, Tensor]
    y: Tensor


@dataclass(frozen=True)
class Tried:
    """right: (M,) 0/1 of each image of val."""

    head: Head
    right: np.ndarray

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


def heads(count: int, layers: Sequence[str]) -> list[Head]:
    """So many: each layer with learning rates spread over orders of magnitude, each with each decay."""
    steps = -(-count // (len(DECAYS) * len(layers)))
    rates = [LOW * (HIGH / LOW) ** (i / max(1, steps - 1)) for i in range(steps)]
    return [Head(layer, lr, decay) for lr, decay, layer in itertools.product(rates, DECAYS, layers)][:count]


class Batched:
    """Linear heads on one layer that train side by side, each with its own learning rate and decay, by the sum of their
    mean log losses, so none knows of the others.

    Kept are a head's weights divided by its learning rate: an update of AdamW (Loshchilov and Hutter 2019) is its
    learning rate times what only the gradients say, so one call of torch's fused AdamW serves heads of all rates.

    weight: (E, C, H), bias: (C, H), both so divided; both begin at 0. Heads come last, for what differs by head is
    fast along the last dimension only.
    """

    def __init__(self, width: int, classes: int, group: Sequence[Head], betas: tuple[float, float]):
        self.lr = torch.tensor([head.lr for head in group])  # (H,)
        self.decay = self.lr * torch.tensor([head.decay for head in group])  # (H,)
        self.weight, self.bias = torch.zeros(width, classes, len(group)), torch.zeros(classes, len(group))
        self.optimizer = torch.optim.AdamW((self.weight, self.bias), betas=betas, weight_decay=0.0, fused=True)

    def logits(self, x: Tensor) -> Tensor:
        """(B, E) -> (B, C, H): one product for all heads."""
        return ((x @ self.weight.flatten(1)).view(len(x), *self.bias.shape) + self.bias) * self.lr

    def update(self, x: Tensor, y: Tensor, factor: float) -> None:
        """One step of every head on a batch. factor: of all learning rates."""
        error = self.logits(x).softmax(1)  # (B, C, H)
        error[torch.arange(len(x)), y] -= 1  # the gradient of each head's own loss by its logits, times B
        error /= len(x)
        self.weight.mul_(1 - factor * self.decay)
        self.weight.grad, self.bias.grad = (x.T @ error.flatten(1)).view_as(self.weight), error.sum(0)
        self.optimizer.param_groups[0]["lr"] = factor
        self.optimizer.step()


@dataclass(frozen=True)
class Plan:
    """How long and in which order all heads train, as a run of the config would."""

    optim: OptimConfig
    epochs: int
    batch_size: int
    seed: int


def train_heads(
    train: Features, val: Features, wanted: Sequence[Head], plan: Plan, progress: Callable[[int], None] = lambda n: None
) -> list[Tried]:
    """All of them, the best on val first."""
    classes = int(max(train.y.max(), val.y.max())) + 1
    names = list(dict.fromkeys(head.layer for head in wanted))
    groups = {name: [head for head in wanted if head.layer == name] for name in names}
    made = {
        name: Batched(train.layers[name].shape[1], classes, group, plan.optim.betas) for name, group in groups.items()
    }
    count = len(train.y)
    updates = -(-count // plan.batch_size)
    for epoch in range(plan.epochs):
        order = torch.randperm(count, generator=generator(plan.seed, ORDER, epoch))
        for i, ids in enumerate(order.split(plan.batch_size)):
            factor = lr_factor(plan.optim, epoch * updates + i, plan.epochs * updates, updates)
            for name, batched in made.items():
                batched.update(train.layers[name][ids], train.y[ids], factor)
        progress(epoch + 1)
    found: list[Tried] = []
    for name, group in groups.items():
        right = (made[name].logits(val.layers[name]).argmax(1) == val.y[:, None]).double().numpy()  # (M, H)
        found += [Tried(head, right[:, i]) for i, head in enumerate(group)]
    return sorted(found, key=lambda one: -one.accuracy)


def verdict(found: Sequence[Tried]) -> str:
    """The best, its margin, and whether other images might say another."""
    best = found[0]
    told = f"best of {len(found)} heads: {best.head.title}: val accuracy {best.accuracy:.4f}"
    if len(found) == 1:
        return told
    raised = noise.holm([noise.paired(one.right, best.right).p for one in found[1:]])
    close = sum(p >= noise.LEVEL for p in raised)
    told += f", {best.accuracy - found[1].accuracy:.4f} ahead of {found[1].head.title}"
    if not close:
        return f"{told}, beyond the noise of the images"
    return f"too close to call: {told}, and {close} others lie within the noise of the {len(best.right)} images of val"
