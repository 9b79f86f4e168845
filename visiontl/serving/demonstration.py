"""What the page of `visiontl demo` shows of a photo, whatever draws the page: controls in, a picture, a table, an
explanation and files out. Imports neither torch nor gradio."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from visiontl.errors import VisionTLError
from visiontl.report import inline
from visiontl.report.formats import cell, is_number
from visiontl.runtime.written import plain_name
from visiontl.serving.controls import Control, values_of
from visiontl.serving.line import Full, Line, Waiting

KEPT = 600.0  # seconds for which the files of an answer can be fetched
CLASSES = 8  # names of classes in the heading


@dataclass(frozen=True)
class Shown:
    """picture, explained: files, None where there is none. values: HTML. words: of the explanation. files: of the
    answer, to be fetched."""

    values: str
    picture: str | None = None
    explained: str | None = None
    words: str = ""
    files: list[str] = field(default_factory=list[str])


class Demonstration:
    """A model that is ready, and what is set of it. line: of a worker that shows. folder: for the files of answers."""

    def __init__(self, line: Line, folder: Path):
        self.line, self.folder = line, folder
        about = line.about
        self.controls = [Control(**one) for one in about["controls"]]
        self.explains = None if about["explains"] is None else [Control(**one) for one in about["explains"]]
        self.why: str = about["why"]

    @property
    def title(self) -> str:
        """'classification: ant, bee': the task and what it tells apart."""
        classes = self.line.about.get("classes") or []
        more = f" and {len(classes) - CLASSES} more" if len(classes) > CLASSES else ""
        names = ", ".join(map(str, classes[:CLASSES]))
        return f"{self.line.about.get('task')}{f': {names}{more}' if names else ''}"

    @property
    def scores(self) -> str:
        """'val accuracy 0.9530': the first score of the model."""
        scores = cast(Mapping[str, Any], self.line.about.get("scores") or {})
        return next((f"val {k.replace('_', ' ')} {cell(v)}" for k, v in scores.items() if is_number(v)), "")

    def answer(self, photo: str | None, explain: bool, values: Sequence[Any]) -> Shown:
        """photo: its file. explain: whether an explanation is wanted. values: of the controls, then of those of the
        explanation; pictures are files. What is wrong is said in place of the answer."""
        began = time.monotonic()
        try:
            if photo is None:
                return Shown(problem("choose a photo first"))
            found = self.asked(Path(photo), explain and self.explains is not None, list(values))
        except FileNotFoundError:  # it is kept for minutes, a page for hours
            return Shown(problem("the photo is no longer kept here; choose it again"))
        except VisionTLError as error:
            return Shown(problem(str(error)))
        if "error" in found:
            return Shown(problem(found["error"]))
        try:
            return self.shown(found, time.monotonic() - began)
        except OSError as error:
            return Shown(problem(f"the answer's files cannot be written here ({error.strerror or error})"))

    def asked(self, photo: Path, explain: bool, values: list[Any]) -> dict[str, Any]:
        """What the worker says. Raises ConfigError for values that cannot be read."""
        limits, own = self.line.limits, len(self.controls)
        contents = [photo, *(Path(one) for control, one in zip(self.all, values, strict=True) if is_file(control, one))]
        size = sum(one.stat().st_size for one in contents)
        if size > limits.upload:
            return {"error": f"{size:,} bytes; at most {limits.upload:,} bytes are taken"}
        values = [Path(v).read_bytes() if is_file(c, v) else v for c, v in zip(self.all, values, strict=True)]
        asked: dict[str, Any] = {"predict": values_of(self.controls, values[:own]), "explain": None}
        if explain:
            asked["explain"] = values_of(self.explains or (), values[own:])
        one = Waiting(photo.suffix.lower()[:10], photo.read_bytes(), asked, time.monotonic() + limits.seconds)
        try:
            self.line.put(one)
            return one.answer.result(limits.seconds)
        except Full:
            return {"error": "too many pictures wait already; try again in a second"}
        except (Late, CancelledError):
            return {"error": f"no answer within {limits.seconds:g} s"}

    @property
    def all(self) -> list[Control]:
        return [*self.controls, *(self.explains or ())]

    def shown(self, found: Mapping[str, Any], seconds: float) -> Shown:
        self.forget()
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        files: list[str] = []
        record = written(found["prediction"], folder, files)
        text = json.dumps(record, indent=1, ensure_ascii=False)
        (folder / "prediction.json").write_text(text, encoding="utf-8", errors="backslashreplace")
        explanation = cast(Mapping[str, Any], found["explanation"] or {})
        return Shown(
            found["values"] + inline.soft(f"{seconds:.2f} s"),
            saved(found["picture"], folder / "shown" / "answer.png"),
            saved(explanation["picture"], folder / "shown" / "explanation.png") if "picture" in explanation else None,
            problem(explanation["error"]) if "error" in explanation else inline.text(explanation.get("words", "")),
            [str(folder / "prediction.json"), *files],
        )

    def forget(self) -> None:
        """Files of answers that nobody fetched in time."""
        for old in self.folder.iterdir():
            with suppress(OSError):  # another answer was quicker
                if time.time() - old.stat().st_mtime > KEPT:
                    shutil.rmtree(old, ignore_errors=True)


def is_file(control: Control, value: Any) -> bool:
    return control.kind == "picture" and value is not None


def written(values: Mapping[str, Any], folder: Path, files: list[str], above: str = "") -> dict[str, Any]:
    """An answer as `answering.in_json` gives it, with the pictures and arrays in it as files, which are added to
    `files`, and named in their place."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        inner = cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}
        kind = next((one for one in ("png", "npy") if isinstance(inner.get(one), str)), None)
        if kind is not None:
            made[name] = f"{plain_name(above + name)}.{kind}"
            files.append(saved(inner[kind], folder / made[name]))
        else:
            made[name] = written(inner, folder, files, f"{above}{name}.") if inner else value
    return made


def saved(text: str, file: Path) -> str:
    """text: base64."""
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(base64.b64decode(text))
    return str(file)


def problem(text: str) -> str:
    """What is wrong, as the page shows it."""
    return f'<div role="alert" style="border-left:4px solid #d07a2d;padding:.4em .8em">{inline.text(text)}</div>'
