"""Regularizers of fine-tuning: what stays near the start, and which directions of the features are kept small."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone
from visiontl.config.schema import BssConfig, DeltaConfig, L2SpConfig
from visiontl.freezing.layout import ADAPTER, backbone_prefix
from visiontl.methods.terms import Look, Pass, Situation, fingerprint

FEWEST = 2  # images of a batch whose features have more than one direction


@dataclass(frozen=True)
class L2Sp:
    """alpha / 2 |w - w0|^2 over the backbone's weights that train, w0 those of the start, and beta / 2 |w|^2 over the
    others (Li et al. 2018, Explicit inductive bias for transfer learning with convolutional networks, eq. 3)."""

    alpha: float
    beta: float
    near: Sequence[tuple[nn.Parameter, Tensor]]  # (weight, its start)
    small: Sequence[nn.Parameter]
    started: str
    name: str = "l2_sp"
    watches: bool = False
    maps: tuple[int, ...] = ()
    needs_images: bool = False

    def __call__(self, seen: Pass) -> Tensor:
        return l2_sp([(one, start) for one, start in self.near if one.requires_grad], self.alpha) + l2_sp(
            [(one, None) for one in self.small if one.requires_grad], self.beta
        )


def l2_sp(pairs: Sequence[tuple[Tensor, Tensor | None]], strength: float) -> Tensor:
    """strength / 2 times the sum of squared distances, (); None stands for zero."""
    moved = [one if start is None else one - start for one, start in pairs]
    squares = [part.square().sum() for part in moved]
    return strength / 2 * torch.stack(squares).sum() if squares else torch.zeros(())


def make_l2_sp(here: Situation, section: L2SpConfig) -> L2Sp:
    here.require_training("l2_sp")
    prefix = backbone_prefix(here.model, here.backbone)
    near = here.training
    if any(name.endswith(ADAPTER) for name in near):
        raise here.refused("l2_sp", "under freeze.policy lora the pretrained weights stay as they are")
    here.warn_of_random("l2_sp")
    starts = {name: one.detach().clone() for name, one in near.items()}
    others = [one for name, one in here.model.named_parameters() if name in here.ever and not name.startswith(prefix)]
    if here.resolved.config.optim.weight_decay > 0:
        here.say("method.l2_sp: optim.weight_decay pulls to 0 besides; 0 leaves it to l2_sp alone, as in the paper")
    return L2Sp(section.alpha, section.beta, [(near[k], starts[k]) for k in near], others, fingerprint(starts))


@dataclass(frozen=True)
class Delta:
    """The distance of feature maps from those of the backbone as it started, on the same images (Li et al. 2019, DELTA,
    eq. 5, with all channels weighing alike: the distance of L2-FE there)."""

    weight: float
    start: Backbone
    maps: tuple[int, ...]
    autocast: Callable[[], AbstractContextManager[Any]]
    started: str
    name: str = "delta"
    watches: bool = True
    needs_images: bool = True

    def __call__(self, seen: Pass) -> Tensor:
        return self.weight * torch.stack([self.distance(look) for look in seen.looks]).sum()

    def distance(self, look: Look) -> Tensor:
        with torch.no_grad(), self.autocast():
            before = self.start(look.image, maps=self.maps).maps
        return torch.stack(
            [
                map_distance(look.map(level).float(), start.float())
                for level, start in zip(self.maps, before, strict=True)
            ]
        ).sum()


def map_distance(now: Tensor, before: Tensor) -> Tensor:
    """(B, C, h, w) twice -> half the squared distance per position, summed over channels, the mean over images, ()."""
    return 0.5 * (now - before).square().sum(1).mean()


def make_delta(here: Situation, section: DeltaConfig) -> Delta:
    here.require_training("delta")
    here.warn_of_random("delta")
    levels = levels_of(here, "delta", section.levels)
    start = copy.deepcopy(here.backbone).eval().requires_grad_(False)
    return Delta(section.weight, start, levels, here.autocast, fingerprint(start.state_dict()))


def levels_of(here: Situation, key: str, wanted: Sequence[int] | None) -> tuple[int, ...]:
    """Pyramid levels, counted from the finest, or from the deepest with -1, -2 ...; None: all that train."""
    count = len(here.backbone.channels)
    chosen = range(count) if wanted is None else wanted
    if wrong := [level for level in chosen if not -count <= level < count]:
        raise here.refused(key, f"levels: {wrong[0]} is none; {here.backbone.name} has levels 0 to {count - 1}")
    return tuple(sorted({level % count for level in chosen}))


@dataclass(frozen=True)
class Bss:
    """The sum of the `count` smallest squared singular values of a batch's features (Chen et al. 2019, Catastrophic
    forgetting meets negative transfer: batch spectral shrinkage, eq. 5)."""

    weight: float
    count: int
    name: str = "bss"
    started: str = ""
    watches: bool = True
    maps: tuple[int, ...] = ()
    needs_images: bool = False

    def __call__(self, seen: Pass) -> Tensor:
        return self.weight * torch.stack([bss(features_of(look), self.count) for look in seen.looks]).sum()


def features_of(look: Look) -> Tensor:
    """(B, D): the pooled embedding where the model asked for it, else the mean over positions of its deepest map."""
    if look.features.pooled is not None:
        return look.features.pooled.float()
    return look.map(max(look.asked)).float().mean((2, 3))


def bss(features: Tensor, count: int) -> Tensor:
    """features: (B, D). 0 for a single image, whose one direction is all that it has."""
    if len(features) < FEWEST:
        return features.sum() * 0
    values = torch.linalg.svdvals(features)  # descending
    return values[-min(count, len(values)) :].square().sum()


def make_bss(here: Situation, section: BssConfig) -> Bss:
    here.require_training("bss")
    for _, maps, pooled, _ in here.calls:
        if not maps and not pooled:
            raise here.refused("bss", "the task reads neither maps nor an embedding of its backbone")
    return Bss(section.weight, section.count)
