"""Small face data sets for tests: drawn people in the layouts that are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from visiontl_face.config import FaceConfig
from visiontl_face.example import drawn_traits, portrait

PEOPLE, EACH = 8, 3


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def portrait_of(person: int, number: int = 0) -> Image.Image:
    return portrait(drawn_traits(np.random.default_rng([7, person])), np.random.default_rng([7, person, number]))


def picture(path: Path, person: int, number: int, gray: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = portrait_of(person, number)
    (drawn.convert("L") if gray else drawn).save(path)


def folders(root: Path, people: int = PEOPLE, each: int = EACH) -> Path:
    """ROOT/p0/0.png ..."""
    for person in range(people):
        for number in range(each):
            picture(root / f"p{person}" / f"{number}.png", person, number)
    return root


def splits(root: Path) -> Path:
    """ROOT/train with five people, val and test with two each."""
    for split, chosen in {"train": range(5), "val": range(5, 7), "test": range(7, 9)}.items():
        for person in chosen:
            for number in range(EACH):
                picture(root / split / f"p{person}" / f"{number}.png", person, number)
    return root


def lfw(root: Path, people: int = 6, each: int = 3) -> Path:
    """LFW's layout: ROOT/Name_Surname/Name_Surname_0001.jpg, gray as some of its pictures are."""
    for person in range(people):
        name = f"Person_{chr(65 + person)}"
        for number in range(1, each + 1):
            picture(root / name / f"{name}_{number:04d}.jpg", person, number, gray=person % 2 == 0)
    return root


def config(**keys: Any) -> FaceConfig:
    return FaceConfig.model_validate(keys)
