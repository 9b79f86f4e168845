"""The steps of our tasks as plain functions, for pyright: each must be what its protocol says."""

from __future__ import annotations

import visiontl_classification.batches
import visiontl_classification.charts
import visiontl_classification.checks
import visiontl_classification.config
import visiontl_classification.data
import visiontl_classification.example
import visiontl_classification.explain
import visiontl_classification.exporting
import visiontl_classification.keeping
import visiontl_classification.losses
import visiontl_classification.model
import visiontl_classification.parts
import visiontl_classification.predictions
import visiontl_classification.samples
import visiontl_classification.scores
import visiontl_classification.views
import visiontl_detection.batches
import visiontl_detection.charts
import visiontl_detection.checks
import visiontl_detection.config
import visiontl_detection.data
import visiontl_detection.drawing
import visiontl_detection.example
import visiontl_detection.explain
import visiontl_detection.exporting
import visiontl_detection.keeping
import visiontl_detection.losses
import visiontl_detection.model
import visiontl_detection.predictions
import visiontl_detection.samples
import visiontl_detection.scores
import visiontl_detection.views
import visiontl_detection.whole
import visiontl_detection.wholes
import visiontl_face.batches
import visiontl_face.charts
import visiontl_face.checks
import visiontl_face.config
import visiontl_face.data
import visiontl_face.example
import visiontl_face.explain
import visiontl_face.exporting
import visiontl_face.losses
import visiontl_face.model
import visiontl_face.predictions
import visiontl_face.samples
import visiontl_face.scores
import visiontl_face.start
import visiontl_face.views
import visiontl_multi.batches
import visiontl_multi.charts
import visiontl_multi.checks
import visiontl_multi.config
import visiontl_multi.data
import visiontl_multi.example
import visiontl_multi.explain
import visiontl_multi.exporting
import visiontl_multi.losses
import visiontl_multi.model
import visiontl_multi.predictions
import visiontl_multi.scores
import visiontl_multi.starts
import visiontl_multi.views
import visiontl_segmentation.batches
import visiontl_segmentation.charts
import visiontl_segmentation.checks
import visiontl_segmentation.config
import visiontl_segmentation.data
import visiontl_segmentation.drawing
import visiontl_segmentation.example
import visiontl_segmentation.explain
import visiontl_segmentation.exporting
import visiontl_segmentation.losses
import visiontl_segmentation.model
import visiontl_segmentation.predictions
import visiontl_segmentation.samples
import visiontl_segmentation.scores
import visiontl_segmentation.views
import visiontl_segmentation.whole
import visiontl_segmentation.wholes
import visiontl_style.batches
import visiontl_style.charts
import visiontl_style.checks
import visiontl_style.config
import visiontl_style.data
import visiontl_style.example
import visiontl_style.exporting
import visiontl_style.losses
import visiontl_style.model
import visiontl_style.predictions
import visiontl_style.samples
import visiontl_style.scores
import visiontl_style.views

from visiontl import Task

CLASSIFICATION = Task(
    name="classification",
    config=visiontl_classification.config.ClassificationConfig,
    best=("accuracy", "max"),
    data=visiontl_classification.data.data,
    sample=visiontl_classification.views.sample,
    collate=visiontl_classification.batches.collate,
    model=visiontl_classification.model.model,
    loss=visiontl_classification.losses.loss,
    rows=visiontl_classification.scores.rows,
    mirrored=visiontl_classification.predictions.mirrored,
    score=visiontl_classification.scores.score,
    ranked=visiontl_classification.config.ranked,
    trivial=visiontl_classification.scores.trivial,
    probe=visiontl_classification.data.probe,
    teach=visiontl_classification.losses.teach,
    predict=visiontl_classification.predictions.predict,
    export=visiontl_classification.exporting.export,
    draw=visiontl_classification.predictions.draw,
    report=visiontl_classification.charts.report,
    mistakes=visiontl_classification.explain.mistakes,
    explain=visiontl_classification.explain.explain,
    parts=visiontl_classification.parts.parts,
    keep=visiontl_classification.keeping.keep,
    check=visiontl_classification.checks.check,
    example=visiontl_classification.example.example,
    samples={
        "folders": visiontl_classification.samples.folders,
        "table": visiontl_classification.samples.table,
        "multi": visiontl_classification.samples.multi,
        "columns": visiontl_classification.samples.columns,
    },
)
DETECTION = Task(
    name="detection",
    config=visiontl_detection.config.DetectionConfig,
    best=("mAP", "max"),
    data=visiontl_detection.data.data,
    sample=visiontl_detection.views.sample,
    collate=visiontl_detection.batches.collate,
    model=visiontl_detection.model.model,
    loss=visiontl_detection.losses.loss,
    rows=visiontl_detection.scores.rows,
    mirrored=visiontl_detection.predictions.with_mirror,
    score=visiontl_detection.scores.score,
    ranked=visiontl_detection.config.ranked,
    trivial=visiontl_detection.scores.trivial,
    probe=visiontl_detection.data.probe,
    predict=visiontl_detection.predictions.predict,
    export=visiontl_detection.exporting.export,
    draw=visiontl_detection.drawing.draw,
    files=visiontl_detection.predictions.files,
    report=visiontl_detection.charts.report,
    mistakes=visiontl_detection.explain.mistakes,
    explain=visiontl_detection.explain.explain,
    parts=visiontl_detection.whole.parts,
    keep=visiontl_detection.keeping.keep,
    whole=visiontl_detection.whole.whole,
    wholes=visiontl_detection.wholes.NAMES,
    check=visiontl_detection.checks.check,
    example=visiontl_detection.example.example,
    samples={
        "coco": visiontl_detection.samples.coco,
        "voc": visiontl_detection.samples.voc,
        "yolo": visiontl_detection.samples.yolo,
    },
)
FACE = Task(
    name="face",
    config=visiontl_face.config.FaceConfig,
    best=("auc", "max"),
    data=visiontl_face.data.data,
    sample=visiontl_face.views.sample,
    collate=visiontl_face.batches.collate,
    model=visiontl_face.model.model,
    start=visiontl_face.start.start,
    loss=visiontl_face.losses.loss,
    rows=visiontl_face.scores.rows,
    mirrored=visiontl_face.predictions.mirrored,
    score=visiontl_face.scores.score,
    ranked=visiontl_face.config.ranked,
    trivial=visiontl_face.scores.trivial,
    probe=visiontl_face.data.probe,
    teach=visiontl_face.losses.teach,
    predict=visiontl_face.predictions.predict,
    export=visiontl_face.exporting.export,
    report=visiontl_face.charts.report,
    mistakes=visiontl_face.explain.mistakes,
    explain=visiontl_face.explain.explain,
    check=visiontl_face.checks.check,
    example=visiontl_face.example.example,
    samples={
        "folders": visiontl_face.samples.folders,
        "table": visiontl_face.samples.table,
        "pairs": visiontl_face.samples.pairs,
        "lfw": visiontl_face.samples.lfw,
    },
)
MULTI = Task(
    name="multi",
    config=visiontl_multi.config.MultiConfig,
    best=("mean", "max"),
    data=visiontl_multi.data.data,
    sample=visiontl_multi.views.sample,
    collate=visiontl_multi.batches.collate,
    model=visiontl_multi.model.model,
    loss=visiontl_multi.losses.loss,
    rows=visiontl_multi.scores.rows,
    mirrored=visiontl_multi.predictions.mirrored,
    score=visiontl_multi.scores.score,
    ranked=visiontl_multi.config.ranked,
    trivial=visiontl_multi.scores.trivial,
    start=visiontl_multi.starts.start,
    predict=visiontl_multi.predictions.predict,
    draw=visiontl_multi.predictions.draw,
    files=visiontl_multi.predictions.files,
    report=visiontl_multi.charts.report,
    preview=visiontl_multi.charts.preview,
    mistakes=visiontl_multi.explain.mistakes,
    explain=visiontl_multi.explain.explain,
    export=visiontl_multi.exporting.export,
    refuse=visiontl_multi.config.refuse,
    check=visiontl_multi.checks.check,
    example=visiontl_multi.example.example,
)
SEGMENTATION = Task(
    name="segmentation",
    config=visiontl_segmentation.config.SegmentationConfig,
    best=("miou", "max"),
    data=visiontl_segmentation.data.data,
    sample=visiontl_segmentation.views.sample,
    collate=visiontl_segmentation.batches.collate,
    model=visiontl_segmentation.model.model,
    loss=visiontl_segmentation.losses.loss,
    rows=visiontl_segmentation.scores.rows,
    mirrored=visiontl_segmentation.predictions.mirrored,
    scaled=visiontl_segmentation.predictions.in_sizes,
    score=visiontl_segmentation.scores.score,
    ranked=visiontl_segmentation.config.ranked,
    trivial=visiontl_segmentation.scores.trivial,
    probe=visiontl_segmentation.data.probe,
    teach=visiontl_segmentation.losses.teach,
    predict=visiontl_segmentation.predictions.predict,
    export=visiontl_segmentation.exporting.export,
    draw=visiontl_segmentation.drawing.draw,
    files=visiontl_segmentation.predictions.files,
    report=visiontl_segmentation.charts.report,
    mistakes=visiontl_segmentation.explain.mistakes,
    explain=visiontl_segmentation.explain.explain,
    parts=visiontl_segmentation.whole.parts,
    whole=visiontl_segmentation.whole.whole,
    wholes=visiontl_segmentation.wholes.NAMES,
    check=visiontl_segmentation.checks.check,
    example=visiontl_segmentation.example.example,
    samples={
        "index": visiontl_segmentation.samples.index,
        "palette": visiontl_segmentation.samples.palette,
        "color": visiontl_segmentation.samples.color,
        "binary": visiontl_segmentation.samples.binary,
        "coco": visiontl_segmentation.samples.coco,
        "voc": visiontl_segmentation.samples.voc,
    },
)
STYLE = Task(
    name="style",
    config=visiontl_style.config.StyleConfig,
    best=("objective", "min"),
    data=visiontl_style.data.data,
    sample=visiontl_style.views.sample,
    collate=visiontl_style.batches.collate,
    model=visiontl_style.model.model,
    loss=visiontl_style.losses.loss,
    rows=visiontl_style.scores.rows,
    score=visiontl_style.scores.score,
    ranked=visiontl_style.config.ranked,
    trivial=visiontl_style.scores.trivial,
    predict=visiontl_style.predictions.predict,
    export=visiontl_style.exporting.export,
    draw=visiontl_style.predictions.draw,
    report=visiontl_style.charts.report,
    preview=visiontl_style.charts.preview,
    check=visiontl_style.checks.check,
    example=visiontl_style.example.example,
    samples={
        "folders": visiontl_style.samples.folders,
        "file": visiontl_style.samples.file,
        "adain": visiontl_style.samples.adain,
    },
    refuse=visiontl_style.config.refuse,
)

TASKS = [CLASSIFICATION, DETECTION, FACE, MULTI, SEGMENTATION, STYLE]
