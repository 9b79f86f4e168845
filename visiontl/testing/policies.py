"""What a freeze policy on offer promises, one clause a check. Each takes its name and factory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from visiontl.errors import PolicyError
from visiontl.hookspecs import Mode, Policy, PolicyFactory

STAGES = (
    ("stem", "stage1", "stage2", "stage3", "final"),
    ("stem", "blocks.0", "blocks.1", "blocks.2-3"),
    ("stem", "layer1"),
)
ARGUMENTS: tuple[Any, ...] = (None, 1, 2, 0.5, "layer1", "stage2", {"every": 1}, {0: "all", 1: "none"}, True)
NONSENSE: tuple[Any, ...] = (-1, "no such stage", [], {}, {"x": {"y": 1}}, float("nan"), 10**9, object())
EPOCHS = range(6)
MODES = get_args(Mode)


def made(factory: PolicyFactory) -> Iterator[tuple[Any, Policy]]:
    """The policies that it makes of usual arguments."""
    for argument in ARGUMENTS:
        try:
            yield argument, factory(copy.deepcopy(argument))
        except PolicyError:
            continue


def answered(policy: Policy, epoch: int, stages: tuple[str, ...]) -> Mapping[str, Any] | None:
    try:
        return policy(epoch, list(stages))
    except PolicyError:
        return None  # stages that it cannot serve


def names_the_stages_it_is_given(name: str, factory: PolicyFactory) -> None:
    """A policy names each stage that it is given once, and no other, with train, norm_and_bias or frozen."""
    served = 0
    for argument, policy in made(factory):
        for stages in STAGES:
            for epoch in EPOCHS:
                modes = answered(policy, epoch, stages)
                if modes is None:
                    continue
                served += 1
                place = f"{name}: {argument!r} in epoch {epoch}"
                assert isinstance(modes, Mapping), f"{place}: it gives a {type(modes).__name__}; expected stage: mode"
                unknown = sorted(map(str, set(modes) - set(stages)))
                assert not unknown, f"{place}: it names {', '.join(unknown)}, and the stages are {', '.join(stages)}"
                missing = [stage for stage in stages if stage not in modes]
                assert not missing, f"{place}: it says nothing of {', '.join(missing)}"
                strange = [mode for mode in modes.values() if mode not in MODES]
                assert not strange, f"{place}: {strange[0]!r} is no mode; expected one of {', '.join(MODES)}"
    assert served, f"{name}: it makes a policy of none of {', '.join(map(repr, ARGUMENTS))} for usual stages"


def is_a_pure_function(name: str, factory: PolicyFactory) -> None:
    """A policy is a pure function of epoch and stages: asked again, in another order, or made anew, it says the same,
    and what it was given stays as it was."""
    for argument, policy in made(factory):
        for stages in STAGES:
            first = [answered(policy, epoch, stages) for epoch in EPOCHS]
            kept = [None if one is None else dict(one) for one in first]
            backwards = [answered(policy, epoch, stages) for epoch in reversed(EPOCHS)][::-1]
            anew = factory(copy.deepcopy(argument))
            fresh = [answered(anew, epoch, stages) for epoch in reversed(EPOCHS)][::-1]
            place = f"{name}: {argument!r}"
            for epoch in EPOCHS:
                assert kept[epoch] == backwards[epoch], f"{place}: epoch {epoch} gets another answer when asked again"
                assert kept[epoch] == fresh[epoch], f"{place}: epoch {epoch} gets another answer when made anew"
            given = list(stages)
            for epoch in EPOCHS:
                try:
                    policy(epoch, given)
                except PolicyError:
                    continue
                assert given == list(stages), f"{place}: it changes the list of stages that it is given"


def refuses_nonsense_in_words(name: str, factory: PolicyFactory) -> None:
    """An argument that makes no sense is a PolicyError; no other error comes out of a factory or a policy."""
    for argument in (*ARGUMENTS, *NONSENSE):
        try:
            policy = factory(argument)
            for stages in STAGES:
                answered(policy, 0, stages)
        except PolicyError:
            continue
        except Exception as error:  # a stranger's function
            told = f"{type(error).__name__}: {error}"
            raise AssertionError(f"{name}: {argument!r} ends in {told}; expected a PolicyError in words") from None


CHECKS: list[Callable[[str, PolicyFactory], None]] = [
    names_the_stages_it_is_given,
    is_a_pure_function,
    refuses_nonsense_in_words,
]
