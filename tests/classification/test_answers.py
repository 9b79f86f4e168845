"""Predictions, pictures, the report and the example."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from visiontl_classification import TASK
from visiontl_classification.config import PredictOptions

from tests.classification.helpers import config, read, shapes_meta
from visiontl import DataError, Figure, Pictures, Table


class Fixed(nn.Module):
    """Answers with the logits that ride in the batch; mirrored images get them in reverse."""

    def forward(self, batch):
        mirrored = float(batch["image"][0, 0, 0, 0]) > float(batch["image"][0, 0, 0, -1])
        return {"logits": batch["logits"].flip(1) if mirrored else batch["logits"]}


def answers(logits, labels="single", classes=None, **options):
    classes = classes or [f"class {i}" for i in range(len(logits[0]))]
    image = torch.arange(4.0).expand(len(logits), 3, 4, 4)  # dark left, bright right
    batches = [{"image": image, "logits": torch.tensor(logits)}]
    cfg = config("a.csv", labels=labels) if labels == "multi" else config()
    return list(TASK.predict(cfg, Fixed(), batches, shapes_meta(classes, labels), PredictOptions(**options)))


def test_single_label_predictions():
    first, second = answers([[1.0, 3.0, 2.0], [0.0, 0.0, 0.0]], top_k=2)
    p = np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    assert first["label"] == "class 1"
    assert first["probability"] == pytest.approx(p[1])
    assert [entry["label"] for entry in first["top"]] == ["class 1", "class 2"]
    assert list(first["probabilities"].values()) == pytest.approx(p.tolist())
    assert second["label"] == "class 0"


def test_flipped_predictions_are_the_mean():
    (answer,) = answers([[2.0, 0.0]], flip=True)
    assert answer["probabilities"] == pytest.approx({"class 0": 0.5, "class 1": 0.5})


def test_multi_label_predictions():
    first, second = answers([[2.0, -2.0, 0.0], [-9.0, -9.0, -9.0]], "multi", threshold=0.5)
    assert first["labels"] == ["class 0", "class 2"]
    assert first["probabilities"]["class 1"] == pytest.approx(1 / (1 + np.exp(2)), rel=1e-5)
    assert second["labels"] == []
    strict, _ = answers([[2.0, -2.0, 0.0], [-9.0, -9.0, -9.0]], "multi", threshold=0.8)
    assert strict["labels"] == ["class 0"]


def test_many_classes_are_listed_on_demand():
    logits = [[float(i % 7) for i in range(150)]]
    assert "probabilities" not in answers(logits)[0]
    assert len(answers(logits, probabilities=True)[0]["probabilities"]) == 150
    assert "probabilities" not in answers([[0.0, 1.0]], probabilities=False)[0]


@pytest.mark.parametrize("size", [(32, 32), (400, 300), (1200, 90), (90, 1200)])
@pytest.mark.parametrize("label", ["bee", "Straßenbahn", "пчела и муравей", "a very long name of a class " * 4, "o"])
def test_the_answer_is_written_on_the_picture(size, label):
    photo = Image.new("RGB", size, "white")
    drawn = TASK.draw(photo, {"label": label, "probability": 0.973, "top": []}, {})
    assert photo.getextrema() == ((255, 255),) * 3  # the photo itself is left alone
    assert min(drawn.size) >= 90
    assert drawn.width * size[1] == drawn.height * size[0]
    pixels = np.asarray(drawn.convert("L")).astype(int)
    height = max(14, min(drawn.size) // 14)
    box = pixels[: 2 * height]
    assert (box < 90).sum() > 50  # a dark box
    dark = np.flatnonzero((box < 100).any(0))
    inside = box[:, dark.min() : dark.max() + 1]
    assert (inside[2 : height - 2, 2:-2] > 200).sum() > 10  # bright letters in it


def test_several_labels_on_a_picture():
    photo = Image.new("RGB", (300, 300), "white")
    top = [{"label": "cat", "probability": 0.9}]
    few = TASK.draw(photo, {"labels": ["cat", "dog"], "top": top}, {})
    many = TASK.draw(photo, {"labels": list("abcdefgh"), "top": top}, {})
    none = TASK.draw(photo, {"labels": [], "top": top}, {})
    dark = [int((np.asarray(picture.convert("L"))[:, 3] < 100).sum()) for picture in (none, few, many)]
    assert dark[0] < dark[1] < dark[2]


def rows_of(logits, true, classes):
    meta, cfg = shapes_meta(classes), config()
    batch = {"label": torch.tensor(true)}
    return cfg, TASK.rows(cfg, {"logits": torch.tensor(logits, dtype=torch.float32)}, batch, meta), meta


def test_report_of_a_few_classes():
    classes = ["cat", "dog", "emu"]
    cfg, rows, meta = rows_of([[4, 0, 0], [5, 0, 0], [0, 1, 0], [0, 9, 0]], [0, 1, 1, 0], classes)
    opened = []

    def image(number: int) -> Image.Image:
        opened.append(number)
        if number == 1:
            raise DataError("gone")
        return Image.new("RGB", (8, 8))

    shown = TASK.report(cfg, rows, meta, image)
    assert opened == [3, 1]  # mistakes, the most confident first
    pictures = next(piece for piece in shown if isinstance(piece, Pictures))
    assert [caption for caption, _ in pictures.items] == ["cat (0%), called dog (100%)"]
    tables = {piece.title: piece for piece in shown if isinstance(piece, Table)}
    assert tables["Classes"].rows[0][:3] == ("cat", 2, "0.500")
    assert "1 class without an image" in tables["Classes"].caption
    assert {row[:3] for row in tables["Most confused pairs"].rows} == {("cat", "dog", 1), ("dog", "cat", 1)}
    figures = [piece for piece in shown if isinstance(piece, Figure)]
    assert [figure.title for figure in figures] == ["Confusion matrix", "Class balance", "Reliability"]
    from matplotlib.figure import Figure as Canvas

    for figure in figures:
        canvas = Canvas(figsize=figure.size)
        axes = canvas.subplots()
        figure.draw(axes)
        canvas.canvas.draw()
        assert {text.get_text() for text in axes.texts} <= {"0", "1", "2", "3"}
        assert axes.texts


def test_report_of_many_classes_and_of_none_wrong():
    classes = [str(i) for i in range(40)]
    cfg, rows, meta = rows_of(np.eye(40) * 9, list(range(40)), classes)
    shown = TASK.report(cfg, rows, meta, lambda number: Image.new("RGB", (8, 8)))
    assert [piece.title for piece in shown] == ["Accuracy by class", "Classes", "Class balance", "Reliability"]


def test_report_of_several_labels():
    cfg = config("a.csv", labels="multi")
    rows = [
        {"true": [0], "probability": np.array([0.9, 0.2])},
        {"true": [], "probability": np.array([0.1, 0.7])},
    ]
    mistakes, _, table, *_ = TASK.report(cfg, rows, shapes_meta(["a", "b"], "multi"), lambda number: None)
    assert [caption for caption, _ in mistakes.items] == ["wrongly named b 70%"]
    assert table.rows == [("a", 1, "1.000", "1.000", "1.000")]


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*.png"))
    content = b"".join(str(path.relative_to(folder)).encode() + Image.open(path).tobytes() for path in files)
    return hashlib.sha256(content).hexdigest()


def test_the_example_is_drawn_once_and_always_the_same(tmp_path):
    first = TASK.example(tmp_path / "one")
    marker = Path(first) / "train/circle/000.png"
    stamp = marker.stat().st_mtime_ns
    assert TASK.example(tmp_path / "one") == first
    assert marker.stat().st_mtime_ns == stamp
    assert digest(Path(first)) == digest(Path(TASK.example(tmp_path / "two")))
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["shapes"]  # nothing unfinished left
    data = read(first)
    assert {name: len(split) for name, split in data.splits().items()} == {
        "train": 120,
        "val": 45,
        "test": 45,
    }
    assert data.meta["classes"] == ["circle", "square", "triangle"]
    sizes = {data.train[i, 0]["size"] for i in range(0, 120, 5)}
    assert min(map(min, sizes)) >= 64
    assert max(map(max, sizes)) <= 96
