"""What `predict` returns: dicts and lists as before, which a notebook shows as the photo with what was found on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex, overload

from PIL import Image

from visiontl.engine.model import Built
from visiontl.engine.photos import PHOTOS, Opener, as_image
from visiontl.errors import sentence
from visiontl.kit import depths
from visiontl.kit.drawing import enlarged, put_lines
from visiontl.report import inline
from visiontl.report.formats import cell, is_number
from visiontl.report.listing import ROWS, brief, listed
from visiontl.runtime.written import short
from visiontl.task import DrawStep

LARGE, SMALL = 420, 180  # pixels, the longer side of a picture alone and among others
LEAST = 160  # pixels; a photo with a shorter side is enlarged before words are put on it
SHOWN = 24  # predictions of a list that are shown


@dataclass(frozen=True)
class Drawing:
    """How a prediction is drawn: by its task on the photo that it is of, opened when it is asked for.

    photo: a file, or the RGB picture itself; None where it was not kept. depth: as it was read (`data.depth`).
    """

    draw: DrawStep | None
    meta: Mapping[str, Any]
    photo: str | Path | Image.Image | None
    depth: depths.Depth
    opener: Opener = PHOTOS

    def of(self, prediction: Mapping[str, Any]) -> Image.Image | None:
        if self.photo is None:
            return None
        with depths.reading(self.depth):
            image = as_image(self.photo, self.opener)
        if self.draw is not None:
            return self.draw(image, dict(prediction), self.meta)
        return put_lines(enlarged(image, LEAST)[0], [f"{key}: {brief(value)}" for key, value in prediction.items()])


class Prediction(dict[str, Any]):
    """What a model says of one photo: a dict of the task's values, which a notebook shows with the photo."""

    def __init__(self, values: Mapping[str, Any], drawing: Drawing | None = None):
        super().__init__(values)
        self._drawing = drawing

    @property
    def file(self) -> Path | None:
        """The photo's file; None for a picture from memory."""
        photo = self._drawing.photo if self._drawing else None
        return Path(photo) if isinstance(photo, str | Path) else None

    def picture(self) -> Image.Image | None:
        """The photo with what was predicted; None where it is not at hand (after pickling, say)."""
        return self._drawing.of(self) if self._drawing else None

    def __reduce__(self) -> tuple[type[Prediction], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)  # the values alone

    def __repr__(self) -> str:
        """`Prediction(label='ant', probability=0.9312, top=[3 items])`"""
        return f"Prediction({', '.join(f'{key}={brief(value)}' for key, value in self.items())})"

    def _repr_html_(self) -> str:
        shown = drawn(self, LARGE)
        file = self.file.name if self.file else ""
        columns = [
            f'<div style="flex:0 1 auto;max-width:{LARGE}px">{shown}</div>' if shown else "",
            f'<div style="flex:1 1 14em;min-width:12em">{listed(self)}</div>',
        ]
        inside = f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-start">{"".join(columns)}</div>'
        return inline.card(file or "prediction", "", [inside])


class Predictions(list[Prediction]):
    """Predictions in the order of the photos: a list. failed: {file: reason} of those that a folder or a glob held and
    that could not be read."""

    def __init__(self, found: Iterable[Prediction] = (), failed: Mapping[str, str] | None = None):
        super().__init__(found)
        self.failed = dict(failed or {})

    @property
    def files(self) -> list[Path | None]:
        """The photos' files, in the same order; None for pictures from memory."""
        return [one.file for one in self]

    @overload
    def __getitem__(self, index: SupportsIndex) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Predictions: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Prediction | Predictions:
        return Predictions(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.failed)

    def __repr__(self) -> str:
        lines = [f"{len(self)} predictions" + (f", {len(self.failed)} photos could not be read" if self.failed else "")]
        for index, one in enumerate(self[:5]):
            lines.append(f"{one.file.name if one.file else f'[{index}]'}: {in_line(one)}")
        if len(self) > 5:
            lines.append(f"and {len(self) - 5} more")
        return sentence(lines[0], lines[1:])

    def _repr_html_(self) -> str:
        tiles: list[str] = []
        for index, one in enumerate(self[:SHOWN]):
            name = one.file.name if one.file else f"[{index}]"
            words = (
                f'<div style="font-size:.85em">{inline.text(name)}<br>{inline.soft(inline.text(in_line(one)))}</div>'
            )
            tiles.append(f'<div style="width:{SMALL}px;max-width:100%">{drawn(one, SMALL)}{words}</div>')
        grid = f'<div style="display:flex;flex-wrap:wrap;gap:1em;align-items:flex-end">{"".join(tiles)}</div>'
        more = inline.soft(f"and {len(self) - SHOWN} more") if len(self) > SHOWN else ""
        failed = inline.bullets([f"could not be read: {reason}" for reason in self.failed.values()])
        return inline.card(f"{len(self)} predictions", "", [grid, more, failed])


def facts_of(built: Built) -> list[str]:
    """What a model is, in a few words each: task, backbone, classes, its scores on val."""
    classes = built.meta.get("classes")
    named = [f"{len(classes)} classes"] if isinstance(classes, Sequence) and not isinstance(classes, str) else []
    measured = [
        f"val {name.replace('_', ' ')} {cell(value)}" for name, value in built.scores.items() if is_number(value)
    ]
    return [built.resolved.task.name, built.backbone.name, *named, *measured[:1]]


def display_of(built: Built) -> str:
    """A model as a notebook shows it."""
    spec, classes = built.backbone.spec, built.meta.get("classes")
    rows = [
        ["backbone", f"{built.backbone.name}, weights {built.resolved.config.backbone.weights}"],
        ["photos are seen at", f"{spec.size[1]} x {spec.size[0]} pixels"],
    ]
    if isinstance(classes, Sequence) and not isinstance(classes, str):
        shown = ", ".join(map(str, classes[:ROWS]))
        rows.append(
            [f"{len(classes)} classes", f"{shown}, and {len(classes) - ROWS} more" if len(classes) > ROWS else shown]
        )
    rows += [[f"val {name.replace('_', ' ')}", cell(value)] for name, value in built.scores.items() if is_number(value)]
    tries = inline.soft("predict(photos), show(photos): a path, a folder, PIL, NumPy, torch")
    return inline.card(f"{built.resolved.task.name} model", "", [inline.table(["", ""], rows, [False, False]), tries])


def drawn(prediction: Prediction, side: int) -> str:
    """The prediction's picture as an element, or why there is none; a picture that is gone hides no values."""
    try:
        picture = prediction.picture()
    except Exception as error:  # the file was moved, or the task's own code fails
        return inline.soft(inline.text(f"no picture: {error}"))
    if picture is None:
        return inline.soft("its photo is not kept")
    return inline.picture(picture, side, in_line(prediction))


def in_line(prediction: Mapping[str, Any]) -> str:
    """'label ant, probability 0.93': what can be said in a line."""
    return ", ".join(f"{key} {words}" for key, value in prediction.items() if (words := short(value))) or ", ".join(
        f"{key} {brief(value)}" for key, value in prediction.items()
    )
