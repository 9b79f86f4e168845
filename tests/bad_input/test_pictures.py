"""Odd pictures train and predict; unreadable ones are named, in training and in prediction."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image

import visiontl
from tests.bad_input.conftest import CONFIG
from tests.bad_input.outcome import check_refused, check_served, check_written, command, finite
from tests.bad_input.pictures import READABLE, UNDO, UNREADABLE, scene, write_all
from tests.bad_input.sources import sound
from visiontl.kit.images import fit_image, open_image, resampling


@pytest.fixture
def config(place):
    sound(place / "photos")
    (place / "config.yaml").write_text(CONFIG.format(data="photos"))
    return place / "config.yaml"


def test_odd_pictures_train(capsys, place, config):
    write_all(READABLE, place / "photos/train/a")
    write_all(READABLE, place / "photos/val/b")
    done = command(capsys, place, "train", config, "train.batch_size=16")
    check_served(done, ["runs/run"])
    report = json.loads((place / "runs/run/report.json").read_text())
    assert report["data"] == {"train": 4 + len(READABLE), "val": 4 + len(READABLE)}
    assert finite(report["scores"])
    lines = [json.loads(line) for line in (place / "runs/run/metrics.jsonl").read_text().splitlines()]
    assert lines
    assert finite(lines)


@pytest.mark.parametrize("picture", UNREADABLE, ids=lambda one: one.file)
def test_training_stops_at_an_unreadable_picture(capsys, place, config, picture):
    picture.write(place / "photos/train/a" / picture.file)
    check_refused(command(capsys, place, "train", config), picture.file, picture.words)


def test_training_leaves_out_unreadable_pictures_and_names_them(capsys, place, config):
    write_all(UNREADABLE, place / "photos/train/a")
    done = command(capsys, place, "train", config, "data.on_bad=skip", "data.max_bad=0.95")
    check_served(done, ["runs/run"])
    report = json.loads((place / "runs/run/report.json").read_text())
    assert report["data"] == {"train": 4, "val": 4}
    assert f"train: {len(UNREADABLE)} of {len(UNREADABLE) + 4} images cannot be read and are left out" in done.out
    assert finite(report["scores"])
    done = command(capsys, place, "train", config, "data.on_bad=skip", "data.max_bad=0.5", "run.name=strict")
    check_refused(done, f"train: {len(UNREADABLE)} of {len(UNREADABLE) + 4} images cannot be read", "data.max_bad")


@pytest.mark.parametrize("flag", ["--no-pictures", None])
def test_prediction_serves_what_can_be_read_and_names_the_rest(capsys, place, trained, flag):
    write_all([*READABLE, *UNREADABLE], place / "photos")
    done = command(capsys, place, "predict", trained, "photos", "--out", "answers", *filter(None, [flag]))
    assert done.code == 0, done.err
    assert done.err == ""
    check_written(done, ["answers"])
    records = [json.loads(line) for line in (place / "answers/predictions.jsonl").read_text().splitlines()]
    assert sorted(record["file"] for record in records) == sorted(f"photos/{one.file}" for one in READABLE)
    assert finite(records)
    failed = json.loads((place / "answers/unreadable.json").read_text())
    assert set(failed) == {f"photos/{one.file}" for one in UNREADABLE}
    for one in UNREADABLE:
        assert one.words in failed[f"photos/{one.file}"]
        assert f"warning: {failed[f'photos/{one.file}']}" in done.out
    assert f"{len(records)} predicted, {len(failed)} could not be read" in done.out
    by_file = {record["file"]: record["probabilities"] for record in records}
    upright = by_file["photos/held-1.png"]
    for orientation in UNDO:
        assert by_file[f"photos/held-{orientation}.png"] == pytest.approx(upright, rel=0, abs=1e-6)
    assert by_file["photos/link.png"] == pytest.approx(by_file["photos/png-inside.jpg"], rel=0, abs=1e-6)


@pytest.mark.parametrize("picture", UNREADABLE, ids=lambda one: one.file)
def test_one_unreadable_picture_alone_is_named(capsys, place, trained, picture):
    picture.write(place / picture.file)
    done = command(capsys, place, "predict", trained, place / picture.file, "--out", "answers")
    check_refused(done, "none of 1 image could be read", picture.file, picture.words, allowed=["answers"])


def test_a_picture_that_may_not_be_read_is_named(capsys, place, config):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (place / "photos/train/a/0.png").chmod(0)
    check_refused(command(capsys, place, "train", config), "0.png", "may not be read")


GRAY = np.asarray(scene().convert("L").convert("RGB")).astype(int)
COLOR = np.asarray(scene()).astype(int)
AS_IT_WAS = {  # file -> what it should look like, and the mean difference that its coding may cost, of 255
    "plain.jpg": (COLOR, 4),
    "cmyk.jpg": (COLOR, 4),
    "phone.jpg": (COLOR, 4),
    "rgba.png": (COLOR, 0),
    "windows.bmp": (COLOR, 0),
    "pages.tif": (COLOR, 0),
    "animated.png": (COLOR, 0),
    "animated.gif": (COLOR, 12),
    "lossless-alpha.webp": (COLOR, 0),
    "ycbcr.tif": (COLOR, 3),
    "gray.jpg": (GRAY, 2),
    "gray.png": (GRAY, 0),
    "gray-alpha.png": (GRAY, 0),
    "sixteen-bit.png": (GRAY, 0.5),
    "sixteen-bit.tif": (GRAY, 0.5),
    "thirty-two-bit.tif": (GRAY, 0.5),
    "float.tif": (GRAY, 0.5),
}


@pytest.mark.parametrize("picture", [one for one in READABLE if one.file in AS_IT_WAS], ids=lambda one: one.file)
def test_odd_pictures_show_what_they_showed(place, picture):
    picture.write(place / picture.file)
    shown = np.asarray(open_image(place / picture.file)).astype(int)
    expected, tolerance = AS_IT_WAS[picture.file]
    assert shown.shape == expected.shape
    assert np.abs(shown - expected).mean() <= tolerance


def test_an_empty_folder_is_no_picture(place, trained):
    (place / "x.jpg").mkdir()
    with pytest.raises(visiontl.DataError, match=r"x\.jpg: holds no pictures"):
        visiontl.load(trained).predict(place / "x.jpg")


def test_a_long_strip_shows_its_middle_as_if_it_were_resized_whole():
    """Oracle: the same evaluation view, by hand, of a strip just longer than what is still resized whole."""
    strip = scene((6600, 100))
    spec = visiontl.ImageSpec(size=(64, 64), crop=1.0)
    whole = strip.resize(((64 * 66), 64), resampling(spec))
    left = (whole.width - 64) // 2
    by_hand = np.asarray(whole.crop((left, 0, left + 64, 64))).astype(int)
    assert np.abs(np.asarray(fit_image(strip, spec)).astype(int) - by_hand).max() <= 2
    upright = fit_image(strip.transpose(Image.Transpose.TRANSPOSE), spec)
    assert np.abs(np.asarray(upright.transpose(Image.Transpose.TRANSPOSE)).astype(int) - by_hand).max() <= 2


def test_the_doctor_counts_what_cannot_be_read_and_names_pictures_of_both_splits(capsys, place, config):
    write_all([*READABLE, *UNREADABLE], place / "photos/train/a")
    (place / "photos/val/b/again.png").write_bytes((place / "photos/train/b/0.png").read_bytes())
    done = command(capsys, place, "doctor", config)
    assert (done.code, done.err) == (2, "")
    assert "Traceback" not in done.err + done.out
    assert f"train: {len(UNREADABLE)} images of {4 + len(READABLE) + len(UNREADABLE)} cannot be read" in done.out
    assert "val/b/again.png = train/b/0.png" in done.out
    check_written(done, [])
