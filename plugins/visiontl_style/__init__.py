"""Neural style transfer as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_style.commands import COMMANDS
from visiontl_style.config import PredictOptions, StyleConfig, ranked, refuse

TASK = Task(
    name="style",
    config=StyleConfig,
    data=lazy("visiontl_style.data:data"),
    sample=lazy("visiontl_style.views:sample"),
    collate=lazy("visiontl_style.batches:collate"),
    model=lazy("visiontl_style.model:model"),
    loss=lazy("visiontl_style.losses:loss"),
    rows=lazy("visiontl_style.scores:rows"),
    score=lazy("visiontl_style.scores:score"),
    best=("objective", "min"),
    ranked=ranked,
    trivial=lazy("visiontl_style.scores:trivial"),
    predict=lazy("visiontl_style.predictions:predict"),
    options=PredictOptions,
    draw=lazy("visiontl_style.predictions:draw"),
    report=lazy("visiontl_style.charts:report"),
    preview=lazy("visiontl_style.charts:preview"),
    export=lazy("visiontl_style.exporting:export"),
    refuse=refuse,
    check=lazy("visiontl_style.checks:check"),
    example=lazy("visiontl_style.example:example"),
    samples={name: lazy(f"visiontl_style.samples:{name}") for name in ("folders", "file", "adain")},
    # small weights, so that plain SGD at the checks' rate does not run away
    small={
        "width": 4,
        "blocks": 1,
        "size": 48,
        "crop": 48,
        "style_size": 48,
        "jitter": 0,
        "content_weight": 0.01,
        "style_weight": 0.04,
        "tv_weight": 0.02,
    },
    defaults={"freeze.policy": "all"},
    commands=COMMANDS,
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
