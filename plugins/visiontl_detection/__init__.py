"""Object detection as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_detection.config import DetectionConfig, ExplainOptions, PredictOptions, ranked
from visiontl_detection.wholes import NAMES

TASK = Task(
    name="detection",
    config=DetectionConfig,
    data=lazy("visiontl_detection.data:data"),
    sample=lazy("visiontl_detection.views:sample"),
    collate=lazy("visiontl_detection.batches:collate"),
    model=lazy("visiontl_detection.model:model"),
    loss=lazy("visiontl_detection.losses:loss"),
    rows=lazy("visiontl_detection.scores:rows"),
    mirrored=lazy("visiontl_detection.predictions:with_mirror"),
    score=lazy("visiontl_detection.scores:score"),
    best=("mAP", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_detection.scores:trivial"),
    predict=lazy("visiontl_detection.predictions:predict"),
    options=PredictOptions,
    draw=lazy("visiontl_detection.drawing:draw"),
    files=lazy("visiontl_detection.predictions:files"),
    report=lazy("visiontl_detection.charts:report"),
    mistakes=lazy("visiontl_detection.explain:mistakes"),
    explain=lazy("visiontl_detection.explain:explain"),
    explain_options=ExplainOptions,
    probe=lazy("visiontl_detection.data:probe"),
    export=lazy("visiontl_detection.exporting:export"),
    check=lazy("visiontl_detection.checks:check"),
    example=lazy("visiontl_detection.example:example"),
    samples={name: lazy(f"visiontl_detection.samples:{name}") for name in ("coco", "voc", "yolo")},
    small={"fpn_width": 32, "box_width": 32, "regions": 32},
    whole=lazy("visiontl_detection.whole:whole"),
    wholes=NAMES,
    parts=lazy("visiontl_detection.whole:parts"),
    keep=lazy("visiontl_detection.keeping:keep"),
    defaults={"freeze.norm_stats": "fixed"},
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
