"""The sample world for several tasks at once: pictures with masks, and with the kinds that are in them as labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import find_task
from visiontl.kit.example import once
from visiontl.kit.written import put_table


def tags(folder: Path) -> dict[str, Any]:
    """FOLDER/scenes as segmentation's `index` has it, with one to three creatures a picture; FOLDER/tags.csv with path,
    split and in one cell the kinds that a picture's mask has, `fish|snail`; FOLDER/new/scene_0.jpg ...

    {"data": {"segmentation": the folder, "classification": the table}}; the latter's part has `labels: multi`. Raises
    VisionTLError where task segmentation is not installed."""
    write = find_task("segmentation").samples["index"]

    def make(place: Path) -> None:
        write(place)
        put_table(place / "tags.csv", ["path", "label", "split"], rows(place))

    whole = once(folder, make)
    return {"data": {"segmentation": str(whole / "scenes"), "classification": str(whole / "tags.csv")}}


def rows(place: Path) -> list[list[str]]:
    """path, kinds and split of each picture, by its mask."""
    scenes = place / "scenes"
    names = (scenes / "classes.txt").read_text(encoding="utf-8").split()
    found = []
    for mask in sorted((scenes / "masks").rglob("*.png")):
        split = mask.parent.name
        with Image.open(mask) as opened:
            there = np.unique(np.asarray(opened))  # class indices
        kinds = [names[index] for index in there.tolist() if index]
        found.append([f"scenes/images/{split}/{mask.stem}.jpg", "|".join(kinds), split])
    return found
