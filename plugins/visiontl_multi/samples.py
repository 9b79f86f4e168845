"""The sample world for several tasks at once: pictures with masks, and with a label each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import find_task
from visiontl.kit.example import once
from visiontl.kit.written import put_table


def largest(folder: Path) -> dict[str, Any]:
    """FOLDER/scenes as segmentation's `index` has it, with one to three creatures a picture; FOLDER/largest.csv with
    path, label and split: the kind that covers most of the picture; FOLDER/new/scene_0.jpg ...

    {"data": {"segmentation": the folder, "classification": the table}}. Raises VisionTLError where task segmentation is
    not installed."""
    write = find_task("segmentation").samples["index"]

    def make(place: Path) -> None:
        write(place)
        put_table(place / "largest.csv", ["path", "label", "split"], rows(place))

    whole = once(folder, make)
    return {"data": {"segmentation": str(whole / "scenes"), "classification": str(whole / "largest.csv")}}


def rows(place: Path) -> list[list[str]]:
    """path, largest kind and split of each picture, by its mask."""
    scenes = place / "scenes"
    names = (scenes / "classes.txt").read_text(encoding="utf-8").split()
    found = []
    for mask in sorted((scenes / "masks").rglob("*.png")):
        split = mask.parent.name
        with Image.open(mask) as opened:
            pixels = np.bincount(np.asarray(opened).ravel(), minlength=len(names))[1:]  # of each kind, without ground
        if pixels.any():
            found.append([f"scenes/images/{split}/{mask.stem}.jpg", names[1 + int(pixels.argmax())], split])
    return found
