"""An exported model behind HTTP, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from visiontl import plugins
from visiontl.errors import ConfigError, VisionTLError
from visiontl.kit import depths
from visiontl.kit.images import open_image
from visiontl.runtime import load
from visiontl.runtime.answers import OPTIONS
from visiontl.serving.controls import Control


class Exported:
    def __init__(self, path: str, threads: int):
        self.place = path
        self.model = load(path, threads=threads)

    def about(self) -> dict[str, Any]:
        about = self.model.about
        kind = about["answer"]["kind"]
        told = {"task": about.get("task"), "answers": kind, "classes": about["answer"].get("classes")}
        return {**told, "options": sorted(one.name for one in self.controls()), "precision": about.get("precision")}

    def open(self, file: Path) -> Image.Image:
        return open_image(file)

    def reading(self) -> AbstractContextManager[None]:
        return depths.reading(self.model.depth)

    def check(self, options: Mapping[str, Any]) -> None:
        self.model.options(options)

    def named(self) -> dict[str, list[str]]:
        return {}

    def controls(self) -> list[Control]:
        return controls_of(self.model.about["answer"])

    def explains(self) -> tuple[list[Control] | None, str]:
        return None, "an exported model has no gradients, by which answers are explained: the run has"

    def drawn(self, photo: Image.Image, prediction: Mapping[str, Any]) -> Image.Image | None:
        try:
            draw = plugins.task(str(self.model.about.get("task"))).draw
        except VisionTLError:  # not installed here
            return None
        return None if draw is None else draw(photo, dict(prediction), self.model.about.get("meta") or {})

    def explained(self, photo: Image.Image, options: Mapping[str, Any]) -> tuple[Image.Image, str]:
        raise ConfigError(self.explains()[1])

    def answers(self, photos: Sequence[Image.Image], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self.model.predict_each(photos, **options)


def controls_of(answer: Mapping[str, Any], above: str = "") -> list[Control]:
    """answer: of the description. above: the part's name and a dot, of several tasks."""
    if answer["kind"] == "parts":
        return [one for name, own in answer["parts"].items() for one in controls_of(own, f"{name}.")]
    classes = tuple(map(str, answer.get("classes") or ()))
    made = {
        "top_k": Control("top_k", "whole", answer.get("top"), "how many of the most probable classes are listed", 1),
        "threshold": Control("threshold", "number", answer.get("threshold"), "", answer.get("kept", 0), 1),
        "probabilities": Control("probabilities", "switch", answer.get("listed"), "every class's probability"),
        "classes": Control("classes", "several", None, "these classes only", choices=classes),
        "most": Control("most", "words", "", "of an image at most"),
    }
    return [replace(made[name], name=f"{above}{name}") for name in OPTIONS[answer["kind"]]]
