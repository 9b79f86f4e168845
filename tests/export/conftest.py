"""Small models of each task, as a run leaves them, and small graphs that need no exporter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from visiontl.engine.model import save_model
from visiontl.runtime.model import sha256
from visiontl.testing.case import Case


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    """task -> the `model/` of a run on its example, before any update."""
    made: dict[str, Path] = {}

    def model(task: str, *overrides: str, **section: Any) -> Path:
        name = "-".join([task, *overrides, *map(str, section.values())]).replace("/", "_")
        if name not in made:
            folder = tmp_path_factory.mktemp("run")
            run = Case(task, folder, section).run(*overrides)
            made[name] = save_model(folder / "run" / "model", run.built).parent
        return made[name]

    return model


@pytest.fixture
def photos(tmp_path):
    """Pictures of several shapes that no run has seen."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(90, 70), (64, 64), (70, 110)]):
        coarse = np.random.default_rng(number).integers(0, 256, (7, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


ABOUT: dict[str, Any] = {
    "format": "visiontl-export",
    "version": 1,
    "task": "unknown",
    "file": "model.onnx",
    "input": {"size": [4, 4], "multiple": 1, "extent": False},
    "outputs": ["logits"],
    "view": {"resize": "stretch", "size": [4, 4], "interpolation": "bilinear"},
    "depth": "auto",
    "answer": {
        "kind": "classes", "output": "logits", "activation": "softmax", "classes": ["red", "green", "blue"],
        "single": True, "top": 2, "threshold": 0.5, "listed": True,
    },
}  # fmt: skip


def graph(folder: Path, **changes: Any) -> Path:
    """FOLDER/model.onnx, whose logits are the mean red, green and blue times 10, and its description."""
    folder.mkdir(parents=True, exist_ok=True)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, "h", "w"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    ten = helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "ten"], ["logits"]),
    ]
    made = helper.make_graph(nodes, "colors", [image], [logits], [ten, axes])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"))
    describe(folder, sha256=sha256(folder / "model.onnx"), **changes)
    return folder / "model.onnx"


def describe(folder: Path, **changes: Any) -> None:
    (folder / "model.json").write_text(json.dumps({**ABOUT, **changes}), encoding="utf-8")
