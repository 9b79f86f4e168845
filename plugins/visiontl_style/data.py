"""From a config to the photos of each split, and the style pictures that travel with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from PIL import Image

from visiontl import Data, DataError, ImageSpec, seeded
from visiontl.kit.folders import find_images
from visiontl.kit.images import open_image
from visiontl.kit.splits import hold_out, split_tops
from visiontl.kit.words import count, plural, some
from visiontl_style.config import DataConfig, StyleConfig
from visiontl_style.pictures import decoded, encoded, named, open_style, pictures_in, sized
from visiontl_style.views import crop, square

if TYPE_CHECKING:
    from torch import Tensor

CARRIED = 16  # style pictures in meta with adain: for val, and to be asked for by name


@dataclass
class Photos:
    """One split. styles: the pictures that photo `id` is judged against, id mod their number.

    train: random crops, and with adain a random one of `files`, in place of the square in the middle.
    """

    names: Sequence[str]
    cfg: StyleConfig = field(repr=False)
    styles: Sequence[str] = field(repr=False)  # base64 PNG
    files: Sequence[str] = field(repr=False)
    train: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        id, seed = key
        photo = self.image(id)
        if not self.train:
            return {**square(photo, self.cfg.size), "style": self.still_style(id)}
        image = crop(photo, seed, self.cfg.crop, max(self.cfg.crop, self.cfg.size))
        return {"image": image, "size": (photo.height, photo.width), "style": self.drawn_style(seed)}

    def image(self, id: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return open_image(self.names[id])

    def still_style(self, id: int) -> int | Tensor:
        number = id % len(self.styles)
        if self.cfg.way == "feed_forward":
            return number
        pixels = decoded(self.styles[number])  # (3, h, w)
        size = min(self.cfg.style_size, *pixels.shape[1:])
        top, left = ((side - size) // 2 for side in pixels.shape[1:])
        return pixels[:, top : top + size, left : left + size].contiguous()

    def drawn_style(self, seed: int) -> int | Tensor:
        if self.cfg.way == "feed_forward":
            return seed % len(self.styles)
        file = self.files[seed % len(self.files)]
        picture = sized(open_style(file, "task.data.styles")[0], self.cfg.style_size)
        pixels = crop(picture, seed + 1, min(self.cfg.crop, self.cfg.style_size), self.cfg.style_size, mirror=False)
        return recolored(pixels, seed + 2, self.cfg.color_jitter)


def recolored(pixels: Tensor, seed: int, amount: float) -> Tensor:
    """(3, h, w) uint8 with another hue, saturation, brightness and contrast; a function of the seed.

    amount: 1 turns the hue by up to half the circle and multiplies the others by 0.6 to 1.4; 0 changes nothing.
    """
    if amount == 0:
        return pixels
    import torch
    from torchvision.transforms.v2 import functional

    with seeded(seed):
        turn, *factors = (amount * (2 * torch.rand(4) - 1)).tolist()
    pixels = functional.adjust_hue(pixels, turn / 2)
    saturation, brightness, contrast = (1 + 0.4 * factor for factor in factors)
    pixels = functional.adjust_saturation(pixels, saturation)
    return functional.adjust_contrast(functional.adjust_brightness(pixels, brightness), contrast)


def data(cfg: StyleConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The splits that cfg.data describes.

    meta: {"styles": [{"name", "png": base64}]}: all styles of a feed_forward network; with adain those that val is
    judged with. Given (evaluating elsewhere), all photos are `test` and its styles hold. Raises DataError.
    """
    source = cfg.data
    found, notes = find_images(source.photos, "task.data.photos")
    photos = {str(file): name for file, name in found.items()}
    if meta is not None:
        kept = [style["png"] for style in meta["styles"]]
        return Data(test=Photos(list(photos), cfg, kept, ()), meta=meta, notes=notes)
    if not source.styles:
        raise DataError("task.data.styles: none is named; give a style picture's file, or a folder of them")
    files, more = pictures_in(source.styles, "task.data.styles")
    notes += [*more, *looked_at(files, "task.data.styles")]
    carried, key = files, "task.data.styles"
    if cfg.way == "adain":
        if source.val_styles:
            carried, more = pictures_in(source.val_styles, "task.data.val_styles")
            notes += [*more, *looked_at(carried, "task.data.val_styles")]
            both = sorted(set(carried) & set(files))
            if both:
                raise DataError(
                    f"task.data.val_styles: {both[0]} is among task.data.styles too; val must not be trained on"
                )
            key = "task.data.val_styles"
        if len(carried) > CARRIED:
            notes.append(
                f"{key}: the first {CARRIED} of {count(len(carried), 'picture')} travel with the model and are val's"
            )
            carried = carried[:CARRIED]
    styles = [
        {"name": name, "png": encoded(sized(open_style(file, key)[0], cfg.style_size))}
        for name, file in zip(named(carried), carried, strict=True)
    ]
    notes += split_folders(source, photos)
    train, val = split(cfg, photos, notes)
    kept = [style["png"] for style in styles]
    return Data(
        train=Photos(train, cfg, kept, files, train=True),
        val=Photos(val, cfg, kept, ()) if val else None,
        still=Photos(train, cfg, kept, ()),
        meta={"styles": styles},
        notes=notes,
    )


def looked_at(files: Sequence[str], key: str) -> list[str]:
    """Opens every style picture once, so that a bad one stops the run before it begins."""
    return [note for file in files for note in open_style(file, key)[1]]


def split_folders(source: DataConfig, photos: Mapping[str, str]) -> list[str]:
    """A note where photos lie in folders that are called after splits, and no val is named."""
    tops = split_tops(photos.values())
    if source.val or not tops:
        return []
    return [
        f"task.data.photos: holds folders named {some(tops)}; their photos are all taken alike, and val is drawn "
        "from all of them: name the first in task.data.photos and the second in task.data.val to keep them apart"
    ]


def split(cfg: StyleConfig, photos: Mapping[str, str], notes: list[str]) -> tuple[list[str], list[str]]:
    """(train, val). photos: {file: its name within what the config names}, by which some are held out."""
    source = cfg.data
    if source.val:
        val, more = pictures_in(source.val, "task.data.val")
        notes += more
        train = [name for name in photos if name not in set(val)]
        if len(train) < len(photos):
            both = len(photos) - len(train)
            notes.append(
                f"{count(both, 'photo')} {plural(both, 'is')} in `val` too and {plural(both, 'is')} not trained on"
            )
    else:
        parts = hold_out(photos, photos.__getitem__, {"val": source.val_fraction}, source.split_seed)
        train, val = parts["train"], parts.get("val", [])
        if val:
            held = f"{len(val)} of {count(len(photos), 'photo')} {plural(len(val), 'is')} held out as val"
            notes.append(f"{held}, with seed {source.split_seed}")
    if len(train) < 2:
        have = f"{len(photos)} {plural(len(photos), 'photo')}"
        raise DataError(
            f"task.data.photos: {', '.join(source.photos)}: {have}, {len(train)} left to train on; a network learns "
            "from hundreds, and needs 2. For one photo without training there is `visiontl style optimize`"
        )
    return train, val
