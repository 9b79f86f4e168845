"""From a config to the photos of each split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.folders import find_images
from visiontl.kit.images import open_image
from visiontl.kit.splits import hold_out, split_tops
from visiontl.kit.views import evaluation_view
from visiontl.kit.words import count, some
from visiontl_ssl.config import SslConfig
from visiontl_ssl.views import random_view

FEWEST = 4  # photos: two to learn from, two to tell apart


@dataclass
class Photos:
    """One split. `[id, seed]` -> {"image", "other": (3, H, W) uint8, two views of the photo, "size": (H, W) of it}."""

    names: Sequence[str]
    cfg: SslConfig = field(repr=False)
    spec: ImageSpec = field(repr=False)
    train: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        id, seed = key
        photo = self.image(id)
        if not self.train:
            return {**evaluation_view(photo, self.spec), "other": random_view(photo, self.cfg, self.spec, id)}
        views = (random_view(photo, self.cfg, self.spec, 2 * seed + which) for which in (0, 1))
        return {**dict(zip(("image", "other"), views, strict=True)), "size": (photo.height, photo.width)}

    def image(self, id: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return open_image(self.names[id])


def data(cfg: SslConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The photos of the folders, val held out by their names. Evaluating elsewhere, all are `test`. meta is empty: the
    model needs nothing of the data. Raises DataError for fewer than four photos."""
    found, notes = find_images(cfg.data.photos, "task.data.photos")
    photos = {str(file): name for file, name in found.items()}
    if meta is not None:
        return Data(test=Photos(list(photos), cfg, spec), meta=meta, notes=notes)
    if len(photos) < FEWEST:
        raise DataError(f"task.data.photos: {count(len(photos), 'photo')}; {FEWEST} are needed at the least")
    tops = split_tops(photos.values())
    if tops:
        notes.append(
            f"task.data.photos: holds folders named {some(tops)}; their photos are all taken alike. Name the train "
            "folder alone where this run shall be the start of one that is scored on the others"
        )
    parts = hold_out(photos, photos.__getitem__, {"val": cfg.data.val_fraction}, cfg.data.split_seed, least=2)
    train, val = (parts[split] for split in ("train", "val"))
    notes = [*notes, f"photos without labels: {len(train)} to learn from, {len(val)} held out to judge by"]
    return Data(
        train=Photos(train, cfg, spec, train=True),
        val=Photos(val, cfg, spec),
        still=Photos(train, cfg, spec),
        notes=notes,
    )
