"""Detection through the engine: shipped configs, prediction on turned photos, and a score on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visiontl
from tests.detection import made
from tests.detection.made import Photo
from tests.shared import ROOT, shared
from visiontl.testing import Case

MEASURED = ROOT / "docs/results/configs/detection"


def test_the_coco_config_runs_on_a_folder_like_cocos(tmp_path, capsys):
    """The file as it is but for the size of the pictures and the download: layout, gaps in ids, crowds, recipe."""
    photos = {f"{i:012d}": Photo((96, 64) if i % 2 else (64, 96)) for i in range(1, 7)}
    root = made.coco(
        tmp_path / "coco",
        {"train": photos, "val": {"000000000139": Photo()}},
        "annotations/instances_{split}2017.json",
        "{split}2017",
        {"cat": 17, "dog": 90},
    )
    report = visiontl.train(
        "detection/coco_resnet50_fasterrcnn",
        f"task.data.folder={root}",
        "backbone.weights=none",
        "task.size.short=64",
        "task.size.long=96",
        "loader.workers=0",
        dry_run=True,
    )
    assert report["steps"] == 1
    said = capsys.readouterr().out
    assert "dry run: training, evaluation, saving, loading and prediction all work" in said
    assert "17" in said
    assert "90" in said  # the table of category ids


def near(a: list[dict], b: list[dict]) -> bool:
    pairs = list(zip(a, b, strict=True))
    return all(x["label"] == y["label"] and np.allclose(x["box"], y["box"], atol=0.02) for x, y in pairs)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    settings = ("train.epochs=8", "optim.lr=0.003", "train.evaluate_every=8 epochs", "train.checkpoint_every=8 epochs")
    return visiontl.train(Case("detection", folder).resolved(*settings))["run"]


def test_boxes_lie_in_the_upright_photo_whatever_its_exif_turn(run, tmp_path):
    upright = Image.new("RGB", (90, 70), (40, 60, 50))
    upright.paste((230, 210, 200), (20, 12, 48, 40))
    upright.save(tmp_path / "upright.png")
    predictor = visiontl.load(run)
    expected = predictor.predict(str(tmp_path / "upright.png"), threshold=0.05)
    assert expected["size"] == [70, 90]
    assert expected["objects"]
    turns = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    for orientation, stored in turns.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = tmp_path / f"turned-{orientation}.png"
        upright.transpose(stored).save(file, exif=exif)
        found = predictor.predict(str(file), threshold=0.05)
        assert found["size"] == [70, 90]
        assert near(found["objects"], expected["objects"]), orientation


def test_predict_writes_cocos_results(run, tmp_path):
    from visiontl.engine.predict import predict_files

    for number in (139, 285):
        made.picture(tmp_path / f"photos/{number:012d}.png", (90, 70), number)
    told = predict_files(run, [tmp_path / "photos"], tmp_path / "out", {"threshold": 0.05})
    assert told["predicted"] == 2
    names = {path.name for path in Path(told["folder"]).iterdir()}
    assert {"coco_results.json", "coco_images.json", "predictions.jsonl", "predictions.csv"} <= names


def test_a_short_training_on_real_photos_reaches_its_score(tmp_path):
    """Two epochs at 224 pixels with a narrow head, a small share of what the shipped config costs."""
    report = visiontl.train(
        MEASURED / "bccd_mobilenetv2.yaml",
        f"task.data.folder={shared('data/detection/bccd')}",
        f"backbone.weights={shared('weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth')}",
        "task.size={short: 224, long: 304}",
        "task.fpn_width=64",
        "task.box_width=128",
        "task.regions=64",
        "train.epochs=2",
        "train.evaluate_every=1000 epochs",
        f"run.folder={tmp_path}",
    )
    assert report["scores"]["val"]["AP50"] >= 0.70
    assert report["scores"]["test"]["AP50"] >= 0.70
