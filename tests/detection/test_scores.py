"""Every score against pycocotools' own way from files to its summary, and against cases worked out by hand."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from visiontl_detection import errors
from visiontl_detection.charts import report
from visiontl_detection.config import DetectionConfig
from visiontl_detection.scores import rows, score

from tests.shared import shared
from visiontl import ConfigError, Figure, Pictures, Table
from visiontl.engine.rows import merge_rows
from visiontl.report.values import json_value

TWELVE = (
    "mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100", "AR_small", "AR_medium",
    "AR_large",
)  # fmt: skip


def config(**options) -> DetectionConfig:
    return DetectionConfig.model_validate({"data": "somewhere", **options})


def meta_of(classes: int) -> dict:
    return {"classes": [f"class {k}" for k in range(classes)]}


def row(boxes=(), scores=(), labels=(), true=(), true_labels=(), ignored=None, area=None, size=(300, 400)) -> dict:
    true = np.array(true, dtype=np.float64).reshape(-1, 4)
    sides = true[:, 2:] - true[:, :2]
    return {
        "size": size,
        "boxes": np.array(boxes, dtype=np.float32).reshape(-1, 4),
        "scores": np.array(scores, dtype=np.float32),
        "labels": np.array(labels, dtype=np.int64),
        "true_boxes": true,
        "true_labels": np.array(true_labels, dtype=np.int64),
        "true_ignored": np.array([False] * len(true) if ignored is None else ignored, dtype=bool),
        "true_area": np.array(sides.prod(1) if area is None else area, dtype=np.float64),
    }


def made(seed: int, images: int = 12, classes: int = 5, ties: bool = False, most: int = 12) -> list[dict]:
    """Detections near, far and doubled; crowds; areas smaller than boxes; the last class has no true box; images
    without boxes, without detections and without either."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner, side = (
            rng.uniform(0, 250, (count, 2)),
            rng.choice([15, 40, 120], (count, 1)) * rng.uniform(0.6, 1.4, (count, 2)),
        )
        return np.concatenate([corner, corner + side], axis=1)

    result = []
    for i in range(images):
        true = boxes(0 if i % 5 == 1 else rng.integers(1, most))
        label = rng.integers(0, classes - 1, len(true))
        near = np.repeat(true, 2, axis=0)
        near = near + rng.normal(0, 0.12, near.shape) * np.tile(near[:, 2:] - near[:, :2], 2)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        found, labels = np.concatenate([near, boxes(4)]), np.concatenate([np.repeat(label, 2), [0, 1, 1, classes - 1]])
        kept = rng.permutation(len(found))[: 0 if i % 5 == 2 else int(0.8 * len(found))]
        found, labels = found[kept], labels[kept]
        scores = np.sort(rng.random(len(found)))[::-1]
        labels = np.where(rng.random(len(found)) < 0.7, labels, rng.integers(0, classes, len(found)))
        ignored = rng.random(len(true)) < 0.15
        area = (true[:, 2:] - true[:, :2]).prod(1) * rng.uniform(0.5, 1, len(true))
        result.append(row(found, scores.round(1) if ties else scores, labels, true, label, ignored, area))
    return result


def oracle(made_rows, classes: int, folder) -> tuple[np.ndarray, dict[int, float]]:
    """Rows -> COCO files with gaps in all ids -> pycocotools -> its twelve numbers, and the mAP of each class."""

    def sides(box) -> list[float]:
        x1, y1, x2, y2 = (float(value) for value in box)
        return [x1, y1, x2 - x1, y2 - y1]

    truth, found = [], []
    for i, one in enumerate(made_rows):
        for j, box in enumerate(one["true_boxes"]):
            entry = {"image_id": 7 * i + 3, "category_id": 10 * int(one["true_labels"][j]) + 1, "bbox": sides(box)}
            entry |= {"id": 1000 * (i + 1) + j, "area": float(one["true_area"][j])}
            truth.append({**entry, "iscrowd": int(one["true_ignored"][j])})
        for box, value, label in zip(one["boxes"], one["scores"], one["labels"], strict=True):
            entry = {"image_id": 7 * i + 3, "category_id": 10 * int(label) + 1, "bbox": sides(box)}
            found.append({**entry, "score": float(value)})
    images = [{"id": 7 * i + 3, "height": o["size"][0], "width": o["size"][1]} for i, o in enumerate(made_rows)]
    categories = [{"id": 10 * k + 1, "name": f"c{k}"} for k in range(classes)]
    path = folder / "truth.json"
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": truth}))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))
        results = coco.loadRes(found)

        def stats(only=None) -> np.ndarray:
            run = COCOeval(coco, results, "bbox")
            if only is not None:
                run.params.catIds = [only]
            run.evaluate()
            run.accumulate()
            run.summarize()
            return run.stats

        return stats(), {k: float(stats(10 * k + 1)[0]) for k in range(classes)}


def agrees(scores: dict, stats: np.ndarray) -> None:
    for name, value in zip(TWELVE, stats, strict=True):
        if value == -1:
            assert name not in scores
        else:
            assert scores[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_twelve_numbers_and_each_class(seed, ties, tmp_path):
    rows_made = made(seed, ties=ties)
    stats, classes = oracle(rows_made, 5, tmp_path)
    assert 0.05 < stats[0] < 0.95  # the case says something
    scores = score(config(), rows_made, meta_of(5))
    agrees(scores, stats)
    assert scores["per_class"] == pytest.approx({f"class {k}": v for k, v in classes.items() if v != -1})
    assert "class 4" not in scores["per_class"]
    assert errors.mean_precision(errors.match(rows_made)) == pytest.approx(stats[1], abs=1e-9)


def test_more_than_a_hundred_detections(tmp_path):
    rng = np.random.default_rng(3)
    true = [[10 * i, 0, 10 * i + 9, 20] for i in range(30)]
    boxes = np.tile(true, (5, 1)) + rng.normal(0, 0.5, (150, 4))
    scores = rng.random(150)  # in no order; 150 of one class, of which the best 100 count
    boxes = np.concatenate([boxes, [[5, 50, 50, 90]]])
    rows_made = [row(boxes, [*scores, 0.01], [0] * 150 + [1], [*true, [5, 50, 50, 90]], [0] * 30 + [1])] * 2
    stats, _ = oracle(rows_made, 2, tmp_path)
    scored = score(config(operating_point=0.0), rows_made, meta_of(2))
    agrees(scored, stats)
    assert scored["counts"] == {"images": 2, "boxes": 62, "ignored": 0, "detections": 302, "counted": 202}
    assert errors.mean_precision(errors.match(rows_made)) == pytest.approx(stats[1], abs=1e-9)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans())
def test_our_own_ap50_is_that_of_pycocotools(seed, images, ties):
    rows_made = made(seed, images, classes=3, ties=ties, most=6)
    ours, theirs = errors.mean_precision(errors.match(rows_made)), score(config(), rows_made, meta_of(3)).get("AP50")
    assert math.isnan(ours) if theirs is None else ours == pytest.approx(theirs, abs=1e-9)


def test_one_perfect_detection():
    box = [10, 20, 210, 220]
    scores = score(config(), [row([box], [0.9], [1], [box], [1])], meta_of(3))
    for name in ("mAP", "AP50", "AP75", "AP_large", "AR1", "AR10", "AR100", "AR_large", "precision", "recall"):
        assert scores[name] == pytest.approx(1.0, abs=1e-12)
    assert scores["per_class"] == pytest.approx({"class 1": 1.0})
    assert not {"AP_small", "AP_medium", "AR_small", "AR_medium"} & scores.keys()


def test_a_detection_that_overlaps_in_part():
    scores = score(config(), [row([[0, 0, 100, 62]], [0.9], [0], [[0, 0, 100, 100]], [0])], meta_of(1))
    assert scores["mAP"] == pytest.approx(0.3)  # an IoU of 0.62 reaches .50, .55 and .60 of ten
    assert (scores["AP50"], scores["AP75"]) == pytest.approx((1.0, 0.0))


def test_small_is_the_annotated_area():
    box = [0, 0, 40, 40]  # 1600 pixels, medium; its mask covers 900, small
    scores = score(config(), [row([box], [0.9], [0], [box], [0], area=[900.0])], meta_of(1))
    assert scores["AP_small"] == pytest.approx(1.0)
    assert "AP_medium" not in scores


def test_precision_and_recall_at_the_operating_point():
    a, b, c, crowd, nothing = ([100 * i, 0, 100 * i + 50, 50] for i in range(5))
    one = row(
        [crowd, a, nothing, b], [0.95, 0.9, 0.8, 0.4], [0, 0, 0, 0], [a, b, c, crowd], [0] * 4, [False] * 3 + [True]
    )
    scores = score(config(operating_point=0.5), [one], meta_of(1))
    assert (scores["precision"], scores["recall"]) == (1 / 2, 1 / 3)  # the one on the crowd is neither right nor wrong
    scores = score(config(operating_point=0.4), [one], meta_of(1))  # from the score on: 0.4 itself counts
    assert (scores["precision"], scores["recall"]) == (2 / 3, 2 / 3)
    assert scores["counts"]["ignored"] == 1
    none = score(config(operating_point=0.99), [one], meta_of(1))
    assert "precision" not in none
    assert none["recall"] == 0.0


def test_nothing_to_find():
    box = [0, 0, 50, 50]
    only_crowd = row([box], [0.9], [0], [box], [0], [True])
    for rows_made in ([row([box], [0.9], [0])], [only_crowd], [row()]):
        scores = score(config(), rows_made, meta_of(2))
        assert scores["mAP"] is None  # neither 0 nor 1; it never becomes the best
        assert scores["false_alarms"] == sum(len(one["scores"]) for one in rows_made if one is not only_crowd)
        assert not {*TWELVE[1:], "recall"} & scores.keys()
        assert json_value(scores, keep_nan=True) == json_value(scores)  # no number that is none
        first, *others = report(config(), rows_made, meta_of(2), photo)
        assert isinstance(first, Table)
        assert [line[1] for line in first.rows] == ([scores["false_alarms"]] if scores["false_alarms"] else [])
        assert all(isinstance(item, Pictures) for item in others)


def test_nothing_found():
    scores = score(config(), [row(true=[[0, 0, 50, 50]], true_labels=[0])], meta_of(2))
    assert (scores["mAP"], scores["AR100"], scores["recall"]) == (0.0, 0.0, 0.0)
    assert scores["errors"]["missed"] == {"count": 1, "cost": 1.0}
    assert "precision" not in scores


def batches_of(made_rows, size: int):
    """The rows back as batches and model outputs, as evaluation hands them to `rows`."""
    names = {"boxes": "true_boxes", "labels": "true_labels", "ignored": "true_ignored", "area": "true_area"}
    for start in range(0, len(made_rows), size):
        part = made_rows[start : start + size]
        batch = {
            "size": torch.tensor([one["size"] for one in part]),
            "truth": [{key: torch.from_numpy(one[name]) for key, name in names.items()} for one in part],
        }
        keys = ("boxes", "scores", "labels")
        yield {"detections": [{key: torch.from_numpy(one[key]) for key in keys} for one in part]}, batch


def test_rows_are_small_plain_and_independent_of_batches_and_processes(capsys):
    rows_made = made(4, ties=True)
    expected = score(config(), rows_made, meta_of(5))
    assert capsys.readouterr().out == ""  # pycocotools prints
    for size in (1, 5):
        got = [one for outputs, batch in batches_of(rows_made, size) for one in rows(config(), outputs, batch, {})]
        got = pickle.loads(pickle.dumps(got))
        for one, wanted in zip(got, rows_made, strict=True):
            assert one.keys() == wanted.keys()
            assert one["size"] == wanted["size"]
            for key in one.keys() - {"size"}:
                assert one[key].dtype == wanted[key].dtype
                np.testing.assert_array_equal(one[key], wanted[key])
        numbered = dict(enumerate(got))
        parts = [{i: one for i, one in reversed(numbered.items()) if i % 2 == half} for half in (0, 1)]
        assert score(config(), merge_rows(parts, len(got)), meta_of(5)) == expected


def test_the_order_of_images_does_not_matter():
    rows_made = made(5)  # no two scores are equal
    scores, back = (score(config(), some, meta_of(5)) for some in (rows_made, rows_made[::-1]))
    for name in (*TWELVE, "precision", "recall", "per_class"):
        assert back[name] == pytest.approx(scores[name], abs=1e-12)
    for kind, entry in scores["errors"].items():
        assert back["errors"][kind] == pytest.approx(entry, abs=1e-12)


def test_real_truth_given_as_detections():
    found = json.loads(shared("data/detection/bccd/annotations_coco/val.json").read_text())
    place = {category["id"]: k for k, category in enumerate(found["categories"])}
    rows_made = []
    for image in found["images"]:
        mine = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        true = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in mine)]
        labels = [place[one["category_id"]] for one in mine]
        rows_made.append(row(true, [1.0] * len(true), labels, true, labels, area=[one["area"] for one in mine]))
    scores = score(config(), rows_made, meta_of(len(place)))
    numbers = {name: scores[name] for name in (*TWELVE, "precision", "recall") if name in scores}
    assert {"mAP", "AP50", "AP75", "AR100", "precision", "recall"} <= numbers.keys()
    del numbers["AR1"], numbers["AR10"]  # one, and ten, detections cannot find all boxes of an image
    assert numbers == pytest.approx(dict.fromkeys(numbers, 1.0))
    assert all(entry == {"count": 0, "cost": 0.0} for entry in scores["errors"].values())
    assert scores["per_class"] == pytest.approx(dict.fromkeys(scores["per_class"], 1.0))
    assert len(scores["per_class"]) == len(place)


def test_the_other_evaluator_gives_the_same():
    pytest.importorskip("faster_coco_eval")
    rows_made = made(6, ties=True)
    scores, other = (
        score(config(evaluator=name), rows_made, meta_of(5)) for name in ("pycocotools", "faster-coco-eval")
    )
    assert other.keys() == scores.keys()
    for name in (*TWELVE, "per_class"):
        assert other[name] == pytest.approx(scores[name], abs=1e-6)
    nothing = [row([[0, 0, 50, 50]], [0.9], [0]), row()]
    assert score(config(evaluator="faster-coco-eval"), nothing, meta_of(2))["mAP"] is None


def test_the_other_evaluator_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(ConfigError, match=r"pip install faster-coco-eval.*evaluator: pycocotools"):
        score(config(evaluator="faster-coco-eval"), made(0, 2), meta_of(5))


def photo(_: int):
    from PIL import Image

    return Image.new("RGB", (400, 300), "gray")


def test_the_report_can_be_drawn():
    from visiontl.report.page import render_figure

    rows_made = made(7)
    items = report(config(), rows_made, meta_of(5), photo)
    for item in items:
        if isinstance(item, Figure):
            assert "class 0" in render_figure(item) or "class" not in item.title
    table = next(item for item in items if isinstance(item, Table) and item.title == "Errors by kind")
    scores = score(config(), rows_made, meta_of(5))
    assert {line[0]: line[1] for line in table.rows} == {kind: e["count"] for kind, e in scores["errors"].items()}
    classes = next(item for item in items if isinstance(item, Table) and item.title == "Classes")
    assert {line[0]: line[2] for line in classes.rows} == {k: f"{v:.3f}" for k, v in scores["per_class"].items()}
    pictures = [item for item in items if isinstance(item, Pictures)]
    files = [caption.split(":")[0] for item in pictures for caption, _ in item.items]
    assert len(files) == len(set(files)) == 12  # each image once
    assert all(max(picture.size) <= 2 * 800 + 6 for item in pictures for _, picture in item.items)
