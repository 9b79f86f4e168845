"""What a page shows of a model and of its answers: controls, the picture, the values in words, an explanation. This is
the side of the process that holds the model."""

from __future__ import annotations

import base64
import contextlib
import io
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from visiontl.errors import ConfigError, DataError, VisionTLError
from visiontl.kit.drawing import enlarged, put_lines
from visiontl.outlet import say
from visiontl.report import inline
from visiontl.report.listing import brief, listed
from visiontl.serving.answering import Answering, answer_each, in_json, opened, without_place
from visiontl.serving.controls import UPLOAD, require_no_files

LARGEST = 1600  # pixels, the longer side of a picture on the page; what an answer itself holds is whole
LEAST = 160  # pixels; a photo with a shorter side is enlarged before words are put on it
PLAIN = (64, 64, 64)


def facts_of(model: Answering) -> dict[str, Any]:
    """What a page needs to know, as JSON values. Raises ConfigError for a model whose answer nobody can look at."""
    explained, why = model.explains()
    facts = {**model.about(), "controls": [asdict(one) for one in model.controls()]}
    facts["explains"] = None if explained is None else [asdict(one) for one in explained]
    facts["why"] = why
    if explained is None and not facts["controls"]:
        require_shown(model, f"task {facts['task']}", why)
    return facts


def require_shown(model: Answering, what: str, why: str) -> None:
    """Raises ConfigError where an answer is vectors alone."""
    answer: Mapping[str, Any] = {}
    with contextlib.suppress(Exception):  # what is wrong with photos is told of those that come
        [answer] = model.answers([Image.new("RGB", (96, 96), PLAIN)], {})
    if answer and all(isinstance(value, np.ndarray) and value.ndim for value in answer.values()):
        said = ", ".join(f"{name}: {brief(value)}" for name, value in answer.items())
        raise ConfigError(
            f"there is nothing to look at: what {what} says of a photo is numbers for other programs alone ({said}), "
            f"and {why}; `visiontl predict` writes them"
        )


def shown_each(
    model: Answering, uploads: Sequence[tuple[str, bytes]], asked: Mapping[str, Any], pixels: int
) -> list[dict[str, Any]]:
    """As `answer_each`; asked: {"predict": options, "explain": options or None}. An answer also holds `values` (a table
    in HTML), `picture` (PNG in base64, at most LARGEST pixels long) and `explanation`: {"picture", "words"},
    {"error"}, or None where none was asked for."""
    with ExitStack() as files:
        try:
            require_no_files(asked["predict"], model.named())
            options = with_files(asked["predict"], model, pixels, files)
            explain = asked["explain"] and with_files(asked["explain"], model, pixels, files)
        except VisionTLError as error:
            return [{"error": without_place(str(error), model.place), "kind": "options"}] * len(uploads)

        def shown(photo: Image.Image, prediction: Mapping[str, Any]) -> dict[str, Any]:
            made = {"prediction": in_json(prediction), "values": table_of(prediction)}
            made["picture"] = in_png(drawn(model, photo.copy(), prediction))
            made["explanation"] = None if explain is None else explained(model, photo, explain)
            return made

        return answer_each(model, uploads, options, pixels, shown)


def table_of(prediction: Mapping[str, Any]) -> str:
    """The values in HTML; of several answers in one a table each below its name."""
    if not prediction or not all(isinstance(value, Mapping) for value in prediction.values()):
        return listed(prediction)
    return "".join(f"<h3>{inline.text(name)}</h3>{listed(own)}" for name, own in prediction.items())


def with_files(options: Mapping[str, Any], model: Answering, pixels: int, files: ExitStack) -> dict[str, Any]:
    """Options with each picture that was sent as a file, which is there until `files` are closed."""
    made: dict[str, Any] = {}
    for name, value in options.items():
        inner = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}
        if inner.keys() == {UPLOAD}:
            try:
                made[name] = files.enter_context(as_file(model, base64.b64decode(inner[UPLOAD]), pixels))
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
        else:
            made[name] = with_files(inner, model, pixels, files) if inner else value
    return made


@contextlib.contextmanager
def as_file(model: Answering, content: bytes, pixels: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        file = Path(folder) / "your-picture.png"
        opened(model, "", content, pixels).save(file, compress_level=1)
        yield str(file)


def drawn(model: Answering, photo: Image.Image, prediction: Mapping[str, Any]) -> Image.Image:
    """The photo with its answer as the task draws it; of a task that does not draw, the picture in its answer, or words
    on the photo. A drawing that fails takes no answer away."""
    try:
        made = model.drawn(photo, prediction)
    except Exception:
        say(traceback.format_exc(), sys.stderr)
        made = None
    if made is None:
        own = next((value for value in prediction.values() if isinstance(value, Image.Image)), None)
        lines = [f"{key}: {brief(value)}" for key, value in prediction.items()]
        made = own if own is not None else put_lines(enlarged(photo, LEAST)[0], lines)
    return made


def explained(model: Answering, photo: Image.Image, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        picture, words = model.explained(photo, options)
        return {"picture": in_png(enlarged(picture, LEAST)[0]), "words": words}
    except VisionTLError as error:
        return {"error": without_place(str(error), model.place)}
    except Exception as error:
        say(traceback.format_exc(), sys.stderr)
        return {"error": f"the explanation failed ({type(error).__name__})"}


def in_png(picture: Image.Image) -> str:
    if max(picture.size) > LARGEST:
        picture = picture.copy()
        picture.thumbnail((LARGEST, LARGEST))
    stream = io.BytesIO()
    (picture if picture.mode in ("RGB", "RGBA", "L", "P") else picture.convert("RGB")).save(
        stream, "PNG", compress_level=1
    )
    return base64.b64encode(stream.getvalue()).decode("ascii")
