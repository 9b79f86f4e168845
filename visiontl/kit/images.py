"""Opening pictures from disk and bringing them to a backbone's input size."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import importlib
import importlib.util
import logging
import os
import platform
import stat
import threading
import warnings
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from PIL import Image, UnidentifiedImageError, features

from visiontl.errors import DataError
from visiontl.kit import depths
from visiontl.kit.strips import strips, values

if TYPE_CHECKING:
    from torch import Tensor

    from visiontl.spec import ImageSpec

PHOTOS = {  # formats of photos, and what Pillow's decoder for each is called where it may be missing
    "AVIF": "avif", "BMP": "", "GIF": "", "HEIF": "", "JPEG": "jpg", "JPEG2000": "jpg_2000", "PNG": "zlib", "PPM": "",
    "TIFF": "", "WEBP": "webp",
}  # fmt: skip
ALSO = {".mpo": "JPEG"}  # as phones with several lenses write them
HEIF = (".heic", ".heics", ".heif", ".heifs", ".hif")  # read where the package pillow-heif is
if importlib.util.find_spec("pillow_heif") is not None:
    with contextlib.suppress(ImportError, OSError):  # one whose own library is missing reads nothing
        importlib.import_module("pillow_heif").register_heif_opener()
# What libtiff and Pillow's log say of a damaged file names none: `open_image` does.
logging.getLogger("PIL").addHandler(logging.NullHandler())  # in the place of Python's last resort, stderr
with contextlib.suppress(AttributeError, OSError):  # a Pillow whose libtiff cannot be asked
    _on_error = ctypes.CDLL(Image.core.__file__).TIFFSetErrorHandler  # (a function, or null for none) -> that before
    _on_error.argtypes, _on_error.restype = [ctypes.c_void_p], ctypes.c_void_p
    _on_error(None)
# What is decoded, whatever a file is called: no format for which Pillow starts another program (PostScript).
FORMATS = tuple(
    name
    for name, decoder in PHOTOS.items()
    if (name in Image.OPEN if name == "HEIF" else not decoder or features.check(decoder))
)
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of a decompression bomb; it refuses twice as many
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what turns a picture of that orientation upright; 1 is upright, and other values mean nothing
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LONGEST = 64  # times as long as wide, beyond the input's own shape: what lies further out is not resized
BEGINNINGS = {
    b"<!doctype html": "it is an HTML page",
    b"<html": "it is an HTML page",
    b"<svg": "it is an SVG drawing",
    b"%pdf": "it is a PDF document",
    b"%!ps": "it is a PostScript document",
    b"pk\x03\x04": "it is a ZIP archive",
}
SAYS_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # in an image's `info`

_lock = threading.Lock()
_hushed: list[warnings.catch_warnings[Any]] = []  # by the first of the threads that are within `without_warnings`
_within = 0


@cache
def suffixes() -> Mapping[str, str]:
    """{suffix in small letters, such as .jpg: format, as Pillow calls it} of all photos that can be decoded here."""
    known = {suffix: kind for suffix, kind in Image.registered_extensions().items() if kind in FORMATS}
    return {**known, **ALSO}


def is_image(path: PurePath, others: Collection[str] = ()) -> bool:
    """True for a name with the suffix of a photo that can be decoded here, that is no hidden file. others: suffixes
    that count in their place, in small letters."""
    return path.suffix.lower() in (others or suffixes()) and not path.name.startswith(".")


def why_no_image(path: PurePath) -> str:
    """Why a name is no picture's, in a few words: a photo that another decoder could read is told from other files."""
    if path.suffix.lower() in HEIF:
        return "HEIC, which needs pip install pillow-heif"
    if Image.registered_extensions().get(path.suffix.lower()) == "AVIF":
        return "AVIF, which this Pillow cannot read"
    return "no picture"


@contextlib.contextmanager
def without_warnings() -> Generator[None]:
    """While an image is opened and decoded, in one thread or in several: no warning of Pillow names the file, and what
    matters is checked elsewhere. Python's filters of warnings are shared by all threads."""
    global _within
    with _lock:
        _within += 1
        if _within == 1:
            _hushed.append(warnings.catch_warnings())
            _hushed[0].__enter__()
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                _hushed.pop().__exit__(None, None, None)


def _opened(path: str | Path) -> Image.Image:
    with without_warnings():
        return Image.open(path, formats=FORMATS)


def _load(image: Image.Image) -> None:
    """The pixels. Decoders warn of TIFF's tags, of EXIF, and of what PNG says behind its pixels."""
    with without_warnings():
        image.load()


def orientation(image: Image.Image) -> int:
    """What EXIF says of an image, 1 to 8; 1, upright, too where it says nothing, what is no orientation, or where it
    is damaged."""
    try:
        with without_warnings():
            said = image.getexif().get(ORIENTATION, 1)
        return int(said) if said in UPRIGHT else 1
    except Exception:  # Pillow's parser raises many kinds
        return 1


def open_image(path: str | Path) -> Image.Image:
    """A file -> an RGB PIL image, turned as its EXIF orientation says; its `info["file"]` is the path.

    Raises DataError naming the file.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for without end
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, not a picture")
        with _opened(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            mode = depths.raw_mode(image)
            picture = _rgb(image) if mode is None else _deep_color(path, image, mode)
            picture.info["file"] = str(path)
            return picture
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read (no permission)") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: more than {MAX_PIXELS:,} pixels; shrink it first") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture that Pillow can read ({_looks_like(path)})") from None
    except Exception as error:  # Pillow's decoders raise many kinds; each means the same to the user
        raise DataError(f"{path}: damaged picture ({getattr(error, 'strerror', None) or error})") from None


@dataclass(frozen=True, slots=True)
class Stored:
    """How a picture lies in its file, before it became RGB."""

    file: str
    format: str  # as Pillow calls it: JPEG, PNG ...
    mode: str  # as Pillow calls it: L, P, CMYK, I;16 ...
    transparent: bool
    animated: bool
    turned: bool  # by an EXIF orientation


def how_stored(file: str) -> Stored:
    """Reads the header of a file that `open_image` has read."""
    with _opened(file) as image:
        transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        turned = orientation(image) != 1
        try:
            animated = bool(getattr(image, "is_animated", False))
        except Exception:  # a second frame that is cut off; Pillow's decoders raise many kinds
            animated = False
        return Stored(file, image.format or "", image.mode, transparent, animated, turned)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image -> RGB: EXIF turned, more than 8 bits a value scaled to 8 (see `depths`), transparency put on
    white. `info["levels"]` says how more than 8 bits were read, `info["turned"]` that it was turned; `info["alpha"]` is
    the transparency, an L image, of one that has any."""
    made = _rgb(image)
    return image.copy() if made is image else made


def _rgb(image: Image.Image) -> Image.Image:
    """`to_rgb`; the image itself where it is RGB and upright."""
    _load(image)  # some formats keep EXIF behind the pixels
    turn = UPRIGHT.get(orientation(image))
    if turn is not None:
        image = image.transpose(turn)
        for key in SAYS_ORIENTATION:  # or it would be turned again where it is opened next
            image.info.pop(key, None)
    levels, alpha = None, None
    if image.mode.startswith("I") or image.mode == "F":
        image, levels = depths.gray(image)
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image, alpha = _on_white(image)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if turn is not None:
        image.info["turned"] = True
    if levels is not None:
        image.info["levels"] = levels
    if alpha is not None:
        image.info["alpha"] = alpha
    return image


def _on_white(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """An image with transparency -> what is to be seen of it on white, RGB, and the transparency, L."""
    made, alpha = Image.new("RGB", image.size), Image.new("L", image.size)
    for top, part in strips(image):
        part = part.convert("RGBA")
        alpha.paste(part.getchannel("A"), (0, top))
        made.paste(Image.alpha_composite(Image.new("RGBA", part.size, "white"), part).convert("RGB"), (0, top))
    return made, alpha


def _deep_color(path: Path, image: Image.Image, mode: str) -> Image.Image:
    """A file in color of 16 bits a value, opened but not loaded -> RGB."""
    _load(image)
    with _opened(path) as again:
        turn = UPRIGHT.get(orientation(image))
        made, levels = depths.color(image, again, mode)
        made = _rgb(made if made is image or turn is None else made.transpose(turn))
    made.info["levels"] = levels
    return made


def resampling(spec: ImageSpec) -> Image.Resampling:
    """The interpolation of a specification, as Pillow calls it."""
    return Image.Resampling[spec.interpolation.upper()]


def fit_image(image: Image.Image, spec: ImageSpec) -> Image.Image:
    """The weights' own evaluation preprocessing: resize so that the center crop keeps `spec.crop`, then crop.

    The side that limits the crop becomes floor(size / crop), the other follows rounded down, as torchvision's and
    timm's evaluation transforms do.
    """
    image = without_far_ends(image, _most(spec))
    resized, (left, top) = fitting(image.size, spec.size, spec.crop)
    if resized != image.size:
        image = image.resize(resized, resampling(spec))
    return image.crop((left, top, left + spec.size[1], top + spec.size[0]))


def shown_part(size: tuple[int, int], spec: ImageSpec) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) in pixels of a photo of (H, W), edge to edge: what `fit_image` leaves of it."""
    left, top, right, bottom = _middle((size[1], size[0]), _most(spec))
    resized, (x, y) = fitting((right - left, bottom - top), spec.size, spec.crop)
    across, down = (right - left) / resized[0], (bottom - top) / resized[1]  # pixels of the photo per pixel shown
    return left + x * across, top + y * down, left + (x + spec.size[1]) * across, top + (y + spec.size[0]) * down


def fit_tensor(image: Image.Image, spec: ImageSpec) -> Tensor:
    """RGB PIL image -> (3, H, W) uint8: `to_tensor(fit_image(image, spec))`, resized as `resize_tensor` does."""
    image = without_far_ends(image, _most(spec))
    resized, (left, top) = fitting(image.size, spec.size, spec.crop)
    pixels = resize_tensor(image, (resized[1], resized[0]), spec.interpolation)
    return pixels[:, top : top + spec.size[0], left : left + spec.size[1]].contiguous()


def resize_tensor(image: Image.Image, size: tuple[int, int], interpolation: str) -> Tensor:
    """RGB PIL image -> (3, H, W) uint8 of that size, at three times the speed of Pillow's resizing.

    Antialiased, by torch's vector kernels, to the bits of torchvision's transforms of tensors, whose import would take
    a tenth of the time to a run's first update. They round otherwise than Pillow: on photos 0.3 % of the values differ,
    by 1 or 2 of 255 (a CPU without AVX2 has other kernels, and one value in five differs). Interpolations that torch
    lacks are Pillow's. The colors of a pixel stay side by side in memory.
    """
    if size == (image.height, image.width):
        return _pixels(image)
    if interpolation not in ("bilinear", "bicubic"):
        return _pixels(image.resize((size[1], size[0]), Image.Resampling[interpolation.upper()]))
    import torch
    from torch.nn.functional import interpolate

    # (1, 3, H, W), whose strides say that colors lie side by side; those of `[None]` would not, and cost a copy
    pixels = torch.as_tensor(values(image), device="cpu")[None].permute(0, 3, 1, 2)
    vector = interpolation == "bicubic" or platform.machine() in ("aarch64", "arm64")
    if vector or torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512"):
        return interpolate(pixels, size, mode=interpolation, align_corners=False, antialias=True)[0]
    # bilinear: no kernel of bytes, and nothing leaves their range
    return interpolate(pixels.float(), size, mode=interpolation, align_corners=False, antialias=True)[0].round_().byte()


def fitting(photo: tuple[int, int], size: tuple[int, int], crop: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) that a photo of (W, H) is resized to, and (left, top) of the crop from that. size: (H, W) of the
    crop; crop: the share of the side that it keeps."""
    height, width = size
    if height * photo[0] <= width * photo[1]:  # the width limits
        across = max(width, int(width / crop))
        resized = (across, max(height, int(across * photo[1] / photo[0])))
    else:
        down = max(height, int(height / crop))
        resized = (max(width, int(down * photo[0] / photo[1])), down)
    return resized, (round((resized[0] - width) / 2), round((resized[1] - height) / 2))


def _most(spec: ImageSpec) -> float:
    """Long side / short side of what is resized whole."""
    return LONGEST * max(spec.size[0] / spec.size[1], spec.size[1] / spec.size[0])


def without_far_ends(image: Image.Image, most: float) -> Image.Image:
    """The middle, at most `most` times as long as wide, of a strip so long that resizing it whole would take gigabytes,
    and only for a center crop; other images as they are."""
    box = _middle(image.size, most)
    return image if box == (0, 0, *image.size) else image.crop(box)


def _middle(photo: tuple[int, int], most: float) -> tuple[int, int, int, int]:
    """What `without_far_ends` keeps of a photo of (W, H)."""
    long, short = max(photo), min(photo)
    cut = (long - int(most * short)) // 2 if long > most * short else 0
    return (cut, 0, long - cut, short) if photo[0] > photo[1] else (0, cut, short, long - cut)


def to_tensor(image: Image.Image) -> Tensor:
    """RGB PIL image -> (3, H, W) uint8."""
    import torch

    parts = strips(image)
    _, first = next(parts)
    if first is image:
        return _pixels(image).contiguous()
    made = torch.empty(3, image.height, image.width, dtype=torch.uint8)
    made[:, : first.height] = _pixels(first)
    for top, part in parts:
        made[:, top : top + part.height] = _pixels(part)
    return made


def _pixels(image: Image.Image) -> Tensor:
    """RGB PIL image -> (3, H, W) uint8 with the colors of a pixel side by side."""
    import torch

    return torch.as_tensor(values(image), device="cpu").permute(2, 0, 1)


def _looks_like(path: Path) -> str:
    """What the first bytes suggest, for the error message."""
    head: Any = b""
    try:
        with path.open("rb") as file:
            head = file.read(64).removeprefix(codecs.BOM_UTF8).lstrip().lower()
    except OSError as error:
        return str(error)
    if not head:
        return "the file is empty"
    if head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim", b"ftypmsf1"):
        return "it is HEIC, as phones write it: pip install pillow-heif, or save it as JPEG"
    known = next((words for beginning, words in BEGINNINGS.items() if head.startswith(beginning)), None)
    if known:
        return known
    if all(32 <= byte < 127 or byte in (9, 10, 13) for byte in head):
        return "it is a text file"
    return "unknown format"
