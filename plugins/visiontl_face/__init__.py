"""Face embedding: train, verify, identify, as a visiontl task. This module imports no torch."""

from __future__ import annotations

from visiontl import Task, hookimpl, lazy
from visiontl_face.commands import COMMANDS
from visiontl_face.config import ExplainOptions, FaceConfig, PredictOptions, ranked

LIMITS = (
    "Such systems must not be used to identify or track people in public, to score or sort people, to guess traits or "
    "character, or as the only ground for a decision about someone. Their accuracy differs between groups of people: "
    "measure it on your own, a `group` column gives AUC, false matches and false non-matches per group at one "
    "threshold."
)  # the README's own

TASK = Task(
    name="face",
    config=FaceConfig,
    data=lazy("visiontl_face.data:data"),
    sample=lazy("visiontl_face.views:sample"),
    collate=lazy("visiontl_face.batches:collate"),
    model=lazy("visiontl_face.model:model"),
    start=lazy("visiontl_face.start:start"),
    loss=lazy("visiontl_face.losses:loss"),
    rows=lazy("visiontl_face.scores:rows"),
    mirrored=lazy("visiontl_face.predictions:mirrored"),
    score=lazy("visiontl_face.scores:score"),
    best=("auc", "max"),
    ranked=ranked,
    trivial=lazy("visiontl_face.scores:trivial"),
    predict=lazy("visiontl_face.predictions:predict"),
    options=PredictOptions,
    report=lazy("visiontl_face.charts:report"),
    mistakes=lazy("visiontl_face.explain:mistakes"),
    teach=lazy("visiontl_face.losses:teach"),
    explain=lazy("visiontl_face.explain:explain"),
    explain_options=ExplainOptions,
    probe=lazy("visiontl_face.data:probe"),
    export=lazy("visiontl_face.exporting:export"),
    check=lazy("visiontl_face.checks:check"),
    example=lazy("visiontl_face.example:example"),
    samples={name: lazy(f"visiontl_face.samples:{name}") for name in ("folders", "table", "pairs", "lfw")},
    small={"dimension": 32, "flip": False},
    # the neck starts from features with the pretrained statistics; moving ones would take them away from under it
    defaults={"train.evaluate_start": True, "freeze.norm_stats": "fixed"},
    commands=COMMANDS,
    limits=LIMITS,
)


@hookimpl
def visiontl_tasks() -> list[Task]:
    return [TASK]
