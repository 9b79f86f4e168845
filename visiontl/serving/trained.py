"""A run behind HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl.engine.predict import load, parse_options


class Trained:
    def __init__(self, run: str, threads: int):
        if threads:
            import torch

            torch.set_num_threads(threads)
        self.place = run
        self.predictor = load(run)

    @property
    def task(self) -> Any:
        return self.predictor.built.resolved.task

    def about(self) -> dict[str, Any]:
        options = list(self.task.options.model_fields) if self.task.options is not None else []
        classes = self.predictor.meta.get("classes")
        return {"task": self.task.name, "classes": classes, "options": options, "scores": dict(self.predictor.scores)}

    def open(self, file: Path) -> Image.Image:
        return self.predictor.opener(file)

    def reading(self) -> AbstractContextManager[None]:
        return self.predictor.reading()

    def check(self, options: Mapping[str, Any]) -> None:
        parse_options(self.task, options)

    def answers(self, photos: Sequence[Image.Image], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list(self.predictor.stream(photos, parse_options(self.task, options)))
