"""What visiontl doctor says of boxes, against counts made by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from visiontl_detection.checks import check
from visiontl_detection.data import data

from tests.detection import made
from tests.detection.made import Photo, config
from visiontl import Data, Finding, ImageSpec, Seen, Table, plugins
from visiontl.config.resolve import resolve
from visiontl.doctor.diagnose import Diagnosis, diagnose
from visiontl.report.console import Console

CAT, DOG = ("cat", 0, 0, 20, 20), ("dog", 40, 0, 60, 40)  # areas 400 and 800


@pytest.fixture(autouse=True)
def detection(monkeypatch):
    monkeypatch.setenv("VISIONTL_PLUGINS", "detection")
    plugins.reset()
    yield
    plugins.reset()


def examined(folder: Path, **keys) -> Diagnosis:
    settings = {
        "task": {"name": "detection", "data": str(folder), "size": {"short": 48, "long": 200}, **keys},
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
        "train": {"batch_size": 2},
    }
    return diagnose(resolve(settings), Console(main=False))


def found(findings: list, *words: str) -> Finding:
    matching = [one for one in findings if isinstance(one, Finding) and all(word in one.what for word in words)]
    assert len(matching) == 1, f"{words}: {[one.what for one in findings if isinstance(one, Finding)]}"
    return matching[0]


def table(items: list, title: str) -> list[list]:
    return next([list(row) for row in one.rows] for one in items if isinstance(one, Table) and one.title == title)


def test_counts_sizes_and_shapes(tmp_path):
    large = ("dog", 0, 0, 192, 96)
    train = {
        "a": Photo((64, 48), (CAT, (*CAT[:3], 10, 10), DOG)),
        "b": Photo((64, 48), ()),
        "c": Photo((192, 96), (large,)),
    }
    val = {"d": Photo((64, 48), (("dog", 0, 0, 64, 10),))}
    diagnosis = examined(made.coco(tmp_path, {"train": train, "val": val}))
    assert table(diagnosis.tables, "boxes per class") == [["cat", 2, 1, 0, 0], ["dog", 2, 2, 1, 1]]
    assert table(diagnosis.tables, "boxes per image") == [["train", 3, 0, "1", 3, 1], ["val", 1, 1, "1", 1, 0]]
    sizes = table(diagnosis.tables, "box sizes")
    assert [row[:5] for row in sizes] == [
        ["train", "of the photos", "75.0%", "0.0%", "25.0%"],  # 100, 400, 800 and 18,432
        ["train", "as resized", "75.0%", "25.0%", "0.0%"],  # the large one becomes 96 x 48
        ["val", "of the photos", "100.0%", "0.0%", "0.0%"],
        ["val", "as resized", "100.0%", "0.0%", "0.0%"],
    ]
    shapes = table(diagnosis.tables, "aspect ratios of boxes")
    assert shapes[1] == ["val", "0.16", "0.16", "0.16"]
    assert shapes[0][2] == "1.00"
    assert found(diagnosis.findings, "val: no box of 1 class").names == ["cat"]
    assert not [one for one in diagnosis.findings if "smaller than 8" in one.what or "as long as wide" in one.what]
    assert diagnosis.count("error") == 0


def test_what_cleaning_did_is_told_once_with_all_names(tmp_path):
    flat = tuple(("cat", 5, y, 5, y + 4) for y in range(7))
    made.coco(tmp_path, {"train": {"a": Photo((64, 48), (*flat, CAT, DOG, ("dog", 30, 30, 99, 40)))},
                         "val": {"d": Photo()}})  # fmt: skip
    diagnosis = examined(tmp_path)
    empty = found(diagnosis.findings, "train: 7 boxes without width or height")
    assert empty.level == "warning"
    assert empty.names == [f"images/a.png (annotation {number})" for number in range(1, 8)]
    assert found(diagnosis.findings, "train: 1 box partly outside").names == ["images/a.png (annotation 10)"]


def test_small_long_and_unequal(tmp_path):
    boxes = tuple(("cat", 4 * i, 0, 4 * i + 3, 20) for i in range(10))  # 3 x 20
    made.coco(tmp_path, {"train": {"a": Photo((64, 48), (*boxes, DOG))}, "val": {"d": Photo((64, 48), (CAT, DOG))}})
    findings = examined(tmp_path).findings
    assert found(findings, "train: 10 boxes of 11 smaller than 8 pixels").names == ["images/a.png (10)"]
    assert found(findings, "train: 10 boxes of 11 more than 5 times as long as wide").level == "warning"
    assert found(findings, "'cat' has 10 boxes, 'dog' has 1: 10 times").names == ["dog (1)"]
    large = examined(tmp_path, size={"short": 480, "long": 2000}).findings
    assert not [one for one in large if "smaller than 8" in one.what]


def test_equal_pictures_with_different_boxes(tmp_path):
    train = {"a": Photo(boxes=(CAT, DOG)), "b": Photo(boxes=(DOG, CAT)), "c": Photo(boxes=(CAT,))}
    made.coco(tmp_path, {"train": train, "val": {"d": Photo((48, 48), ())}})
    for name in ("b", "c"):
        shutil.copy(tmp_path / "images/a.png", tmp_path / f"images/{name}.png")
    names = found(examined(tmp_path).findings, "1 picture with different boxes on equal pixels").names
    assert names == ["images/a.png (2 boxes), images/b.png (2 boxes), images/c.png (1 box)"]
    content = json.loads((tmp_path / "annotations/train.json").read_text())
    content["annotations"].append({**content["annotations"][1], "id": 99, "image_id": 102})  # the dog of c
    (tmp_path / "annotations/train.json").write_text(json.dumps(content))
    assert not [one for one in examined(tmp_path).findings if "different boxes" in one.what]


def checked(folder: Path, size: tuple[int, int] | None) -> list:
    """What the check says where the first training image was seen with another size."""
    cfg = config(folder)
    splits: Data = data(cfg, ImageSpec())
    sizes = {name: [image.size for image in split.annotated] for name, split in splits.splits().items()}  # type: ignore
    sizes["train"][0] = size
    return check(cfg, splits, splits.meta, Seen(sizes))


def test_sizes_that_do_not_fit_the_annotations(tmp_path):
    made.coco(tmp_path)
    for size, words in (((64, 48), "swapped"), ((48, 65), "another version")):
        wrong = found(checked(tmp_path, size), "train: 1 image of another size than annotated")
        assert wrong.level == "error"
        assert "images/a.png" in wrong.names[0]
        assert words in wrong.names[0]
    assert not [one for one in checked(tmp_path, (48, 64)) if isinstance(one, Finding) and "another size" in one.what]


def test_unreadable_images_do_not_count(tmp_path):
    made.coco(tmp_path)
    items = checked(tmp_path, None)
    assert table(items, "boxes per class")[0][:3] == ["cat", 1, 1]
    lonely = made.coco(tmp_path / "lonely", {"train": {"a": Photo(), "b": Photo(boxes=(CAT,))}, "val": {"d": Photo()}})
    absent = found(checked(lonely, None), "train: no box of 1 class")
    assert (absent.level, absent.names) == ("error", ["dog"])


def test_the_doctor_names_a_photo_of_another_size(tmp_path):
    made.coco(tmp_path)
    made.picture(tmp_path / "images/a.png", (48, 64))
    diagnosis = examined(tmp_path)
    named = [one for one in diagnosis.findings if any("a.png" in name and "swapped" in name for name in one.names)]
    assert len(named) == 1
    assert named[0].level == "error"
