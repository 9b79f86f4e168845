"""What really happens in a run, seen from outside the engine through torch's own hooks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from visiontl.engine.prepare import Run
from visiontl.freezing.layout import HEAD, backbone_prefix
from visiontl.kit.words import some
from visiontl.processes import ranks


def digest(tensor: Tensor) -> str:
    """sha256 of the values' bytes, in the order of the indices."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(content.numpy().tobytes()).hexdigest()


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: digest(tensor) for name, tensor in tensors.items()}


def differing(mine: Mapping[str, Any], what: str) -> list[str]:
    """In words, what is not the same on every rank."""
    found = []
    for rank, theirs in enumerate(ranks.gather_objects(dict(mine))):
        names = sorted(name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name))
        if names:
            found.append(f"{what} differ between ranks {ranks.rank()} and {rank}: {some(names)}")
    return found


class Witness:
    """Watches a run while it trains; `problems` then says, in sentences, what was not as its phases declare.

    In each phase: a fresh DDP wrapper, gradients of equal bits on all ranks, parameters and buffers of what is
    frozen with unchanged hashes, and some movement in each stage that trains. At each evaluation: equal buffers.
    """

    def __init__(self, run: Run):
        self.run = run
        self.updates = 0
        self.problems: list[str] = []
        self.phase: int | None = None  # first epoch of the phase whose forward passes were last seen
        self.still: dict[str, str] = {}  # hashes at the phase's first forward pass: what must keep them,
        self.before: dict[str, str] = {}  # and all
        self.seen: set[int] = set()
        self.wrapped: set[int] = set()
        self.wrappers: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        self.evaluated: list[dict[str, str]] = []  # hashes of the buffers in each forward pass of an evaluation
        self.handles: list[Any] = []

    def __enter__(self) -> Witness:
        models = [self.run.built.model, *([self.run.ema.model] if self.run.ema else [])]
        self.handles = [
            register_module_forward_pre_hook(self.before_wrapper),
            *(model.register_forward_pre_hook(self.before_forward) for model in models),
            self.run.optimizer.register_step_pre_hook(self.before_update),
            self.run.optimizer.register_step_post_hook(self.after_update),
        ]
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        for handle in self.handles:
            handle.remove()
        if kind is not None:
            return
        self.end_phase()
        declared = {epoch for epoch, _ in self.run.phases}
        if self.seen != declared:
            self.problems.append(
                f"phases began in epochs {sorted(declared)}; forward passes showed {sorted(self.seen)}"
            )
        if ranks.world() > 1 and self.wrapped != declared:
            self.problems.append(f"phases that began in epochs {sorted(declared - self.wrapped)} ran without DDP")

    def current(self) -> tuple[int, Mapping[str, str]]:
        """(first epoch, modes) of the phase that the next update belongs to."""
        epoch = self.updates // self.run.steps_per_epoch
        return [phase for phase in self.run.phases if phase[0] <= epoch][-1]

    def before_wrapper(self, module: nn.Module, arguments: Any) -> None:
        if isinstance(module, DistributedDataParallel):
            start, _ = self.current()
            self.wrapped.add(start)
            if self.wrappers.setdefault(module, start) != start:
                self.problems.append(f"the phase from epoch {start} runs in the wrapper of an earlier one")
                self.wrappers[module] = start

    def before_forward(self, model: nn.Module, arguments: Any) -> None:
        if not model.training:
            self.evaluated.append(digests(dict(model.named_buffers())))
            return
        start, modes = self.current()
        if start == self.phase:
            return
        self.end_phase()
        self.phase = start
        self.seen.add(start)
        self.before = digests(model.state_dict())
        frozen = frozen_names(self.run, modes)
        self.still = {name: value for name, value in self.before.items() if name in frozen}

    def before_update(self, optimizer: Any, *_: Any) -> None:
        """The raw gradients of all ranks, side by side."""
        gradients = {
            name: parameter.grad.detach().cpu()
            for name, parameter in self.run.built.model.named_parameters()
            if parameter.grad is not None
        }
        frozen = sorted(gradients.keys() & self.still.keys())
        if frozen:
            self.problems.append(f"update {self.updates}: frozen parameters have gradients: {some(frozen)}")
        for rank, others in enumerate(ranks.gather_objects(gradients)):
            names = [n for n in gradients if n not in others or not torch.equal(gradients[n], others[n])]
            if names or others.keys() != gradients.keys():
                self.problems.append(
                    f"update {self.updates}: gradients differ between ranks {ranks.rank()} and {rank}: "
                    f"{some(names) or some(sorted(others.keys() - gradients.keys()))}"
                )

    def after_update(self, optimizer: Any, *_: Any) -> None:
        now = digests(self.run.built.model.state_dict())
        moved = [name for name, value in self.still.items() if now[name] != value]
        if moved:
            self.problems.append(f"update {self.updates}: frozen, and yet moved: {some(moved)}")
        self.updates += 1

    def end_phase(self) -> None:
        """Whether every stage that trains has moved since the phase began."""
        if self.phase is None:
            return
        now = digests(self.run.built.model.state_dict())
        modes = dict(self.run.phases)[self.phase]
        for stage, members in self.run.layout.members.items():
            trains = stage == HEAD or modes[stage] != "frozen"
            if members and trains and all(now[name] == self.before[name] for name in members):
                self.problems.append(f"the phase from epoch {self.phase} moved nothing of {stage}, which it trains")


def frozen_names(run: Run, modes: Mapping[str, str]) -> set[str]:
    """Parameters and buffers of the model that must keep their bits in a phase.

    Derived from names and shapes, not by the functions that the engine freezes with. Under norm_and_bias: all
    weights of two or more dimensions but those of adapters, and norm statistics.
    """
    prefix = backbone_prefix(run.built.model, run.built.backbone)
    names = {*run.layout.unread, *run.layout.fixed}
    for name, tensor in run.built.model.state_dict().items():
        if not name.startswith(prefix):
            continue
        stage = run.built.backbone.stage_of.get(name[len(prefix) :])
        mode = modes.get(stage, "frozen") if stage else "frozen"  # no stage: mean and deviation of the images
        statistics = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        fixed = statistics and run.resolved.config.freeze.norm_stats == "fixed"
        weights = tensor.ndim > 1 and not name.endswith(("lora_A", "lora_B"))
        if mode == "frozen" or fixed or (mode == "norm_and_bias" and (statistics or weights)):
            names.add(name)
    return names
