"""A model of either kind, a run's or an exported one's, and what it says of uploaded pictures as JSON has it."""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from visiontl.errors import ConfigError, DataError, VisionTLError
from visiontl.kit.headers import possible_sizes
from visiontl.outlet import say
from visiontl.report.values import json_value
from visiontl.serving.controls import Control

Made = Callable[[Image.Image, Mapping[str, Any]], dict[str, Any]]  # (photo, prediction) -> JSON values

EXPORTED = ".onnx"
LARGEST = "the picture has {:,} pixels; this server takes up to {:,}"


class Answering(Protocol):
    """A model that is ready. place: where it lies, as it was given."""

    place: str

    def about(self) -> dict[str, Any]:
        """What it is, for those who ask: JSON values, none of which is a place on this machine."""
        ...

    def open(self, file: Path) -> Image.Image:
        """Raises DataError, naming the file."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Within the block pictures of more than 8 bits are read as in training."""
        ...

    def check(self, options: Mapping[str, Any]) -> None:
        """Raises ConfigError for options that it does not have."""
        ...

    def named(self) -> dict[str, list[str]]:
        """Options that may name a file -> what else they may name."""
        ...

    def controls(self) -> list[Control]:
        """Of its options."""
        ...

    def explains(self) -> tuple[list[Control] | None, str]:
        """What an explanation of its answers may be asked; None and the reason where there is none."""
        ...

    def drawn(self, photo: Image.Image, prediction: Mapping[str, Any]) -> Image.Image | None:
        """photo: RGB, may be drawn on -> with its answer; None where the task does not draw."""
        ...

    def explained(self, photo: Image.Image, options: Mapping[str, Any]) -> tuple[Image.Image, str]:
        """photo: RGB -> (the photo under its heat, what the heat is of). Raises VisionTLError."""
        ...

    def answers(self, photos: Sequence[Image.Image], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """photos: RGB, one or more -> what predict says of each."""
        ...


def ready(model: str, threads: int) -> Answering:
    """The model of a run folder or of an .onnx file. Raises VisionTLError."""
    if model.lower().endswith(EXPORTED):
        from visiontl.serving.exported import Exported

        return Exported(model, threads)
    from visiontl.serving.trained import Trained

    return Trained(model, threads)


def answer_each(
    model: Answering,
    uploads: Sequence[tuple[str, bytes]],
    options: Mapping[str, Any],
    pixels: int,
    made: Made = lambda photo, prediction: {"prediction": in_json(prediction)},
) -> list[dict[str, Any]]:
    """uploads: (suffix of the name, content) of each -> what `made` gives, or {"error", "kind"} with kind `picture`,
    `options` or `model`, in their order. No error names a place on this machine."""
    try:
        model.check(options)
    except VisionTLError as error:
        return [{"error": without_place(str(error), model.place), "kind": "options"}] * len(uploads)
    found: list[dict[str, Any]] = [{} for _ in uploads]
    photos: dict[int, Image.Image] = {}
    for index, (suffix, content) in enumerate(uploads):
        try:
            photos[index] = opened(model, suffix, content, pixels)
        except VisionTLError as error:
            found[index] = {"error": without_place(str(error), model.place), "kind": "picture"}
    for index, answer in zip(photos, said(model, list(photos.values()), options, made), strict=True):
        found[index] = answer
    return found


def said(
    model: Answering, photos: Sequence[Image.Image], options: Mapping[str, Any], made: Made
) -> list[dict[str, Any]]:
    """Of all at once; where that fails, of each alone, so that one picture spoils no other's answer."""
    if not photos:
        return []
    try:
        return [made(photo, one) for photo, one in zip(photos, model.answers(photos, options), strict=True)]
    except Exception as error:  # a task's own code, or a library's; the process goes on
        if len(photos) > 1:
            return [one for photo in photos for one in said(model, [photo], options, made)]
        if isinstance(error, VisionTLError):
            kinds = {"picture": DataError, "options": ConfigError}  # some options are known when they are used
            kind = next((name for name, one in kinds.items() if isinstance(error, one)), "model")
            return [{"error": without_place(str(error), model.place), "kind": kind}]
        say(traceback.format_exc(), sys.stderr)  # whole here; over the network its kind alone, for it may name files
        return [{"error": f"the model failed on this picture ({type(error).__name__})", "kind": "model"}]


def opened(model: Answering, suffix: str, content: bytes, pixels: int) -> Image.Image:
    """An upload -> an RGB picture, by way of a file, as predict opens it. Raises DataError, which names no file."""
    handle, name = tempfile.mkstemp(suffix if suffix.isascii() and suffix[1:].isalnum() else "", "upload-")
    file = Path(name)
    try:
        with open(handle, "wb") as stream:
            stream.write(content)
        most = max((height * width for height, width in possible_sizes(file)), default=0)
        if most > pixels:
            raise DataError(LARGEST.format(most, pixels))
        with model.reading():
            image = model.open(file)
        image.info.pop("file", None)
        if image.width * image.height > pixels:  # of a kind whose header says nothing
            raise DataError(LARGEST.format(image.width * image.height, pixels))
        return image
    except DataError as error:
        raise DataError(str(error).replace(f"{name}: ", "").replace(name, "the upload")) from None
    finally:
        os.unlink(name)


def in_json(prediction: Mapping[str, Any], place: str = "prediction") -> dict[str, Any]:
    """A prediction with vectors as lists, pictures as {"png": base64, "width", "height"} and other arrays as {"npy":
    base64, "shape"}."""
    made: dict[str, Any] = {}
    for name, value in prediction.items():
        if isinstance(value, Mapping):
            made[str(name)] = in_json(value, f"{place}.{name}")
        elif isinstance(value, Image.Image):
            stream = io.BytesIO()
            value.save(stream, "PNG", compress_level=1)  # a third of the time of the default, for a tenth more bytes
            made[name] = {"png": text_of(stream), "width": value.width, "height": value.height}
        elif isinstance(value, np.ndarray) and value.ndim > 1:
            stream = io.BytesIO()
            np.save(stream, value, allow_pickle=False)
            made[name] = {"npy": text_of(stream), "shape": list(value.shape)}
        else:
            made[str(name)] = json_value(value, f"{place}.{name}")
    return made


def text_of(stream: io.BytesIO) -> str:
    return base64.b64encode(stream.getvalue()).decode("ascii")


def without_place(text: str, place: str) -> str:
    """A text in which nothing says where the model lies: whoever asks over the network learns no path. place: of the
    model, as it was given."""
    whole = os.path.abspath(place)
    for one in (whole, os.path.dirname(whole), place):
        if one.strip("./"):
            text = text.replace(one, "the model")
    return re.sub(re.escape(tempfile.gettempdir()) + r"[\w./-]*/", "", text)
