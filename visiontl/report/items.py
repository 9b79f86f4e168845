"""What a run or a data set has to show: the pieces that a task's `report`, `check` and `explain` return, and the steps
by which mistakes are found and explained. Imports no torch and no matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True)
class Figure:
    """A plot. `draw` gets a matplotlib Axes; it is called when the report is written."""

    title: str
    draw: Callable[[Any], None]
    caption: str = ""
    size: tuple[float, float] = (6.0, 4.0)  # inches (width, height)


@dataclass(frozen=True)
class Table:
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""


@dataclass(frozen=True)
class Pictures:
    """Captioned PIL images, shown as a grid."""

    title: str
    items: Sequence[tuple[str, Any]]  # (caption, PIL image)
    caption: str = ""


@dataclass(frozen=True)
class Finding:
    """Something about a data set that its owner should know before training.

    level: error: the run would stop; warning: its numbers would mislead, or be worse than they could be; note:
    good to know. what: the fact, with its count. consequence: what it does to the run, or what to do. names: the
    images or classes, all of them; the console shows the first few.
    """

    level: Literal["error", "warning", "note"]
    what: str
    consequence: str = ""
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Seen:
    """What reading all images has shown, for a task's `check`.

    sizes: per split and id the photo's (H, W) in pixels, None where it cannot be read (and is left out of a run
    under data.on_bad: skip). duplicates: groups of (split, id) with equal pixels; empty where nobody looked.
    """

    sizes: Mapping[str, Sequence[tuple[int, int] | None]]
    duplicates: Sequence[Sequence[tuple[str, int]]] = ()


@dataclass(frozen=True)
class Scalar:
    """A number of a model's answer about one photo, for an explanation of it.

    value: a tensor () with gradients: what is differentiated, such as the logit of a class. words: what it is, with the
    number as people know it: "class bee, 0.93". score: that number.
    shown: (left, top, right, bottom) in pixels of the photo, edge to edge: what the network's input shows. It reaches
    beyond the photo where that is padded. None: what `kit.images.fit_image` leaves of the photo.
    part: whether it is about a part of the photo, as a box or a region is: each place then counts by its own gradient
    (HiResCAM), not by the mean over all (Grad-CAM). box: (x1, y1, x2, y2) in pixels of the photo, drawn in the picture.
    """

    value: Any
    words: str
    score: float
    shown: tuple[float, float, float, float] | None = None
    part: bool = False
    box: tuple[float, float, float, float] | None = None


class MistakesStep(Protocol):
    """(id, truth and answer in words) of the images of a split that the model got wrong, the worst first.

    Of a task that compares two photos, both of a pair one after the other.
    """

    def __call__(self, cfg: Any, rows: Sequence[Any], meta: Mapping[str, Any], /) -> Sequence[tuple[int, str]]: ...


class ProbeStep(Protocol):
    """What features of a sample should tell, for `visiontl rank`: {"labels": ...}, numbers from 0 on, below 0 where
    there is none.

    Of the image: a class, or (K,) 0/1 where several may hold. Of its parts: (n,) with "boxes": (n, 4), (x1, y1, x2, y2)
    in pixels of sample["image"]. Of its pixels: (H, W), as large as sample["image"].
    sample: as `data` gives it without augmentation. Opens no file.
    """

    def __call__(self, cfg: Any, sample: dict[str, Any], meta: Mapping[str, Any], /) -> Mapping[str, Any]: ...


class ExplainStep(Protocol):
    """The number of a photo's answer that is explained.

    batch: of one photo; with its truth where it is of a split. options: of Task.explain_options. In evaluation mode,
    with gradients, and with one pass of the backbone; further ones under no_grad. Raises DataError for a photo without
    such a number, ConfigError for options that no photo can have.
    """

    def __call__(
        self, cfg: Any, model: Any, batch: dict[str, Any], meta: Mapping[str, Any], options: Any, /
    ) -> Scalar: ...


class MirroredStep(Protocol):
    """Outputs in evaluation, as `rows` reads them, of photos and their mirror images together: what `flip=true` asks of
    `visiontl evaluate`, by the mean that it asks of predict. Runs under no_grad."""

    def __call__(self, cfg: Any, model: Any, batch: dict[str, Any], meta: Mapping[str, Any], /) -> Any: ...


class ScaledStep(Protocol):
    """The same of photos looked at in the sizes of options.scales, and with options.flip mirrored in each: what
    `scales=0.75,1` asks of `visiontl evaluate`. batch["photo"]: the photos themselves, RGB PIL images, of a task whose
    `collate` keeps what samples have under that name. options: of Task.options, as predict is given them. Raises
    ConfigError for photos that it cannot show so."""

    def __call__(
        self, cfg: Any, model: Any, batch: dict[str, Any], meta: Mapping[str, Any], options: Any, /
    ) -> Any: ...


class TeachStep(Protocol):
    """What of the outputs in training mode another model of the task can teach: "logits" (B, K, ...) of one class of K,
    "binary" (B, K, ...) logits of K answers, "embedding" (B, d). Beside them "valid" (B, ...) bool: the places that
    count; "label" (B,) or (B, K): the image's class, or its share of each."""

    def __call__(
        self, cfg: Any, outputs: Any, batch: dict[str, Any], meta: Mapping[str, Any], /
    ) -> Mapping[str, Any]: ...
