"""Image classification, single- and multi-label, as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_classification.config import ClassificationConfig, ExplainOptions, PredictOptions, ranked

TASK = Task(
    name="classification",
    config=ClassificationConfig,
    data=lazy("visiontl_classification.data:data"),
    sample=lazy("visiontl_classification.views:sample"),
    collate=lazy("visiontl_classification.batches:collate"),
    model=lazy("visiontl_classification.model:model"),
    loss=lazy("visiontl_classification.losses:loss"),
    rows=lazy("visiontl_classification.scores:rows"),
    mirrored=lazy("visiontl_classification.predictions:mirrored"),
    score=lazy("visiontl_classification.scores:score"),
    best=("accuracy", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_classification.scores:trivial"),
    predict=lazy("visiontl_classification.predictions:predict"),
    options=PredictOptions,
    draw=lazy("visiontl_classification.predictions:draw"),
    report=lazy("visiontl_classification.charts:report"),
    mistakes=lazy("visiontl_classification.explain:mistakes"),
    teach=lazy("visiontl_classification.losses:teach"),
    explain=lazy("visiontl_classification.explain:explain"),
    explain_options=ExplainOptions,
    probe=lazy("visiontl_classification.data:probe"),
    export=lazy("visiontl_classification.exporting:export"),
    check=lazy("visiontl_classification.checks:check"),
    parts=lazy("visiontl_classification.parts:parts"),
    keep=lazy("visiontl_classification.keeping:keep"),
    example=lazy("visiontl_classification.example:example"),
    samples={
        name: lazy(f"visiontl_classification.samples:{name}") for name in ("folders", "table", "multi", "columns")
    },
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
