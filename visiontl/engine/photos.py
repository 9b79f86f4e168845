"""What a person may give as photos, and the one way from each of them to an RGB picture.

A file, PIL, NumPy or torch of the same pixels give the same picture, to the bit:

    a path               as training reads it: turned by EXIF, transparency on white, more than 8 bits by `data.depth`
    a PIL image          of any mode, as if it were read from its file
    a NumPy array        (H, W) gray, (H, W, 3) RGB, (H, W, 4) RGB and transparency; (B, H, W, C) is a batch
    a torch tensor       (H, W), (C, H, W) with 1, 3 or 4 channels; (B, C, H, W) is a batch

Values are uint8 of 0 to 255, uint16 (by `data.depth`, as a file of 16 bits is read), or floats of 0 to 1; a gray float
array is read by `data.depth` too where that is a range. Anything else is refused in words, never guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visiontl.errors import DataError
from visiontl.kit import depths
from visiontl.kit.folders import find_images
from visiontl.kit.images import open_image, suffixes, to_rgb
from visiontl.task import OpenStep

Photo = str | Path | Image.Image | np.ndarray | Tensor

CHANNELS = {1: "gray", 3: "RGB", 4: "RGB and transparency"}
EXPECTED = "a photo is a path, a PIL image, a NumPy array (H, W, 3) or a torch tensor (3, H, W)"


@dataclass(frozen=True)
class Given:
    """What `predict` was given, sorted out. one: a single photo. found: files of a folder or a glob, of which those
    that cannot be read are passed over; notes: what was no picture there."""

    photos: Iterable[Any]
    one: bool = False
    found: bool = False
    notes: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Opener:
    """How a file becomes a picture: photos as ever, and what a task opens itself by its suffix (Task.opens)."""

    cfg: Any = None
    opens: Mapping[str, OpenStep] = field(default_factory=dict[str, OpenStep])

    @property
    def suffixes(self) -> Collection[str]:
        """In place of those of photos; none where the task opens photos alone."""
        return {*suffixes(), *self.opens} if self.opens else ()

    def __call__(self, file: str | Path) -> Image.Image:
        """Raises DataError, naming the file."""
        own = self.opens.get(Path(file).suffix.lower())
        return open_image(file) if own is None else own(self.cfg, Path(file))


PHOTOS = Opener()


def sorted_out(given: Any, opener: Opener = PHOTOS) -> Given:
    """One photo, or several: a folder, a glob, a batch, a list or another iterable. Raises DataError for none."""
    if isinstance(given, str | Path):
        path = Path(given).expanduser()
        if "\0" in str(given) or (path.exists() and not path.is_dir()):
            return Given([path], one=True)
        files, notes = find_images([given], suffixes=opener.suffixes)
        return Given(list(files), found=True, notes=notes)
    if isinstance(given, Image.Image):
        return Given([given], one=True)
    if isinstance(given, np.ndarray) and given.ndim <= 1:  # paths, or nothing that is a photo
        given = given.tolist() if given.ndim and given.dtype.kind in "UO" else [given]
    if isinstance(given, np.ndarray | Tensor):
        if given.ndim != 4:
            return Given([given], one=True)
        if not len(given):
            raise DataError(f"an empty batch of shape {tuple(given.shape)}: there is no photo in it")
        return Given(given)
    if isinstance(given, Mapping | bytes | bytearray) or hasattr(given, "read") or not isinstance(given, Iterable):
        raise DataError(f"{EXPECTED}, or several; got {kind_of(given)}")
    if isinstance(given, Sized) and not len(given):
        raise DataError(f"no photos: the {type(given).__name__} is empty")
    return Given(given)


def as_image(photo: Any, opener: Opener = PHOTOS) -> Image.Image:
    """One photo -> RGB, turned as its EXIF orientation says. Raises DataError, in words."""
    if isinstance(photo, Image.Image):
        file = getattr(photo, "filename", "")
        if file and depths.raw_mode(photo) is not None:  # not read yet, and Pillow would keep 8 of its 16 bits
            return open_image(file)
        try:
            return to_rgb(photo)
        except (OSError, ValueError) as error:  # a file that is cut off, values that are not finite
            raise DataError(f"the PIL image cannot be read ({error})") from None
    if isinstance(photo, str | Path):
        return opener(Path(photo).expanduser())
    if isinstance(photo, np.ndarray):
        return of_array(channels_last(photo))
    if isinstance(photo, Tensor):
        return of_array(from_tensor(photo))
    raise DataError(f"{EXPECTED}; got {kind_of(photo)}")


def channels_last(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, C) -> the same, without a single channel. Raises DataError for another shape."""
    shape = array.shape
    if array.ndim == 4:
        raise DataError(f"a NumPy array of shape {shape} is a batch; give a batch alone, or its photos one by one")
    if array.ndim not in (2, 3) or not array.size:
        raise DataError(f"a NumPy array of shape {shape} is no photo; expected (H, W), (H, W, 3) or (H, W, 4)")
    if array.ndim == 2:
        return array
    if shape[2] not in CHANNELS:
        hint = "; it looks channel-first: array.transpose(1, 2, 0) turns it" if shape[0] in CHANNELS else ""
        raise DataError(f"a NumPy array of shape {shape} is no photo; expected (H, W), (H, W, 3) or (H, W, 4){hint}")
    if shape[0] in CHANNELS and shape[1] > max(CHANNELS):
        raise DataError(
            f"a NumPy array of shape {shape} may be channel-first or a strip of {shape[0]} rows; array.transpose(1, 2, "
            "0) if it is channel-first, else Image.fromarray(array)"
        )
    return array[:, :, 0] if shape[2] == 1 else array


def from_tensor(tensor: Tensor) -> np.ndarray:
    """(H, W) or (C, H, W) on any device -> (H, W) or (H, W, C). Raises DataError for another shape."""
    shape = tuple(tensor.shape)
    if tensor.ndim == 4:
        raise DataError(f"a tensor of shape {shape} is a batch; give a batch alone, or its photos one by one")
    if tensor.ndim not in (2, 3) or not tensor.numel():
        raise DataError(f"a tensor of shape {shape} is no photo; expected (3, H, W), (1, H, W), (4, H, W) or (H, W)")
    if tensor.ndim == 3 and shape[0] not in CHANNELS:
        hint = "; it is channel-last: tensor.permute(2, 0, 1) turns it" if shape[2] in CHANNELS else ""
        raise DataError(f"a tensor of shape {shape} is no photo; expected (3, H, W), (1, H, W) or (4, H, W){hint}")
    if tensor.ndim == 3 and shape[2] in CHANNELS and shape[1] > max(CHANNELS):
        raise DataError(
            f"a tensor of shape {shape} may be channel-last or a strip of {shape[2]} columns; tensor.permute(2, 0, 1) "
            "if it is channel-last, else give it as a PIL image"
        )
    given = tensor.detach().cpu()
    if given.is_floating_point() and given.dtype != torch.float64:
        given = given.float()  # NumPy has no bfloat16
    values: np.ndarray = given.numpy()
    return values if values.ndim == 2 else values[0] if shape[0] == 1 else values.transpose(1, 2, 0)


def of_array(values: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 3) or (H, W, 4) -> RGB, by what its numbers mean. Raises DataError for others."""
    if values.dtype == np.uint8:
        return to_rgb(Image.fromarray(np.ascontiguousarray(values)))
    real = values.dtype.kind == "f"
    if not real and values.dtype != np.uint16:
        raise DataError(
            f"an array of {values.dtype}: uint8 (0 to 255), uint16 or floats of 0 to 1 were expected; .astype('uint8') "
            "makes the first of whole numbers up to 255"
        )
    if real and not (values.ndim == 2 and by_range()):
        return to_rgb(Image.fromarray(np.ascontiguousarray(of_unit(values))))
    try:
        color = values.ndim == 3
        scaled, levels = depths.color_in_8_bits(values[..., :3]) if color else depths.in_8_bits(values, real)
    except ValueError as error:
        raise DataError(f"an array of {values.dtype}: {error}") from None
    image = Image.fromarray(scaled)
    if values.ndim == 3 and values.shape[2] == 4:
        image.putalpha(Image.fromarray((values[..., 3] >> 8).astype(np.uint8)))
    made = to_rgb(image)
    made.info["levels"] = levels
    return made


def by_range() -> bool:
    """Whether the model was trained with a range of values (`data.depth: range` or [low, high])."""
    depth = depths.current()
    return isinstance(depth, tuple) or depth == "range"


def of_unit(values: np.ndarray) -> np.ndarray:
    """Floats of 0 to 1 -> uint8. Raises DataError for others, with what they may be."""
    if not np.isfinite(values).all():
        raise DataError("a float array with NaN or infinite values is no photo")
    low, high = float(values.min()), float(values.max())
    if low < 0:
        raise DataError(
            f"a float array with values from {low:.4g} to {high:.4g}: 0 to 1 was expected; is it normalized already? "
            "The model does that itself: give the photo as it was"
        )
    if high > 1:
        hint = "; 0 to 255 as uint8: array.astype('uint8'), or divide by 255" if high <= 255 else ""
        raise DataError(f"a float array with values up to {high:.6g}: 0 to 1 was expected{hint}")
    return (values.astype(np.float64) * 255).round().astype(np.uint8)


def kind_of(value: Any) -> str:
    """What was given instead of a photo, in a few words."""
    if isinstance(value, bytes | bytearray):
        return "bytes (PIL's Image.open(io.BytesIO(data)) makes a photo of them)"
    if hasattr(value, "read"):
        return f"an open file ({type(value).__name__}; Image.open(file) makes a photo of it)"
    return type(value).__name__
