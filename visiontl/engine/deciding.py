"""A freeze policy that batches decide: measured once, before training, and kept in the run's folder."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from visiontl import plugins
from visiontl.config.resolve import Resolved
from visiontl.engine import loader
from visiontl.engine.caching import answered
from visiontl.engine.device import to_device
from visiontl.engine.model import Built
from visiontl.engine.order import Orders, fetched
from visiontl.engine.rows import in_fp32
from visiontl.engine.start import newest_checkpoint
from visiontl.errors import CheckpointError
from visiontl.freezing.apply import set_gradients, set_training
from visiontl.freezing.layout import HEAD, Layout
from visiontl.freezing.policies import Mode, Policy
from visiontl.freezing.surgical import Auto, Only, chosen_by
from visiontl.processes import ranks
from visiontl.processes.seeds import INIT, mix, seeded
from visiontl.report.console import Console
from visiontl.report.formats import cell
from visiontl.runs import store
from visiontl.runs.files import write_text
from visiontl.task import Data

FILE = "policy.json"  # of a run whose policy was decided
ROUNDS = 5  # passes over the batches in which the head learns before gradients are measured


def policy_of(
    accelerator: Accelerator, built: Built, found: Data, orders: Orders, layout: Layout, console: Console
) -> Policy:
    """What freeze.policy says; where batches decide it, what they did when the run began. Raises PolicyError where they
    cannot tell, CheckpointError where a run that goes on has lost what was decided."""
    config = built.resolved.config
    policy = plugins.policy(config.freeze.policy)
    if not isinstance(policy, Auto):
        return policy
    if config.resume is not None and (Path(config.resume) / FILE).is_file():
        return plugins.policy(store.read_json(Path(config.resume), FILE))
    if ranks.on_main(lambda: newest_checkpoint(config.resume) is not None):
        raise CheckpointError(f"{config.resume}: {FILE} is gone, which says what auto decided; put it back")

    def decide() -> tuple[str, ...]:
        count = min(policy.batches, orders.steps_per_epoch)
        batches = [batch_of(built, found, fetched(orders(0).group(i)[0], 0), accelerator) for i in range(count)]
        with seeded(mix(config.train.seed, INIT, 3)):
            halves = signals(accelerator, built, layout, batches)
        mean = {stage: (halves[0][stage] + halves[1][stage]) / 2 for stage in layout.stages}
        order = sorted(mean, key=lambda stage: -mean[stage])
        told = ", ".join(f"{stage} {cell(mean[stage])}" for stage in order)
        console.say(f"freeze.policy auto: gradient relative to weights, of {count} batches: {told}", keep=True)
        return chosen_by(halves, policy.stages)

    stages = ranks.on_main(decide)
    console.say(f"freeze.policy auto: {', '.join(stages)} {'trains' if len(stages) == 1 else 'train'}", keep=True)
    return Only(stages)


def pace(resolved: Resolved, epoch: int) -> float:
    """What the policy multiplies all learning rates by in the phase that begins at an epoch: its own `pace(epoch)`,
    where it has one."""
    policy = plugins.policy(resolved.config.freeze.policy)
    return float(policy.pace(epoch)) if hasattr(policy, "pace") else 1.0  # type: ignore[reportAttributeAccessIssue]


def keep(folder: Path, resolved: Resolved, modes: Mapping[str, Mode]) -> None:
    """What was decided, beside the config. modes: of the run's stages."""
    if isinstance(plugins.policy(resolved.config.freeze.policy), Auto):
        write_text(folder / FILE, json.dumps({"only": [stage for stage, mode in modes.items() if mode == "train"]}))


def batch_of(built: Built, found: Data, ids: tuple[int, ...], accelerator: Accelerator) -> dict[str, Any]:
    assert found.train is not None
    parts = (built.resolved.task.collate, built.resolved.cfg, built.meta, built.resolved.config.train.seed)
    return to_device(answered(loader.Batches(found.train, *parts, training=True)[ids, 0, 0]), accelerator.device)


def signals(
    accelerator: Accelerator, built: Built, layout: Layout, batches: Sequence[dict[str, Any]]
) -> list[dict[str, float]]:
    """{stage: signal} of the even and of the odd batches, in a copy of the model whose head has learned from them.

    The signal of a stage is the size of the gradient that its batches have in common, relative to that of its weights:
    sqrt((n |mean g|^2 - mean |g|^2) / (n - 1)) / |w|, the square an unbiased estimate over n batches, 0 below 0.
    """
    copied = built.averaged(copy.deepcopy(built.model))
    weights = dict(copied.model.named_parameters())
    head, lr = list(layout.members[HEAD]), built.resolved.config.optim.lr
    if head:
        set_training(copied.model, copied.backbone, dict.fromkeys(layout.stages, "frozen"), "fixed")
        set_gradients(copied.model, head)
        optimizer = torch.optim.Adam([weights[name] for name in head], lr=lr)
        for batch in [*batches] * ROUNDS:
            optimizer.zero_grad()
            loss_of(accelerator, copied, batch).backward()
            optimizer.step()
    set_training(copied.model, copied.backbone, dict.fromkeys(layout.stages, "norm_and_bias"), "fixed")
    body = [name for stage in layout.stages for name in layout.members[stage]]
    set_gradients(copied.model, body)
    found: list[dict[str, float]] = []
    for half in (batches[::2], batches[1::2]):
        sums = {name: torch.zeros_like(weights[name]) for name in body}
        squares = dict.fromkeys(layout.stages, 0.0)
        for batch in half:
            copied.model.zero_grad()
            loss_of(accelerator, copied, batch).backward()
            for stage in layout.stages:
                for name in layout.members[stage]:
                    gradient = weights[name].grad
                    if gradient is not None:
                        sums[name] += gradient
                        squares[stage] += float(gradient.double().square().sum())
        found.append(
            {
                stage: signal(
                    [sums[name] for name in members], squares[stage], len(half), [weights[n] for n in members]
                )
                for stage, members in layout.members.items()
                if stage != HEAD
            }
        )
    return found


def signal(sums: Sequence[Tensor], squares: float, count: int, weights: Sequence[Tensor]) -> float:
    """sums: of the gradients of `count` batches; squares: the sum of their squared norms."""
    common = sum(float((one.double() / count).square().sum()) for one in sums)
    size = sum(float(one.detach().double().square().sum()) for one in weights)
    estimate = (count * common - squares / count) / max(1, count - 1)
    return (max(0.0, estimate) / max(size, 1e-30)) ** 0.5


def loss_of(accelerator: Accelerator, built: Built, batch: dict[str, Any]) -> Tensor:
    with accelerator.autocast():
        outputs = built.model(batch)
    return built.resolved.task.loss(built.resolved.cfg, in_fp32(outputs), batch, built.meta)["loss"]
