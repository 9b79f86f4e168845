"""Detection: updates against bare loops around torchvision's detectors, and scoring against pycocotools."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from benchmarks.children import children
from benchmarks.harness import (
    BenchmarkError,
    Case,
    Lap,
    Options,
    Table,
    loss_difference,
    measure,
    ratios,
    seconds,
)
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from visiontl_detection.config import DetectionConfig
from visiontl_detection.scores import score

ABOUT = """
**Updates.** visiontl's own training loop (`visiontl.engine.train.fit`) against the loop that one writes by hand around
the same detector, on the same photos in the same order: `bare`, whose losses have the same bits, and `bare again`, the
control, which shows what this machine cannot tell apart. `torchvision` is that loop with torchvision's own data path
and model parts (Pillow, float, GeneralizedRCNNTransform, MultiScaleRoIAlign), and with precision (fp32), memory layout
(NCHW) and allocator as they come. Each loop is a process of two threads; they take turns of a few updates in rotating
order, and ratios are taken within a round. A round holds whole updates: reading photos, forward, backward, optimizer,
and for the engine one logged line. Evaluation and checkpoints are outside.

**Scoring.** pycocotools from lists of dicts to its twelve numbers, against the task's `score`, which adds AP by class,
precision and recall at a threshold, and the errors by kind with what each costs. Both use one thread; their seconds are
the processor's, which other work on the machine does not lengthen.
"""

STEPS = 3  # of a round
TARGET = 1.02  # seconds of the engine / of the bare loop, at most
BCCD = "detection/bccd"
CASE = {"backbone": "torchvision/mobilenet_v2", "short": 224, "long": 304, "batch": 2, "steps": STEPS, "epochs": 1000}
QUICK = {"backbone": "visiontl/tiny", "short": 64, "long": 96, "batch": 2, "steps": 2, "epochs": 1000, "threads": 1}
LOOPS: dict[str, dict[str, Any]] = {
    "bare": {"loop": "bare"},
    "bare again": {"loop": "bare"},
    "engine": {"loop": "engine"},
}
TORCHVISION = {"loop": "torchvision", "precision": "fp32", "channels_last": False, "own_allocator": True}
CLASSES = 20


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    photos = options.data / BCCD if options.data is not None else None
    source = {"folder": str(photos), "format": "voc"} if photos is not None and photos.is_dir() else "example"
    if options.quick:
        loops = {**LOOPS, "torchvision": TORCHVISION}
        yield "Updates, sample", partial(updates, "faster_rcnn", {**QUICK, "source": "example"}, loops, 2)
        yield "Scoring, sample", partial(scoring, 20, 10, 1)
        return
    for head in ("faster_rcnn", "retinanet", "fcos"):
        loops = {**LOOPS, "torchvision": TORCHVISION} if head == "faster_rcnn" else LOOPS
        yield f"Updates of {head} on the CPU", partial(updates, head, {**CASE, "source": source}, loops, 8)
    yield "Scoring 2,000 images with 100 detections each", partial(scoring, 2000, 100, 3)


def updates(head: str, common: Mapping[str, Any], loops: Mapping[str, Mapping[str, Any]], rounds: int) -> Table:
    with children(loops, {"head": head, **common}, file="detectors.py") as found:
        laps = measure([Case(loop, child.lap) for loop, child in found.items()], rounds)
        precision = found["engine"].told["precision"]
    ours = {loop: mine for loop, mine in laps.items() if not loop.startswith("torchvision")}
    drift = loss_difference(ours, "bare")
    if drift:
        raise BenchmarkError(f"{head}: losses of the engine and the bare loop differ by {drift:.2e}")
    rows = []
    steps = common["steps"]
    for loop, mine in laps.items():
        speed = steps / seconds(mine).median
        loss = "same bits" if loop in ours else f"within {first_difference(mine, laps['bare']):.1%} in the first round"
        ratio = "1" if loop == "bare" else ratios(mine, laps["bare"]).text(3)
        rows.append([loop, seconds(mine).text(1, 1e3 / steps), f"{speed:.3f}", ratio, loss])
    name = common["backbone"].partition("/")[2]
    where = "drawn pictures" if common["source"] == "example" else "BCCD's photos"
    notes = [
        f"{head} on {name}, {where} at {common['short']} px, {common['batch']} in a batch, {precision}; {rounds} "
        f"rounds of {steps} updates. The column `/ bare` is time over the bare loop's, median and quartiles over the "
        f"rounds; target for the engine: at most {TARGET}."
    ]
    values = {loop: [lap.seconds / steps for lap in mine] for loop, mine in laps.items()}
    return Table(["loop", "ms per update", "updates/s", "/ bare", "loss"], rows, notes, values=values)


def first_difference(laps: Sequence[Lap], bare: Sequence[Lap]) -> float:
    """Relative, between the mean losses of the first round: other resizing and rounding, the same photos."""
    one, two = (np.mean([float.fromhex(loss) for loss in found[0].losses]) for found in (laps, bare))
    return float(abs(one - two) / abs(two))


def scoring(images: int, detections: int, rounds: int) -> Table:
    rows = made(images, detections)
    meta = {"classes": [f"class {k}" for k in range(CLASSES)]}
    cfgs = {
        f"visiontl, evaluator: {name}": DetectionConfig.model_validate({"data": "nowhere", "evaluator": name})
        for name in ("pycocotools", "faster-coco-eval")
    }
    stats = coco_stats(rows)
    for name, cfg in cfgs.items():
        mine = score(cfg, rows, meta)["mAP"]
        if abs(mine - stats[0]) > 1e-6:
            raise BenchmarkError(f"{name}: mAP {mine} and pycocotools' own {stats[0]}")
    cases = [Case("pycocotools", partial(timed, coco_stats, rows))]
    cases.append(Case("pycocotools again", cases[0].lap))
    cases += [Case(name, partial(timed, score, cfg, rows, meta)) for name, cfg in cfgs.items()]
    laps = measure(cases, rounds, warmup=0)
    reference = laps["pycocotools"]
    lines = [[name, seconds(mine).text(2), ratios(mine, reference).text(2)] for name, mine in laps.items()]
    truth = sum(len(row["true_labels"]) for row in rows)
    notes = [
        f"{images:,} images, {detections} detections each, {truth:,} true boxes, {CLASSES} classes; {rounds} rounds. "
        "mAP agrees to 1e-6."
    ]
    values = {name: [lap.seconds for lap in mine] for name, mine in laps.items()}
    return Table(["scores", "processor seconds", "/ pycocotools"], lines, notes, values=values)


def made(images: int, detections: int) -> list[dict[str, Any]]:
    """Rows as the task makes them: true boxes, detections around them, the rest anywhere."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(images):
        count = int(rng.integers(1, 14))
        corner, side = rng.uniform(0, 400, (count, 2)), rng.uniform(8, 220, (count, 2))
        true, labels = np.concatenate([corner, corner + side], axis=1), rng.integers(0, CLASSES, count)
        chosen = rng.integers(0, count, detections)
        boxes = true[chosen] + rng.normal(0, 0.15, (detections, 4)) * np.tile(side[chosen], 2)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        found = np.where(rng.random(detections) < 0.8, labels[chosen], rng.integers(0, CLASSES, detections))
        rows.append(
            {
                "size": (480, 640),
                "boxes": boxes.astype(np.float32),
                "scores": np.sort(rng.random(detections).astype(np.float32))[::-1],
                "labels": found.astype(np.int64),
                "true_boxes": true,
                "true_labels": labels.astype(np.int64),
                "true_ignored": np.zeros(count, dtype=bool),
                "true_area": side.prod(1),
            }
        )
    return rows


def coco_stats(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """pycocotools' twelve numbers, by its own way from a data set and a list of results."""
    images, truth, found = [], [], []
    for number, row in enumerate(rows):
        images.append({"id": number, "height": row["size"][0], "width": row["size"][1]})
        for box, label, area in zip(row["true_boxes"].tolist(), row["true_labels"].tolist(), row["true_area"].tolist(),
                                    strict=True):  # fmt: skip
            one = {"id": len(truth) + 1, "image_id": number, "category_id": label, "iscrowd": 0, "area": area}
            truth.append({**one, "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]})
        for box, label, value in zip(row["boxes"].tolist(), row["labels"].tolist(), row["scores"].tolist(),
                                     strict=True):  # fmt: skip
            one = {"image_id": number, "category_id": label, "score": value}
            found.append({**one, "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]]})
    with contextlib.redirect_stdout(io.StringIO()):
        coco: Any = COCO()
        coco.dataset = {"images": images, "annotations": truth, "categories": [{"id": k} for k in range(CLASSES)]}
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.stats


def timed(compute: Callable[..., Any], *inputs: Any) -> float:
    began = time.process_time()
    compute(*inputs)
    return time.process_time() - began
