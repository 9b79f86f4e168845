"""The hooks. Those that offer something return values; those that watch get values and cannot touch a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pluggy

if TYPE_CHECKING:
    from visiontl.entry import BackboneEntry
    from visiontl.task import Command, Task

hookspec = pluggy.HookspecMarker("visiontl")
hookimpl = pluggy.HookimplMarker("visiontl")


Mode = Literal["train", "norm_and_bias", "frozen"]


class Policy(Protocol):
    """A freeze policy: what of each stage trains in an epoch. Pure. stages: those that the loss reads, stem first.

    Raises PolicyError for stages that it cannot serve.
    """

    def __call__(self, epoch: int, stages: Sequence[str], /) -> Mapping[str, Mode]: ...


class PolicyFactory(Protocol):
    """What stands beside the policy's name in the config, `freeze.policy: {name: argument}`, or None -> the policy.

    Raises PolicyError for an argument that makes no sense.
    """

    def __call__(self, argument: Any, /) -> Policy: ...


@hookspec
def visiontl_tasks() -> Sequence[Task]:
    """Tasks on offer. Import no torch here (visiontl.lazy helps)."""
    ...


@hookspec
def visiontl_backbones() -> Sequence[BackboneEntry]:
    """Backbones on offer. Build nothing here."""
    ...


@hookspec
def visiontl_freeze_policies() -> Mapping[str, PolicyFactory]:
    """Freeze policies on offer, by name."""
    ...


@hookspec
def visiontl_commands() -> Sequence[Command]:
    """Commands on offer, `visiontl NAME ...`. Import no torch here."""
    ...


@hookspec
def visiontl_started(report: Mapping[str, Any]) -> None:
    """Called once on the main process when all is set up, before the first number of a run or of its continuation.

    report: `run` (its folder), `name` (of the folder), `task`, `status` ("started"), `config` (complete, as YAML text)
    and `settings`, the same as {"optim.lr": 0.001, ...}.
    """


@hookspec
def visiontl_logged(step: int, values: Mapping[str, float]) -> None:
    """Called on the main process whenever numbers are logged. `step` counts optimizer updates."""


@hookspec
def visiontl_finished(report: Mapping[str, Any]) -> None:
    """Called once on the main process when a run has ended, with the content of report.json."""
