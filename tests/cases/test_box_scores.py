"""What is scored where images hold more objects than COCO counts, and where they hold none."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from visiontl_detection import errors
from visiontl_detection.charts import report
from visiontl_detection.config import DetectionConfig
from visiontl_detection.scores import score

import visiontl
from tests.detection import made
from tests.detection.made import Photo
from visiontl.report.values import json_value


def config(**keys: Any) -> DetectionConfig:
    return DetectionConfig.model_validate({"data": "somewhere", **keys})


META = {"classes": ["cell", "dot"]}


def row(boxes: np.ndarray, scores: np.ndarray, true: np.ndarray) -> dict[str, Any]:
    zeros = np.zeros(len(true), dtype=np.int64)
    return {
        "size": (248, 328), "true_boxes": true, "true_labels": zeros, "true_ignored": zeros.astype(bool),
        "true_area": (true[:, 2:] - true[:, :2]).prod(1), "boxes": boxes.astype(np.float32),
        "labels": np.zeros(len(boxes), dtype=np.int64), "scores": scores.astype(np.float32),
    }  # fmt: skip


def crowded(number: int, noise: float = 0.0) -> list[dict[str, Any]]:
    """Two photos of so many cells on a grid, each found, in a place that is right but for some noise in pixels."""
    grid = [(4 + 16 * x, 4 + 16 * y, 14 + 16 * x, 14 + 16 * y) for x in range(20) for y in range(15)]
    true = np.array(grid[:number], dtype=np.float64)
    random = np.random.default_rng(0)
    found = true + random.normal(0, noise, true.shape) if noise else true
    return [row(found, np.linspace(0.95, 0.6, number), true) for _ in range(2)]


def pycocotools_says(rows: list[dict[str, Any]], most: int) -> tuple[float, float, float]:
    """mAP, AP50 and recall of the one class, straight from pycocotools, where so many detections count."""
    coco_class: Any = COCO
    truth, found = coco_class(), coco_class()
    images: Any = [{"id": i} for i in range(len(rows))]
    for coco, key in ((truth, "true_boxes"), (found, "boxes")):
        annotations = []
        for i, one in enumerate(rows):
            for j, (x1, y1, x2, y2) in enumerate(one[key].astype(np.float64).tolist()):
                made = {"id": len(annotations) + 1, "image_id": i, "category_id": 1, "iscrowd": 0}
                made |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                annotations.append(made | ({"score": float(one["scores"][j])} if key == "boxes" else {}))
        coco.dataset = {"images": images, "categories": [{"id": 1}], "annotations": annotations}
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        run = COCOeval(truth, found, "bbox")
        run.params.maxDets = [most]
        run.evaluate()
        run.accumulate()
    precision, recall = run.eval["precision"], run.eval["recall"]
    return precision[:, :, 0, 0, 0].mean(), precision[0, :, 0, 0, 0].mean(), recall[:, 0, 0, 0].mean()


@pytest.mark.parametrize("number", [100, 101, 300])
def test_a_perfect_detector_is_perfect_however_many_objects_there_are(number):
    scores = score(config(detections=500), crowded(number), META)
    assert (scores["mAP"], scores["AP50"], scores["AR500"]) == pytest.approx((1.0, 1.0, 1.0))
    assert scores["recall"] == 1.0
    assert scores["errors"]["missed"] == {"count": 0, "cost": 0.0}
    assert scores["counts"]["counted"] == 2 * number
    coco = pycocotools_says(crowded(number), 100)
    assert (scores["coco_mAP"], scores["coco_AP50"], scores["AR100"]) == pytest.approx(coco)
    assert (scores["coco_mAP"] < 0.995) == (number > 100)


@pytest.mark.parametrize(("detections", "noise"), [(150, 0.4), (300, 0.4), (500, 1.2)])
@pytest.mark.parametrize("evaluator", ["pycocotools", "faster-coco-eval"])
def test_more_than_a_hundred_are_scored_as_pycocotools_scores_them(detections, noise, evaluator):
    if evaluator != "pycocotools":
        pytest.importorskip("faster_coco_eval")
    rows = crowded(300, noise)
    rows = [{**one, **{key: one[key][:detections] for key in ("boxes", "scores", "labels")}} for one in rows]
    scores = score(config(detections=detections, evaluator=evaluator), rows, META)
    wanted = pycocotools_says(rows, detections)
    assert (scores["mAP"], scores["AP50"], scores[f"AR{detections}"]) == pytest.approx(wanted, abs=1e-6)
    assert (scores["coco_mAP"], scores["coco_AP50"]) == pytest.approx(pycocotools_says(rows, 100)[:2], abs=1e-6)
    assert errors.mean_precision(errors.match(rows, detections)) == pytest.approx(wanted[1], abs=1e-9)


def test_up_to_a_hundred_nothing_stands_beside_cocos_numbers():
    rows = crowded(300)
    assert not [key for key in score(config(), rows, META) if key.startswith("coco")]
    assert score(config(), rows, META) == score(config(detections=100), rows, META)


def test_a_split_of_background_is_scored_by_its_false_alarms():
    nothing = np.zeros((0, 4))
    alarm, weak = np.array([[0, 0, 50, 50.0]]), np.array([[0, 0, 50, 50.0], [60, 60, 90, 90.0]])
    rows = [
        row(alarm, np.array([0.9]), nothing), row(weak, np.array([0.8, 0.2]), nothing),
        row(nothing, np.zeros(0), nothing), row(nothing, np.zeros(0), nothing),
    ]  # fmt: skip
    scores = score(config(), rows, META)
    assert scores["false_alarms"] == 0.5  # 2 from 0.5 on, in 4 images
    assert scores["mAP"] is None
    assert scores["precision"] == 0.0
    assert json_value(scores, "score", keep_nan=True) == json_value(scores)
    assert score(config(operating_point=0.1), rows, META)["false_alarms"] == 0.75
    table = report(config(), rows, META, lambda _: Image.new("RGB", (328, 248)))[0]
    assert table.title == "False alarms"
    assert table.rows == [("cell", 2, 2, "0.900")]
    assert "2 of 4 images without any" in table.caption
    assert score(config(), rows[2:], META)["false_alarms"] == 0.0
    assert "false_alarms" not in score(config(), [*rows, *crowded(3)], META)


def test_a_run_whose_val_is_background_ends_with_its_last_weights(tmp_path, capsys):
    root = made.coco(tmp_path / "set", {"train": {"a": Photo(), "b": Photo()}, "val": {"c": Photo(boxes=())}})
    task = {"name": "detection", "data": str(root), "fpn_width": 32, "box_width": 32, "regions": 32, "size": 64}
    given = {"task": task, "backbone": {"name": "visiontl/tiny", "weights": "none"}, "loader": {"workers": 0}}
    given |= {"train": {"epochs": 2, "batch_size": 2}, "run": {"folder": str(tmp_path / "runs")}}
    report = visiontl.train(given)
    said = "".join(capsys.readouterr())
    assert said.count("nothing to measure mAP on: no score picks the best weights") == 1
    assert "nan" not in said.lower()
    assert report["scores"]["val"]["mAP"] is None
    assert report["scores"]["val"]["false_alarms"] >= 0
    assert report["best"] == {"score": "mAP", "value": None, "step": 2, "epoch": 2.0}
    scores = visiontl.evaluate(report["run"])["scores"]
    assert scores["val"] == report["scores"]["val"]
    again = visiontl.train({**given, "train": {**given["train"], "best": "false_alarms"}})
    assert again["best"]["value"] == again["scores"]["val"]["false_alarms"]
