"""An exported model behind HTTP, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl.kit import depths
from visiontl.kit.images import open_image
from visiontl.runtime import load
from visiontl.runtime.answers import OPTIONS


class Exported:
    def __init__(self, path: str, threads: int):
        self.place = path
        self.model = load(path, threads=threads)

    def about(self) -> dict[str, Any]:
        about = self.model.about
        kind = about["answer"]["kind"]
        told = {"task": about.get("task"), "answers": kind, "classes": about["answer"].get("classes")}
        return {**told, "options": sorted(OPTIONS[kind]), "precision": about.get("precision")}

    def open(self, file: Path) -> Image.Image:
        return open_image(file)

    def reading(self) -> AbstractContextManager[None]:
        return depths.reading(self.model.depth)

    def check(self, options: Mapping[str, Any]) -> None:
        self.model.options(options)

    def answers(self, photos: Sequence[Image.Image], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.model.predict_each(photos, **options)
