"""A small set of arrows with their points and a class each, partly labelled, for a stranger's task beside ours."""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from tests.shared import ROOT
from visiontl import plugins

PARTS = {"point": {"name": "keypoints"}, "side": {"name": "classification", "augment": "none"}}


def keypoints() -> Any:
    """The stranger's task, as one finds it that is installed."""
    place = str(ROOT / "tests/plugins/keypoints")
    if place not in sys.path:
        sys.path.append(place)
    return importlib.import_module("visiontl_keypoints")


@contextmanager
def installed(module: Any):
    plugins.register(module, "keypoints")
    try:
        yield
    finally:
        plugins.manager().unregister(module)
        plugins._registry().offered.clear()


def arrows(folder: Path) -> dict[str, Any]:
    """The `task:` keys of two parts over one set: arrows that point left or right, of 64 x 64 pixels. Every third photo
    of train has points and no class, and four more a class and no points."""
    keypoints().TASK.example(folder)
    place = folder / "arrows"
    points = json.loads((place / "points.json").read_text())
    for file in sorted(points):
        with Image.open(place / file) as photo:
            width, height = photo.size
            points[file] = [[x * 64 / width, y * 64 / height] for x, y in points[file]]
            square = photo.resize((64, 64))
        square.save(place / file)
    (place / "points.json").write_text(json.dumps(points))
    data = plugins.task("keypoints").data(Config(str(place)), Spec(), None)
    lines = ["path,label,split"]
    for split, photos in data.splits().items():
        for id, name in enumerate(photos.names):
            if split != "train" or id % 3:
                tail, head = points[name]
                lines.append(f"{name},{'right' if head[0] > tail[0] else 'left'},{split}")
    for number in range(4):
        Image.new("RGB", (64, 64), (10 * number, 90, 60)).save(place / f"more{number}.png")
        lines.append(f"more{number}.png,{('left', 'right')[number % 2]},train")
    (place / "sides.csv").write_text("\n".join(lines) + "\n")
    return {"data": {"point": str(place), "side": str(place / "sides.csv")}, "tasks": PARTS}


class Config:
    def __init__(self, data: str):
        self.data = data


class Spec:
    size = (64, 64)
