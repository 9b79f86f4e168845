"""Freeze policies: pure functions of the epoch and the stages that the loss reads. Imports no torch.

    Policy = (epoch, stages, stem first) -> {stage: "train" | "norm_and_bias" | "frozen"}

A policy is written as a name (`all`), a name with its argument (`{first: 2}`), or, for the command line,
both in one word (`first:2`). The head always trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visiontl.errors import PolicyError, did_you_mean
from visiontl.hookspecs import Mode, Policy, PolicyFactory, hookimpl


def cut(stages: Sequence[str], frozen: int) -> dict[str, Mode]:
    """The first `frozen` stages frozen, the rest training."""
    return {stage: "frozen" if i < frozen else "train" for i, stage in enumerate(stages)}


@dataclass(frozen=True)
class NoFreeze:
    """none: every stage trains."""

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        return cut(stages, 0)


@dataclass(frozen=True)
class FreezeAll:
    """all: the whole backbone is frozen; only the head trains (linear probe)."""

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        return cut(stages, len(stages))


@dataclass(frozen=True)
class NormAndBias:
    """norm_and_bias: only norm layers' weights and all biases train; norm statistics stay fixed."""

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        return dict.fromkeys(stages, "norm_and_bias")


@dataclass(frozen=True)
class First:
    """{first: n}: the first n stages are frozen, stem included; 0 < n < 1 is a fraction of the stages."""

    count: float

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        count = round(self.count * len(stages)) if self.count < 1 else int(self.count)
        if not 1 <= count <= len(stages):
            raise PolicyError(
                f"freeze.policy: first: {self.count:g} freezes {count} of {len(stages)} stages "
                f"({', '.join(stages)}); give 1 to {len(stages)}, or use none"
            )
        return cut(stages, count)


@dataclass(frozen=True)
class Until:
    """{until: stage}: every stage before the named one is frozen; it and the deeper ones train."""

    stage: str

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        if self.stage not in stages:
            raise PolicyError(
                f"freeze.policy: until: {self.stage!r} is none of the stages that the loss reads "
                f"({', '.join(stages)}){did_you_mean(self.stage, stages)}"
            )
        index = list(stages).index(self.stage)
        if index == 0:
            raise PolicyError(
                f"freeze.policy: until: {self.stage!r} is the first stage, so nothing is frozen; use none"
            )
        return cut(stages, index)


@dataclass(frozen=True)
class Gradual:
    """{gradual: k}: the head alone for k epochs, then one more stage every k epochs, deepest first
    (Howard and Ruder 2018, ULMFiT, sec. 3.3). {gradual: {every: k, stages: m}} thaws m stages at a time."""

    every: int
    stages: int = 1

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        thawed = min(len(stages), epoch // self.every * self.stages)
        return cut(stages, len(stages) - thawed)


@dataclass(frozen=True)
class Schedule:
    """{schedule: {0: all, 1: stage, 3: none}}: from each epoch on the policy beside it; a bare stage name
    means until that stage."""

    entries: tuple[tuple[int, Policy], ...]

    @property
    def edges(self) -> tuple[int, ...]:
        """Epochs at which a change is declared; each must change something."""
        return tuple(epoch for epoch, _ in self.entries[1:])

    def __call__(self, epoch: int, stages: Sequence[str]) -> Mapping[str, Mode]:
        current = max((start for start, _ in self.entries if start <= epoch), default=0)
        return dict(self.entries)[current](epoch - current, stages)


def _no_argument(name: str, policy: Callable[[], Policy]) -> PolicyFactory:
    def factory(argument: Any = None) -> Policy:
        if argument is not None:
            raise PolicyError(f"freeze.policy: {name} takes no argument; got {argument!r}")
        return policy()

    factory.__doc__ = policy.__doc__
    return factory


def _number(name: str, argument: Any) -> float:
    try:
        if isinstance(argument, bool) or not math.isfinite(float(argument)):
            raise ValueError
        return float(argument)
    except (TypeError, ValueError):
        raise PolicyError(f"freeze.policy: {name} takes a number, such as {{{name}: 2}}; got {argument!r}") from None


def first(argument: Any = None) -> Policy:
    count = _number("first", argument)
    if count <= 0 or (count > 1 and count != int(count)):
        raise PolicyError(f"freeze.policy: first takes a count of stages, or a fraction below 1; got {argument!r}")
    return First(count)


def until(argument: Any = None) -> Policy:
    if not isinstance(argument, str) or not argument:
        raise PolicyError(f"freeze.policy: until takes a stage's name, such as {{until: layer4}}; got {argument!r}")
    return Until(argument)


def gradual(argument: Any = None) -> Policy:
    values = dict(argument) if isinstance(argument, Mapping) else {"every": argument}
    unknown = set(values) - {"every", "stages"}
    if unknown:
        raise PolicyError(f"freeze.policy: gradual takes `every` and `stages`; got {', '.join(map(str, unknown))}")
    counts = {key: _number("gradual", value) for key, value in {"stages": 1, **values}.items()}
    if "every" not in counts or any(value < 1 or value != int(value) for value in counts.values()):
        raise PolicyError(f"freeze.policy: gradual takes whole numbers of at least 1; got {argument!r}")
    return Gradual(int(counts["every"]), int(counts["stages"]))


def schedule(argument: Any = None) -> Policy:
    if not isinstance(argument, Mapping) or not argument:
        raise PolicyError(
            f"freeze.policy: schedule takes epochs with policies, such as {{schedule: {{0: all, 1: none}}}}; "
            f"got {argument!r}"
        )
    entries = []
    for key, value in argument.items():
        if isinstance(key, bool) or not str(key).isdecimal():
            raise PolicyError(f"freeze.policy: schedule: {key!r} is no epoch; epochs are 0, 1, 2 ...")
        nested = isinstance(value, str) and _split(value)[0] not in FACTORIES
        entries.append((int(key), Until(value) if nested else make_policy(value)))
    entries.sort(key=lambda entry: entry[0])
    if entries[0][0] != 0:
        raise PolicyError(f"freeze.policy: schedule must begin at epoch 0; it begins at {entries[0][0]}")
    if len({epoch for epoch, _ in entries}) < len(entries):
        raise PolicyError("freeze.policy: schedule names an epoch twice")
    return Schedule(tuple(entries))


first.__doc__, until.__doc__, gradual.__doc__, schedule.__doc__ = (
    policy.__doc__ for policy in (First, Until, Gradual, Schedule)
)

FACTORIES: dict[str, PolicyFactory] = {
    "none": _no_argument("none", NoFreeze),
    "all": _no_argument("all", FreezeAll),
    "first": first,
    "until": until,
    "gradual": gradual,
    "schedule": schedule,
    "norm_and_bias": _no_argument("norm_and_bias", NormAndBias),
}


@hookimpl
def visiontl_freeze_policies() -> Mapping[str, PolicyFactory]:
    return FACTORIES


def _split(value: str) -> tuple[str, Any]:
    name, colon, argument = value.partition(":")
    return name.strip(), (argument.strip() if colon else None)


def make_policy(value: str | Mapping[str, Any], factories: Mapping[str, PolicyFactory] = FACTORIES) -> Policy:
    """What stands in the config -> the policy. Raises PolicyError naming the closest policy."""
    if value is None:  # YAML reads a bare `null`; people also mean none by it
        value = "none"
    if isinstance(value, Mapping):
        if len(value) != 1:
            raise PolicyError(f"freeze.policy: one name with its argument was expected; got {dict(value)!r}")
        ((name, argument),) = value.items()
    else:
        name, argument = _split(str(value))
    if name not in factories:
        raise PolicyError(f"freeze.policy: {name!r} is no policy{did_you_mean(str(name), factories)}")
    return factories[name](argument)


def describe(value: str | Mapping[str, Any]) -> str:
    """The policy as one would write it on the command line."""
    if isinstance(value, Mapping):
        ((name, argument),) = value.items()
        return f"{name}: {argument}"
    return str(value)
