"""Predictions of files: each answer stands beside the photo that it belongs to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import visiontl
from visiontl.engine.predict import predict_files
from visiontl.runtime.written import in_words, stored
from visiontl.testing import Case


def test_answers_stand_beside_their_files_and_the_unreadable_is_named(tmp_path):
    run = visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1"))["run"]
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(6):  # more than one batch of 4
        Image.fromarray(np.full((40, 48, 3), 40 * i, dtype=np.uint8)).save(photos / f"{i}.png")
    (photos / "2.png").write_text("no picture")
    done = predict_files(run, [photos], out=tmp_path / "out")
    assert done["predicted"] == 5
    assert list(done["failed"]) == [str(photos / "2.png")]
    records = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert [record["file"] for record in records] == [str(photos / f"{i}.png") for i in (0, 1, 3, 4, 5)]
    predictor = visiontl.load(run)
    alone = [predictor.predict(record["file"])["brightness"] for record in records]
    assert [record["brightness"] for record in records] == pytest.approx(alone, rel=1e-4)
    assert len(set(alone)) == 5


def test_a_run_folder_among_the_images_is_refused(tmp_path):
    report = visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1"))
    with pytest.raises(visiontl.DataError, match="is a run folder, not images"):
        predict_files(report["run"], [report["run"]])


def test_nothing_readable_is_an_error_that_names_a_list(tmp_path):
    report = visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1"))
    (tmp_path / "page.jpg").write_text("<html></html>")
    with pytest.raises(visiontl.DataError, match="none of 1 image could be read"):
        predict_files(report["run"], [tmp_path / "page.jpg"], out=tmp_path / "out")
    assert "page.jpg" in (tmp_path / "out" / "unreadable.json").read_text()


def test_a_prediction_takes_one_line_whatever_the_file_is_called():
    assert in_words({"file": "new\nline.jpg", "label": "ant"}) == r"'new\nline.jpg': label ant"


def test_vectors_of_one_length_are_gathered_and_others_are_files_of_their_own(tmp_path):
    vectors: dict = {}
    given = [np.arange(3.0), np.arange(3.0) + 1, np.arange(4.0), np.zeros((2, 2))]
    written = [stored({"code": array}, tmp_path, f"photo{i}", vectors)["code"] for i, array in enumerate(given)]
    assert written[:2] == [{"file": "code.safetensors", "row": 0}, {"file": "code.safetensors", "row": 1}]
    np.testing.assert_array_equal(np.stack(vectors["code"]), np.stack(given[:2]))
    for name, array in zip(written[2:], given[2:], strict=True):
        np.testing.assert_array_equal(np.load(tmp_path / name), array)
