"""Several tasks at once on one backbone, as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_multi.commands import COMMANDS
from visiontl_multi.config import ExplainOptions, MultiConfig, PredictOptions, ranked, refuse

TASK = Task(
    name="multi",
    config=MultiConfig,
    data=lazy("visiontl_multi.data:data"),
    sample=lazy("visiontl_multi.views:sample"),
    collate=lazy("visiontl_multi.batches:collate"),
    model=lazy("visiontl_multi.model:model"),
    loss=lazy("visiontl_multi.losses:loss"),
    rows=lazy("visiontl_multi.scores:rows"),
    mirrored=lazy("visiontl_multi.predictions:mirrored"),
    score=lazy("visiontl_multi.scores:score"),
    best=("mean", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_multi.scores:trivial"),
    start=lazy("visiontl_multi.starts:start"),
    predict=lazy("visiontl_multi.predictions:predict"),
    options=PredictOptions,
    files=lazy("visiontl_multi.predictions:files"),
    draw=lazy("visiontl_multi.predictions:draw"),
    export=lazy("visiontl_multi.exporting:export"),
    report=lazy("visiontl_multi.charts:report"),
    preview=lazy("visiontl_multi.charts:preview"),
    mistakes=lazy("visiontl_multi.explain:mistakes"),
    explain=lazy("visiontl_multi.explain:explain"),
    explain_options=ExplainOptions,
    refuse=refuse,
    check=lazy("visiontl_multi.checks:check"),
    example=lazy("visiontl_multi.example:example"),
    opens=lazy("visiontl_multi.opening:opens"),
    samples={"largest": lazy("visiontl_multi.samples:largest")},
    small={
        "tasks": {
            "label": {"name": "classification", "augment": "none"},
            "mask": {"name": "segmentation", "augment": "none", "decoder": {"name": "unet", "width": 32}},
        }
    },
    commands=COMMANDS,
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
