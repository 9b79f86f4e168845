"""A task on its example data with the bundled backbone, small enough to train in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from visiontl import plugins
from visiontl.config.resolve import Resolved, resolve
from visiontl.engine.example import with_example
from visiontl.engine.prepare import Run, set_up
from visiontl.errors import PolicyError
from visiontl.freezing.layout import HEAD, backbone_prefix
from visiontl.report.console import Console

# fp32 and contiguous: what is compared bit for bit must not depend on the machine's choice of precision
SETTINGS: dict[str, Any] = {
    "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 64},
    "train": {
        "epochs": 2,
        "batch_size": 4,
        "precision": "fp32",
        "channels_last": False,
        "log_every": 1,
        "checkpoint_every": "1 epoch",
    },
    "features": {"cache": "off"},
    "optim": {"lr": 0.01, "backbone_scale": 1.0},
    "loader": {"workers": 0},
}


@dataclass(frozen=True)
class Case:
    """task: a task's name; folder: where example data and runs go; section: more keys of its `task:` section;
    settings: overrides of every run."""

    task: str
    folder: Path
    section: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()

    def resolved(self, *overrides: str) -> Resolved:
        config = {
            "task": {"name": self.task, "data": "example", **plugins.task(self.task).small, **self.section},
            **SETTINGS,
            "run": {"folder": str(self.folder / "runs")},
        }
        return with_example(resolve(config, (*self.settings, *overrides)), Console(main=False))

    def refusal(self, policy: str) -> str | None:
        """Why the task refuses a freeze policy, as a config writes it, or None."""
        refuse, resolved = plugins.task(self.task).refuse, self.resolved()
        name = policy.strip("{").partition(":")[0].strip()
        return refuse(resolved.cfg, name) if refuse else None

    def policies(self, wanted: Sequence[str]) -> list[str]:
        """Those of the policies that the task does not refuse, and that fit the stages which its loss reads;
        AssertionError where none is left."""
        left = [policy for policy in wanted if self.refusal(policy) is None and self._fits(policy)]
        assert left, f"{self.task} refuses every freeze policy of {', '.join(wanted)}"
        return left

    def _fits(self, policy: str) -> bool:
        try:
            for epoch in (0, 1):
                plugins.policy(yaml.safe_load(policy))(epoch, self._read)
        except PolicyError:
            return False
        return True

    @cached_property
    def _read(self) -> tuple[str, ...]:
        """The stages of the bundled backbone that the loss reads."""
        open_to_all = next(policy for policy in ("none", "norm_and_bias", "all") if self.refusal(policy) is None)
        return self.run(f"freeze.policy={open_to_all}").layout.stages

    def run(self, *overrides: str, limit: int | None = None) -> Run:
        return set_up(self.resolved(*overrides), limit)


def state(run: Run) -> dict[str, Tensor]:
    """A copy of all parameters and buffers."""
    return {name: tensor.detach().clone() for name, tensor in run.built.model.state_dict().items()}


def stage_states(run: Run) -> dict[str, dict[str, Tensor]]:
    """stage (or "head") -> {name: copy of the parameter or buffer}; preprocessing constants left out."""
    prefix = backbone_prefix(run.built.model, run.built.backbone)
    staged: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state(run).items():
        inner = name[len(prefix) :]
        stage = run.built.backbone.stage_of.get(inner, "") if name.startswith(prefix) else HEAD
        if stage:
            staged.setdefault(stage, {})[name] = tensor
    return staged


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names whose values differ in any bit (NaN equals NaN)."""
    assert a.keys() == b.keys(), f"other names: {sorted(a.keys() ^ b.keys())[:4]}"
    return [name for name in a if not torch.equal(a[name].nan_to_num(), b[name].nan_to_num())]
