"""A self-supervised start on photos without labels, as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_ssl.config import SslConfig, ranked, refuse

TASK = Task(
    name="ssl",
    config=SslConfig,
    data=lazy("visiontl_ssl.data:data"),
    sample=lazy("visiontl_ssl.views:sample"),
    collate=lazy("visiontl_ssl.batches:collate"),
    model=lazy("visiontl_ssl.model:model"),
    loss=lazy("visiontl_ssl.losses:loss"),
    rows=lazy("visiontl_ssl.scores:rows"),
    score=lazy("visiontl_ssl.scores:score"),
    best=("retrieved", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_ssl.scores:trivial"),
    predict=lazy("visiontl_ssl.predictions:predict"),
    report=lazy("visiontl_ssl.charts:report"),
    refuse=refuse,
    example=lazy("visiontl_ssl.example:example"),
    small={"width": 32, "hidden": 16, "color": 0.0, "blur": False},
    defaults={"optim.backbone_scale": 1.0},
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
