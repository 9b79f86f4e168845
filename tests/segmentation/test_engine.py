"""Segmentation through the engine: prediction on any size, windows, doctor, configs, and a score on real photos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import visiontl
from tests.segmentation import made
from tests.shared import ROOT, shared
from visiontl import ConfigError, Finding, Table, plugins
from visiontl.config.resolve import resolve
from visiontl.doctor.diagnose import diagnose
from visiontl.engine.predict import predict_files
from visiontl.report.console import Console
from visiontl.testing import Case

MEASURED = ROOT / "docs/results/configs/segmentation"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("trained")
    settings = ("train.epochs=8", "optim.lr=0.01", "train.evaluate_every=8 epochs", "train.checkpoint_every=8 epochs")
    return visiontl.train(Case("segmentation", folder).resolved(*settings))["run"]


@pytest.fixture(scope="module")
def predictor(run):
    return visiontl.load(run)


def scene(width: int = 90, height: int = 70) -> Image.Image:
    """A ground with a cold square at 20..50."""
    image = Image.new("RGB", (width, height), (60, 60, 60))
    image.paste((60, 150, 210), (20, 20, 50, 50))
    return image


def test_a_mask_has_the_photos_size_and_names_its_areas(predictor):
    found = predictor.predict(scene())
    assert found["mask"].mode == "P"
    assert found["mask"].size == (90, 70)
    pixels = np.asarray(found["mask"])
    assert found["pixels"] == {name: int((pixels == k).sum()) for k, name in enumerate(("ground", "disc", "square"))}
    assert sum(found["area"].values()) == pytest.approx(1, abs=1e-5)
    inside = np.zeros((70, 90), dtype=bool)
    inside[20:50, 20:50] = True
    assert (pixels == 2)[inside].mean() > 0.8
    assert (pixels == 0)[~inside].mean() > 0.9


def test_options(predictor):
    plain = np.asarray(predictor.predict(scene())["mask"])
    for options in (
        {"flip": True},
        {"scales": [1.0]},
        {"scales": [0.75, 1.0, 1.5], "flip": True},
        {"windows": "always", "resize": "original"},
        {"windows": "always", "resize": "original", "flip": True, "overlap": 0.5},
        {"windows": "never", "resize": "original"},
        {"resize": 64},
    ):
        found = predictor.predict(scene(), **options)
        assert found["mask"].size == (90, 70), options
        assert (np.asarray(found["mask"]) == plain).mean() > 0.85, options
    chosen = predictor.predict(scene(), classes=["square"])
    assert list(chosen["area"]) == list(chosen["pixels"]) == ["square"]
    with pytest.raises(ConfigError, match="did you mean 'square'"):
        predictor.predict(scene(), classes=["sqare"])
    with pytest.raises(ConfigError, match="does not go with windows=always"):
        predictor.predict(scene(), scales=[2.0], windows="always")
    with pytest.raises(ConfigError, match=r"between 0\.25 and 4"):
        predictor.predict(scene(), scales=[9.0])


def test_photos_of_other_sizes_together(predictor):
    photos = [scene(), scene(300, 61), scene(52, 400), Image.new("RGB", (1, 1)), Image.new("L", (33, 17))]
    found = predictor.predict(photos)
    assert [one["mask"].size for one in found] == [photo.size for photo in photos]
    alone = predictor.predict(photos[1])
    same = np.asarray(alone["mask"]) == np.asarray(found[1]["mask"])
    assert same.mean() > 0.999  # two classes that are equal but for rounding, which depends on the batch


def test_large_photos_go_through_windows_by_themselves(predictor, monkeypatch):
    import visiontl_segmentation.predictions as predictions

    monkeypatch.setattr(predictions, "LARGE", 100 * 100)
    seen = []
    bands = predictions.bands
    monkeypatch.setattr(predictions, "bands", lambda *given: seen.append(given[1].shape) or bands(*given))
    found = predictor.predict(scene(260, 190), resize="original")
    assert seen == [(3, 190, 260)]
    assert found["mask"].size == (260, 190)
    with pytest.raises(ConfigError, match="gone through in windows"):
        predictor.predict(scene(260, 190), resize="original", scales=[0.5, 1.0])


def test_files_on_disk(run, tmp_path):
    made.picture(tmp_path / "photos/a.png", (70, 90))
    made.picture(tmp_path / "photos/b.jpg", (50, 40), orientation=6)
    told = predict_files(run, [tmp_path / "photos"], tmp_path / "out")
    assert told["predicted"] == 2
    records = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [record["size"] for record in records] == [[70, 90], [40, 50]]
    mask = Image.open(tmp_path / "out" / records[1]["mask"])
    assert mask.mode == "P"
    assert mask.size == (50, 40)
    assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    assert mask.getpalette()[:9] == [0, 0, 0, 220, 60, 60, 60, 110, 230], "as the masks that it was trained on"
    table = (tmp_path / "out/values.csv").read_text().splitlines()
    assert table == ["class,value,r,g,b", "ground,0,0,0,0", "disc,1,220,60,60", "square,2,60,110,230"]
    assert Image.open(tmp_path / "out/pictures/a.jpg").width > 4 * 90  # enlarged, with a legend beside it


def examined(folder, **data):
    settings = {
        "task": {"name": "segmentation", "data": {"folder": str(folder), **data}},
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
        "train": {"batch_size": 2},
    }
    return diagnose(resolve(settings), Console(main=False))


def finding(diagnosis, *words: str) -> Finding:
    matching = [one for one in diagnosis.findings if all(word in one.what for word in words)]
    assert len(matching) == 1, [one.what for one in diagnosis.findings]
    return matching[0]


def test_the_doctor_tells_shares_absent_classes_and_values(tmp_path):
    made.folders(tmp_path, names="ground\ncat\ndog\nbird\n")
    Image.fromarray(np.full(made.SIZE, 255, dtype=np.uint8)).save(tmp_path / "masks/train/a.png")
    lost = made.truth("d")
    lost[lost == 2] = 0
    Image.fromarray(lost).save(tmp_path / "masks/val/d.png")
    diagnosis = examined(tmp_path)
    assert diagnosis.count("error") == 0
    tables: dict[str, Table] = {table.title: table for table in diagnosis.tables}
    rows = {row[0]: row[1:] for row in tables["pixels per class"].rows}
    pixels = np.concatenate([np.full(made.SIZE, 255).ravel(), made.truth("b").ravel(), made.truth("c").ravel()])
    assert rows["cat"][:2] == [f"{(pixels == 1).mean():.3%}", 2]
    assert rows["(ignored)"][:2] == [f"{(pixels == 255).mean():.3%}", 3]
    assert rows["bird"][0] == "0.000%"
    values = {row[0]: row[1] for row in tables["mask values"].rows}
    assert values == {"0": "ground", "1": "cat", "2": "dog", "3": "bird", "255": "(ignored)"}
    assert finding(diagnosis, "train: no pixel of 1 class").names == ["bird"]
    assert finding(diagnosis, "val: no pixel of 2 classes").names == ["dog", "bird"]
    assert finding(diagnosis, "train: 1 mask with nothing but ignored").names == ["images/train/a.png"]


def test_the_doctor_finds_equal_pictures_with_different_masks(tmp_path):
    made.folders(tmp_path)
    (tmp_path / "images/train/b.png").write_bytes((tmp_path / "images/train/a.png").read_bytes())
    other = made.truth("b")
    other[0] = 1
    Image.fromarray(other).save(tmp_path / "masks/train/b.png")
    (told,) = finding(examined(tmp_path), "different masks").names
    assert told.startswith("masks/train/a.png, masks/train/b.png")


def test_a_damaged_mask_can_be_skipped(tmp_path):
    made.folders(tmp_path, splits={"train": tuple("abcdefgh"), "val": ("x", "y")})
    (tmp_path / "masks/train/c.png").write_bytes(b"no picture")
    settings = {
        "task": {"name": "segmentation", "data": str(tmp_path), "decoder": {"name": "unet", "width": 32}},
        "backbone": {"name": "visiontl/tiny", "weights": "none", "image_size": 32},
        "train": {"epochs": 1, "batch_size": 3},
        "loader": {"workers": 0},
        "run": {"folder": str(tmp_path / "runs")},
    }
    with pytest.raises(visiontl.DataError, match=r"c\.png.*on_bad=skip"):
        visiontl.train(settings)
    report = visiontl.train({**settings, "data": {"on_bad": "skip", "max_bad": 0.5}})
    assert report["data"]["train"] == 7


def test_drawing_leaves_background_and_ignored_pixels_alone():
    from visiontl_segmentation.drawing import draw, overlay, verdict

    meta = {"classes": ["ground", "a"], "colors": [[0, 0, 0], [250, 0, 0]], "background": 0}
    photo = Image.new("RGB", (400, 330), (10, 200, 10))
    mask = np.zeros((330, 400), dtype=np.uint8)
    mask[100:200, 100:200], mask[200:300] = 1, 255
    tinted = np.asarray(overlay(photo, mask, meta))
    assert (tinted[mask != 1] == (10, 200, 10)).all()
    assert (tinted[mask == 1][:, 0] > 120).all()
    judged = np.asarray(verdict(photo, np.zeros_like(mask), mask))
    assert (judged[mask == 255] == (10, 200, 10)).all()
    assert len(np.unique(judged.reshape(-1, 3), axis=0)) == 3
    drawn = draw(photo, {"mask": Image.fromarray(mask % 255, mode="P")}, meta)
    assert drawn.width == 400
    assert (np.asarray(drawn)[340:] != 255).any(), "a legend below, which is read on a phone"


def test_the_legend_lists_ignored_pixels_and_classes_that_are_only_predicted():
    from visiontl_segmentation.drawing import entries

    meta = {"classes": ["ground", "a", "b"], "colors": [[9, 9, 9], [250, 0, 0], [0, 0, 250]], "background": 0}
    truth = np.zeros((300, 100), dtype=np.uint8)
    truth[:30], truth[30:60] = 1, 255
    assert entries(truth, meta, np.full_like(truth, 2)) == [
        ((255, 255, 255), "ground  80.0%"), ((250, 0, 0), "a  10.0%"), ((0, 0, 250), "b  -"),
        ((255, 255, 255), "(ignored)  10.0%"),
    ]  # fmt: skip


def test_a_tiny_network_learns_the_example(tmp_path):
    decoder = {"name": "unet", "width": 64}
    config = {
        "task": {
            "name": "segmentation",
            "data": "example",
            "decoder": decoder,
            "loss": {"cross_entropy": 1, "dice": 1},
        },
        "backbone": {"name": "visiontl/tiny", "weights": "none"},
        "optim": {"lr": 0.01, "backbone_scale": 1.0},
        "train": {"epochs": 10, "batch_size": 8, "evaluate_every": "5 epochs"},
        "loader": {"workers": 0},
        "run": {"folder": str(tmp_path)},
    }
    report = visiontl.train(config)
    assert report["scores"]["val"]["miou"] > 0.6
    html = (tmp_path / report["run"] / "report.html").read_text()
    for title in ("IoU by class", "What is taken for what", "Images with the lowest IoU"):
        assert title in html
    plugins.reset()


def test_a_short_training_on_real_photos_reaches_its_score(tmp_path):
    """Three epochs at 96 x 128 of the shipped config, a small share of what it costs."""
    report = visiontl.train(
        MEASURED / "camvid_mobilenetv2.yaml",
        f"task.data.folder={shared('data/segmentation/camvid')}",
        f"backbone.weights={shared('weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision.pth')}",
        "backbone.image_size=[96, 128]",
        "task.decoder.width=64",
        "train.epochs=3",
        "train.evaluate_every=9 epochs",
        "train.checkpoint_every=9 epochs",
        f"run.folder={tmp_path}",
    )
    assert report["scores"]["val"]["miou"] >= 0.28
    assert report["scores"]["val"]["accuracy"] >= 0.75
