"""Semantic segmentation as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_segmentation.config import ExplainOptions, PredictOptions, SegmentationConfig, ranked
from visiontl_segmentation.wholes import NAMES

TASK = Task(
    name="segmentation",
    config=SegmentationConfig,
    data=lazy("visiontl_segmentation.data:data"),
    sample=lazy("visiontl_segmentation.views:sample"),
    collate=lazy("visiontl_segmentation.batches:collate"),
    model=lazy("visiontl_segmentation.model:model"),
    loss=lazy("visiontl_segmentation.losses:loss"),
    rows=lazy("visiontl_segmentation.scores:rows"),
    mirrored=lazy("visiontl_segmentation.predictions:mirrored"),
    scaled=lazy("visiontl_segmentation.predictions:in_sizes"),
    score=lazy("visiontl_segmentation.scores:score"),
    best=("miou", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_segmentation.scores:trivial"),
    predict=lazy("visiontl_segmentation.predictions:predict"),
    options=PredictOptions,
    files=lazy("visiontl_segmentation.predictions:files"),
    draw=lazy("visiontl_segmentation.drawing:draw"),
    report=lazy("visiontl_segmentation.charts:report"),
    mistakes=lazy("visiontl_segmentation.explain:mistakes"),
    teach=lazy("visiontl_segmentation.losses:teach"),
    explain=lazy("visiontl_segmentation.explain:explain"),
    explain_options=ExplainOptions,
    probe=lazy("visiontl_segmentation.data:probe"),
    export=lazy("visiontl_segmentation.exporting:export"),
    check=lazy("visiontl_segmentation.checks:check"),
    example=lazy("visiontl_segmentation.example:example"),
    samples={
        name: lazy(f"visiontl_segmentation.samples:{name}")
        for name in ("index", "palette", "color", "binary", "coco", "voc")
    },
    whole=lazy("visiontl_segmentation.whole:whole"),
    wholes=NAMES,
    parts=lazy("visiontl_segmentation.whole:parts"),
    small={"decoder": {"name": "unet", "width": 32}},
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
