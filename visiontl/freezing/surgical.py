"""More freeze policies, on offer as those of `policies` are: probe then everything, any set of stages, and low-rank
adapters. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visiontl.errors import PolicyError, did_you_mean
from visiontl.hookspecs import Mode, Policy, PolicyFactory, hookimpl


@dataclass(frozen=True)
class ProbeThenAll:
    """{lp_ft: k}: the head alone for k epochs, then everything at a tenth of the learning rates (Kumar et al. 2022,
    Fine-tuning can distort pretrained features, sec. 4). {lp_ft: {epochs: k, rate: 0.1}} says the share."""

    epochs: int
    rate: float = 0.1

    @property
    def edges(self) -> tuple[int, ...]:
        """The epoch at which everything begins to train."""
        return (self.epochs,)

    def pace(self, epoch: int) -> float:
        """What all learning rates are multiplied by in an epoch."""
        return 1.0 if epoch < self.epochs else self.rate

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        return dict.fromkeys(stages, "frozen" if epoch < self.epochs else "train")


@dataclass(frozen=True)
class Only:
    """{only: [stage, ...]}: these stages train and all others are frozen (surgical fine-tuning, Lee et al. 2023)."""

    chosen: tuple[str, ...]

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        for stage in self.chosen:
            if stage not in stages:
                raise PolicyError(
                    f"freeze.policy: only: {stage!r} is none of the stages that the loss reads "
                    f"({', '.join(stages)}){did_you_mean(stage, stages)}"
                )
        if set(self.chosen) == set(stages):
            raise PolicyError("freeze.policy: only: names every stage that is read, so nothing is frozen; use none")
        return {stage: "train" if stage in self.chosen else "frozen" for stage in stages}


@dataclass(frozen=True)
class Lora:
    """{lora: {rank: 8, alpha: 16, targets: ["*"]}}: low-rank adapters beside frozen linear and 1 x 1 convolution layers
    train, and norm layers' weights (Hu et al. 2021); norm statistics stay fixed. targets: patterns of module names;
    start: a folder with an adapter in peft's format to begin with; dora: true: rows have a magnitude beside it (Liu et
    al. 2024)."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("*",)
    start: str | None = None
    dora: bool = False

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        return dict.fromkeys(stages, "norm_and_bias")  # where there are adapters: these and the norms


@dataclass(frozen=True)
class Auto:
    """{auto: {stages: 1, batches: 8}}: the stages with the largest gradients for their weights train and all others are
    frozen; measured on a few batches before training (Lee et al. 2023, Auto-RGN). {auto: k}: k stages."""

    stages: int = 1
    batches: int = 8

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        raise PolicyError("freeze.policy: auto is decided by the gradients of a run; `only` names stages")


def chosen_by(halves: Sequence[Mapping[str, float]], count: int) -> tuple[str, ...]:
    """The `count` stages of the largest signal, stem first. halves: {stage: signal} of two halves of the batches; 0
    where the gradients of batches have no common direction. Raises PolicyError where the two do not agree."""
    if not 1 <= count < len(halves[0]):
        raise PolicyError(
            f"freeze.policy: auto: {count} of {len(halves[0])} stages ({', '.join(halves[0])}): give 1 to "
            f"{len(halves[0]) - 1}, or use none"
        )
    found = [sorted(half, key=lambda stage: -half[stage])[:count] for half in halves]
    silent = [stage for half, names in zip(halves, found, strict=True) for stage in names if half[stage] <= 0]
    if silent or set(found[0]) != set(found[1]):
        why = f"{silent[0]} has no gradient above its noise" if silent else "its two halves of the batches disagree"
        raise PolicyError(
            f"freeze.policy: auto cannot tell: {why} ({', '.join(found[0])} against {', '.join(found[1])}); raise "
            "its batches, or name stages with only"
        )
    return tuple(stage for stage in halves[0] if stage in found[0])


def _refused(name: str, expected: str, argument: Any) -> PolicyError:
    return PolicyError(f"freeze.policy: {name} takes {expected}; got {argument!r:.200}")


def _whole(value: Any) -> bool:
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdecimal())
    )


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def lp_ft(argument: Any = None) -> Policy:
    values = {"rate": 0.1, **(dict(argument) if isinstance(argument, Mapping) else {"epochs": argument})}
    if set(values) != {"epochs", "rate"} or not _whole(values["epochs"]) or not 1 <= int(values["epochs"]) < 10**6:
        raise _refused("lp_ft", "epochs of the probe, as {lp_ft: 5} or {lp_ft: {epochs: 5, rate: 0.1}}", argument)
    if not _positive(values["rate"]) or values["rate"] > 1:
        raise _refused("lp_ft", "a rate above 0 and at most 1, a share of the learning rates", argument)
    return ProbeThenAll(int(values["epochs"]), float(values["rate"]))


def only(argument: Any = None) -> Policy:
    names = [name.strip() for name in argument.split(",")] if isinstance(argument, str) else argument
    if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) and one for one in names):
        raise _refused("only", "names of stages, such as {only: [layer1]}", argument)
    return Only(tuple(dict.fromkeys(names)))


def lora(argument: Any = None) -> Policy:
    expected = "{rank: 8, alpha: 16, targets: [PATTERN, ...], start: FOLDER, dora: false}, each optional"
    values = {} if argument is None else {"rank": argument} if _whole(argument) else argument
    if not isinstance(values, Mapping) or set(values) - {"rank", "alpha", "targets", "start", "dora"}:
        raise _refused("lora", expected, argument)
    values = dict(values)
    rank = values.get("rank", 8)
    if not _whole(rank) or not 1 <= int(rank) <= 4096:
        raise _refused("lora", "a rank of 1 or more", rank)
    alpha = values.get("alpha", 2 * int(rank))
    if not _positive(alpha) or alpha > 1e6:  # beyond it the first update is no number
        raise _refused("lora", "an alpha above 0, at most 1e6, by which the adapter is multiplied over its rank", alpha)
    targets = values.get("targets", ["*"])
    targets = [targets] if isinstance(targets, str) else targets
    if not isinstance(targets, list | tuple) or not targets or not all(isinstance(one, str) and one for one in targets):
        raise _refused("lora", "targets, patterns of module names such as ['*.attn.qkv']", targets)
    start = values.get("start")
    if start is not None and not (isinstance(start, str) and start):
        raise _refused("lora", "start, the folder of an adapter", start)
    dora = values.get("dora", False)
    if not isinstance(dora, bool):
        raise _refused("lora", "dora: true or false", dora)
    return Lora(int(rank), float(alpha), tuple(targets), start, dora)


def auto(argument: Any = None) -> Policy:
    values = {} if argument is None else argument if isinstance(argument, Mapping) else {"stages": argument}
    counts = {"stages": 1, "batches": 8, **values}
    wrong = set(counts) != {"stages", "batches"} or not all(map(_whole, counts.values()))
    if wrong or not 1 <= int(counts["stages"]) < 10**6 or not 4 <= int(counts["batches"]) <= 10_000:
        raise _refused("auto", "{stages: 1, batches: 8}, whole numbers, of batches 4 or more", argument)
    return Auto(int(counts["stages"]), int(counts["batches"]))


lp_ft.__doc__, only.__doc__, lora.__doc__, auto.__doc__ = (
    policy.__doc__ for policy in (ProbeThenAll, Only, Lora, Auto)
)


@hookimpl
def visiontl_freeze_policies() -> Mapping[str, PolicyFactory]:
    return {"lp_ft": lp_ft, "only": only, "auto": auto, "lora": lora}
