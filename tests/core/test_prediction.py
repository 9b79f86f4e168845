"""Predictions of files: each answer stands beside the photo that it belongs to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import visiontl
from visiontl.prediction import predict_files
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
