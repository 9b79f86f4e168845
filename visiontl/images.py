"""Opening pictures from disk and bringing them to a backbone's input size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from visiontl.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from visiontl.backbone import ImageSpec

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
MAX_PIXELS = 178_956_970  # Pillow's own limit against decompression bombs, in pixels


def is_image(path: Path) -> bool:
    """True for a name with a picture's extension that is no hidden file."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def open_image(path: str | Path) -> Image.Image:
    """A file -> an RGB PIL image, turned as its EXIF orientation says. Raises DataError naming the file."""
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return to_rgb(image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder, not a picture") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"{path}: more than {MAX_PIXELS // 2:,} pixels; shrink it first") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture that Pillow can read ({_looks_like(path)})") from None
    except Exception as error:  # Pillow's decoders raise many kinds; each means the same to the user
        raise DataError(f"{path}: damaged picture ({error})") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> RGB: EXIF turned, 16-bit and float scaled to 8 bits, transparency put on white."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)  # (H, W)
        if not np.isfinite(values).all():
            raise ValueError("pixel values that are not finite")
        if image.mode == "F" and values.max(initial=0) <= 1:
            values = values * 255
        elif values.max(initial=0) > 255 or image.mode.startswith("I;16"):
            values = values / 257  # 65535 -> 255
        image = Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def resampling(spec: ImageSpec) -> Image.Resampling:
    return Image.Resampling[spec.interpolation.upper()]


def fit_image(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """The weights' own evaluation preprocessing: resize so that the centre crop keeps `spec.crop`, then crop.

    The side that limits the crop becomes floor(size / crop), the other follows rounded down, as torchvision's and
    timm's evaluation transforms do.
    """
    height, width = spec.size
    if height * image.width <= width * image.height:  # the width limits
        across = max(width, int(width / spec.crop))
        resized = (across, max(height, int(across * image.height / image.width)))
    else:
        down = max(height, int(height / spec.crop))
        resized = (max(width, int(down * image.width / image.height)), down)
    if resized != image.size:
        image = image.resize(resized, resampling(spec))
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def to_tensor(image: Image.Image) -> Tensor:
    """RGB PIL image -> (3, H, W) uint8."""
    import torch

    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def _looks_like(path: Path) -> str:
    """What the first bytes suggest, for the error message."""
    head: Any = b""
    try:
        head = path.open("rb").read(64).lstrip().lower()
    except OSError as error:
        return str(error)
    if not head:
        return "the file is empty"
    if head.startswith((b"<!doctype html", b"<html")):
        return "it is an HTML page"
    if all(32 <= byte < 127 or byte in (9, 10, 13) for byte in head):
        return "it is a text file"
    return "unknown format"
