"""The hooks. Those that offer something return values; those that watch get values and cannot touch a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

hookspec = pluggy.HookspecMarker("visiontl")
hookimpl = pluggy.HookimplMarker("visiontl")


@hookspec
def visiontl_tasks() -> Sequence[Any]:  # type: ignore[empty-body]
    """Tasks on offer: a list of visiontl.Task. Import no torch here (visiontl.lazy helps)."""


@hookspec
def visiontl_backbones() -> Sequence[Any]:  # type: ignore[empty-body]
    """Backbones on offer: a list of visiontl.BackboneEntry. Build nothing here."""


@hookspec
def visiontl_freeze_policies() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Freeze policies on offer: {name: factory}; factory(argument) -> Policy (see visiontl.freezing.freeze)."""


@hookspec
def visiontl_commands() -> Sequence[Any]:  # type: ignore[empty-body]
    """Commands on offer, `visiontl NAME ...`: a list of visiontl.Command. Import no torch here."""


@hookspec
def visiontl_logged(step: int, values: Mapping[str, float]) -> None:
    """Called on the main process whenever numbers are logged. `step` counts optimizer updates."""


@hookspec
def visiontl_finished(report: Mapping[str, Any]) -> None:
    """Called once on the main process when a run has ended, with the content of report.json."""
