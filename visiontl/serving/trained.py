"""A run behind HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import BaseModel

from visiontl.config.asked import explain_options, of_model
from visiontl.engine.predict import load, parse_options
from visiontl.errors import ConfigError
from visiontl.kit.drawing import WHITE, Shape, put_boxes
from visiontl.serving.controls import Control, controls_of, named_files

OTHER = "other"  # the second photo, of explanations that compare two


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

    @property
    def options(self) -> type[BaseModel] | None:
        return of_model(self.task.options, self.predictor.built.resolved.cfg, self.predictor.meta)

    def about(self) -> dict[str, Any]:
        options = list(self.options.model_fields) if self.options is not None else []
        classes = self.predictor.meta.get("classes")
        return {"task": self.task.name, "classes": classes, "options": options, "scores": dict(self.predictor.scores)}

    def open(self, file: Path) -> Image.Image:
        return self.predictor.opener(file)

    def reading(self) -> AbstractContextManager[None]:
        return self.predictor.reading()

    def check(self, options: Mapping[str, Any]) -> None:
        parse_options(self.task, options)

    def named(self) -> dict[str, list[str]]:
        return named_files(self.options, self.predictor.meta)

    def controls(self) -> list[Control]:
        return controls_of(self.options, self.predictor.meta)

    def explains(self) -> tuple[list[Control] | None, str]:
        built = self.predictor.built
        try:
            core = explain_options(self.task)
        except ConfigError as error:
            return None, str(error)
        own = controls_of(of_model(self.task.explain_options, built.resolved.cfg, built.meta), built.meta)
        own = [replace(one, kind="picture", default=None) if one.name == OTHER else one for one in own]
        known = {one.name for one in own}
        return [*own, *(one for one in controls_of(core, built.meta) if one.name not in known | {OTHER})], ""

    def drawn(self, photo: Image.Image, prediction: Mapping[str, Any]) -> Image.Image | None:
        return None if self.task.draw is None else self.task.draw(photo, dict(prediction), self.predictor.meta)

    def explained(self, photo: Image.Image, options: Mapping[str, Any]) -> tuple[Image.Image, str]:
        found = self.predictor.explain(photo, **options)
        picture = found.picture
        if found.box is not None:
            picture = put_boxes(picture, [Shape(found.box, WHITE)])
        return picture, f"{found.words}: nothing in the photo raises it" if found.empty else found.words

    def answers(self, photos: Sequence[Image.Image], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return list(self.predictor.stream(photos, parse_options(self.task, options)))
