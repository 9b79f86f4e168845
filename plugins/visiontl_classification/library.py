"""torchvision's data sets by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from visiontl import DataError
from visiontl.kit.splits import WHOLE
from visiontl_classification.config import TORCHVISION
from visiontl_classification.listing import Item, Listing


@dataclass(frozen=True)
class LibraryImages:
    """Parts of a torchvision data set; the image `train/00012` is number 12 of train."""

    parts: dict[str, Any]

    def open(self, name: str) -> Image.Image:
        part, _, number = name.partition("/")
        image = self.parts[part][int(number)][0]
        if not isinstance(image, Image.Image):  # PCAM and the like give arrays in some versions
            image = Image.fromarray(np.asarray(image))
        return image.convert("RGB")


def library_listing(name: str, root: str | None, download: bool) -> Listing:
    """Parts as the library defines them. Class ids are its class names in its own order, which is that of the
    labels; numbers where it has none."""
    kind = TORCHVISION[name]
    if kind is None:
        sets = {WHOLE: _open(name, root, download)}
    elif kind == "train=":
        sets = {
            "train": _open(name, root, download, train=True),
            "test": _open(name, root, download, train=False),
        }
    else:
        sets = {part: _open(name, root, download, split=its) for part, its in kind.items()}
    targets = {part: _targets(dataset) for part, dataset in sets.items()}
    most = max(int(values.max(initial=0)) for values in targets.values()) + 1
    names = getattr(next(iter(sets.values())), "classes", None) or getattr(
        next(iter(sets.values())), "categories", None
    )
    ids = (
        [_text(value) for value in names] if names is not None and len(names) >= most else [str(i) for i in range(most)]
    )
    if len(set(ids)) != len(ids):
        ids = [f"{text} ({i})" if ids.count(text) > 1 else text for i, text in enumerate(ids)]
    return Listing(
        images=LibraryImages(sets),
        parts={
            part: [Item(f"{part}/{i:05d}", (ids[int(label)],)) for i, label in enumerate(values)]
            for part, values in targets.items()
        },
        classes=ids,
        notes=[],
        where=f"torchvision {name} in {root or 'data'}",
    )


def _text(value: Any) -> str:
    """ImageNet's classes are tuples of synonyms."""
    return str(value[0]) if isinstance(value, tuple | list) and value else str(value)


def _open(name: str, root: str | None, download: bool, **part: Any) -> Any:
    from torchvision import datasets

    where = root or "data"
    if name == "ImageNet":  # has no download
        options: dict[str, Any] = {}
    else:
        options = {"download": download}
    try:
        return getattr(datasets, name)(root=where, **options, **part)
    except (OSError, RuntimeError, ValueError, ModuleNotFoundError) as error:
        if name == "ImageNet":
            advice = "ImageNet must be fetched by hand; its folders can also be read with task.data.folder"
        elif download:
            advice = "the download failed or is incomplete; check the network, or put the files there by hand"
        else:
            advice = "set task.data.download=true to fetch it, or task.data.root to the folder that holds it"
        raise DataError(f"task.data.torchvision: {name} cannot be read from {where} ({error}); {advice}") from None


def _targets(dataset: Any) -> np.ndarray:
    """(N,) labels, without decoding images where the data set keeps them in memory."""
    for attribute in ("targets", "labels", "_labels", "y"):
        values = getattr(dataset, attribute, None)
        if values is not None and len(values) == len(dataset):
            return np.asarray(values, dtype=np.int64)
    pairs: Sequence[Any] | None = getattr(dataset, "_samples", None)
    if pairs is not None:
        return np.asarray([pair[1] for pair in pairs], dtype=np.int64)
    return np.asarray([int(dataset[i][1]) for i in range(len(dataset))], dtype=np.int64)
