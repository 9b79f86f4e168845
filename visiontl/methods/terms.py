"""What a term of the loss is made from, what it reads in each pass, and how the terms join a task's own loss."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from visiontl.backbone import Backbone, Features
from visiontl.config.resolve import Resolved
from visiontl.errors import CheckpointError, ConfigError
from visiontl.freezing.layout import backbone_prefix
from visiontl.freezing.probe import Call

SIGNATURE = inspect.signature(Backbone.forward)


@dataclass(frozen=True)
class Situation:
    """A run that is arranged and not yet trained: what a term is made from.

    The model holds the weights that the run starts with. ever: names of its parameters that train in some phase.
    calls: how the model called its backbone for one training batch. autocast: the precision of the model's passes.
    images: () -> batches of the training images as evaluation sees them. load: a run's folder -> its model (`Built`).
    old: () -> the model that `init` names, with its own classes (`Built`).
    """

    resolved: Resolved
    model: nn.Module
    backbone: Backbone
    meta: Mapping[str, Any]
    ever: frozenset[str]
    calls: Sequence[Call]
    autocast: Callable[[], AbstractContextManager[Any]]
    images: Callable[[], Any]
    load: Callable[[str], Any]
    old: Callable[[], Any]
    say: Callable[[str], None]

    @property
    def training(self) -> dict[str, nn.Parameter]:
        """The backbone's parameters that train in some phase, by their names in the model."""
        prefix = backbone_prefix(self.model, self.backbone)
        named = self.model.named_parameters()
        return {name: one for name, one in named if name in self.ever and name.startswith(prefix)}

    def refused(self, key: str, why: str) -> ConfigError:
        return ConfigError(f"method.{key}: {why}", self.resolved.source)

    def warn_of_random(self, key: str) -> None:
        """Say so where what a term holds on to is no pretrained network."""
        if self.resolved.config.backbone.weights == "none" and self.resolved.config.init is None:
            self.say(f"method.{key} holds on to random weights (backbone.weights: none), which nobody trained")

    def require_training(self, key: str) -> None:
        """Raises ConfigError where no part of the backbone ever trains."""
        if not self.training:
            raise self.refused(
                key, "the whole backbone is frozen (freeze.policy), so there is nothing that this could hold or shape"
            )


@dataclass(frozen=True)
class Look:
    """One call of the backbone: what it was given, and what it gave. levels: of the maps in `features`; asked: those
    of them that the model itself asked for."""

    image: Any
    levels: tuple[int, ...]
    asked: tuple[int, ...]
    features: Features

    def map(self, level: int) -> Tensor:
        """(B, C, h, w)"""
        return self.features.maps[self.levels.index(level)]


@dataclass(frozen=True)
class Pass:
    """One forward pass in training."""

    outputs: Any
    batch: Mapping[str, Any]
    looks: Sequence[Look]


class Term(Protocol):
    """A term of the loss.

    name: its key in the section `method`, and what it is logged as. started: sha256 of what it holds on to, "" for
    nothing; a run that goes on from a checkpoint with another one is refused. watches: it reads what the backbone
    gives; maps: pyramid levels that it reads besides those that the model asks for. needs_images: it reads the images
    themselves, so stored features cannot stand in for them.

    Called with a pass it gives a scalar, weighted, on the model's device: a mean over the images of the batch.
    """

    @property
    def name(self) -> str: ...
    @property
    def started(self) -> str: ...
    @property
    def watches(self) -> bool: ...
    @property
    def maps(self) -> Sequence[int]: ...
    @property
    def needs_images(self) -> bool: ...

    def __call__(self, seen: Pass, /) -> Tensor: ...


@dataclass
class Method:
    """A task's loss, with the terms that a config adds to it."""

    meta: Mapping[str, Any]
    terms: Sequence[Term] = ()
    looks: list[Look] = field(default_factory=list[Look])

    def losses(self, resolved: Resolved, outputs: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """What the task's `loss` gives, with each term added to "loss" and beside it under its own name."""
        found = resolved.task.loss(resolved.cfg, outputs, batch, self.meta)
        if not self.terms:
            return found
        looks, self.looks[:] = list(self.looks), []
        added = {term.name: term(Pass(outputs, batch, looks)) for term in self.terms}
        total = sum(added.values(), start=found["loss"])
        own = {f"method/{name}": value.detach() for name, value in {"task": found["loss"], **added}.items()}
        return {**found, "loss": total, **own}

    @property
    def needs_images(self) -> bool:
        return any(term.needs_images for term in self.terms)

    @property
    def started(self) -> dict[str, str]:
        """{term: sha256 of what it holds on to}"""
        return {term.name: term.started for term in self.terms if term.started}

    def require_started(self, folder: Any, before: Mapping[str, str]) -> None:
        """Raises CheckpointError where a term would hold on to something else than it did when the run began."""
        for name, now in self.started.items():
            if before.get(name) != now:
                raise CheckpointError(
                    f"{folder}: method.{name} began with other weights (sha256 {before.get(name, 'none')[:12]}) than "
                    f"it would here ({now[:12]}): put back what the run began with (the files of backbone.weights, "
                    "init or the teacher), or start a new run"
                )

    def watch(self, backbone: Backbone) -> None:
        """From now on the backbone's passes with gradients are noted, where a term reads them, and give the maps that
        terms want besides; the model gets what it asked for."""
        if not any(term.watches for term in self.terms):
            return
        wanted = {level for term in self.terms for level in term.maps}
        asked: list[tuple[Any, ...]] = []  # image, maps, pooled, layers of the call that is under way

        def widen(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return None
            given = SIGNATURE.bind(module, *args, **kwargs)
            given.apply_defaults()
            image, maps, pooled, layers = list(given.arguments.values())[1:]
            asked.append((image, tuple(maps), pooled, layers))
            return (image, tuple(sorted({*maps, *wanted})), pooled, layers), {}

        def note(module: nn.Module, args: Any, features: Features) -> Features | None:
            if not torch.is_grad_enabled():
                return None
            image, maps, _, _ = asked.pop()
            self.looks.append(Look(image, args[1], maps, features))
            return Features([self.looks[-1].map(level) for level in maps], features.pooled, features.layers)

        backbone.register_forward_pre_hook(widen, with_kwargs=True)
        backbone.register_forward_hook(note)


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, kinds and values."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
