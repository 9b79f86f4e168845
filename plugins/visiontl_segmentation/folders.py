"""What lies below the folder of a data set: names that stay inside it, pictures, text files, sizes from headers."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from visiontl import DataError
from visiontl.kit.images import is_image
from visiontl.kit.words import did_you_mean, told

SPLITS = {
    "train": "train", "training": "train", "trn": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
FORMATS = (
    "BMP",
    "GIF",
    "JPEG",
    "JPEG2000",
    "PNG",
    "PPM",
    "TIFF",
    "WEBP",
)  # what open_image decodes
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 turn the picture by a quarter
LONGEST = 4096  # characters of a path, Linux's limit
LARGEST_TEXT = 1 << 20  # bytes of a list of names
THREADS = 8  # that read files: they wait for the disk, and decoders let others run

T = TypeVar("T")
R = TypeVar("R")


def opened(folder: str) -> str:
    """The folder of a config. Raises DataError where it is none."""
    root = Path(folder).expanduser()
    if "\0" in folder or not root.exists():
        names = [entry.name for entry in os.scandir(root.parent) if entry.is_dir()] if root.parent.is_dir() else []
        raise DataError(f"task.data.folder: {told(root)}: no such folder{did_you_mean(root.name, names)}")
    if not root.is_dir():
        raise DataError(f"task.data.folder: {root}: is a file; give the data set's folder")
    return str(root)


def subfolders(base: str, folder: str = "") -> list[str]:
    """Names of the folders in BASE/FOLDER, sorted, hidden ones left out; none where there is no such folder."""
    place = Path(base, folder)
    if not place.is_dir():
        return []
    try:
        return sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and not entry.name.startswith("."))
    except PermissionError:
        raise DataError(f"{place}: may not be read (no permission)") from None


def files(base: str, folder: str, *suffixes: str) -> list[str]:
    """Names of the files in BASE/FOLDER that end so, sorted, hidden ones left out."""
    place = Path(base, folder)
    if not place.is_dir():
        return []
    return sorted(
        entry.name
        for entry in os.scandir(place)
        if not entry.is_dir() and entry.name.lower().endswith(suffixes) and not entry.name.startswith(".")
    )


def pictures(base: str, folder: str, suffix: str = "") -> dict[str, list[str]]:
    """{path below the folder without the stem's suffix and extension: [names of pictures, relative to base]}.

    Searched in depth; pictures whose stem does not end in the suffix are left out. Raises DataError for a link that
    leads out of the base.
    """
    found: dict[str, list[str]] = {}
    root = Path(base, folder)
    for place, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if not is_image(path) or not path.stem.endswith(suffix):
                continue
            if path.is_symlink():
                check_inside(base, path)
            stem = path.stem[: len(path.stem) - len(suffix)] if suffix else path.stem
            key = path.parent.relative_to(root).joinpath(stem).as_posix()
            found.setdefault(key, []).append(path.relative_to(base).as_posix())
    return found


def holds_pictures(base: str, folder: str) -> bool:
    """Whether a picture lies anywhere below the folder; looks no further than the first."""
    return any(is_image(Path(name)) for _, _, names in os.walk(Path(base, folder)) for name in names)


def check_inside(base: str, path: Path) -> None:
    """Raises DataError where links lead out of the base."""
    real, root = os.path.realpath(path), os.path.realpath(base)
    if real != root and not real.startswith(os.path.join(root, "")):
        raise DataError(f"{path}: is a link that leads out of {base}; put the files themselves there")


def relative(name: Any) -> str:
    """A path as a file states it -> the same without detours. Raises ValueError, saying why, for one that is no text,
    names nothing, or leaves its folder."""
    if not isinstance(name, str):
        raise ValueError(f"{told(name)} is no file name; expected text")
    if not name.strip() or "\0" in name or len(name) > LONGEST or not name.isprintable():
        raise ValueError(f"no file can have the name {told(ascii(name))}")
    plain = os.path.normpath(name).replace(os.sep, "/")
    if os.path.isabs(name) or plain == ".." or plain.startswith("../"):
        raise ValueError(f"{told(name)} leaves the data set's folder; paths must stay inside it")
    return plain


def read_bytes(path: Path, most: int) -> bytes:
    """A regular file of at most so many bytes. Raises DataError."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
            raise DataError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}; expected a file")
        if status.st_size > most:
            raise DataError(f"{path}: {status.st_size:,} bytes; such a file has at most {most:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except PermissionError:
        raise DataError(f"{path}: may not be read (no permission)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text, stripped, empty ones left out. Raises DataError."""
    try:
        text = read_bytes(path, LARGEST_TEXT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start:,})") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def in_threads(function: Callable[[T], R], items: Sequence[T] | Iterable[T]) -> list[R]:
    """[function(item), ...], several at a time."""
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow's name no file; opening the picture tells what matters
        return list(pool.map(function, items))


def possible_sizes(path: Path) -> set[tuple[int, int]]:
    """The (H, W) that a picture may have once it is upright, from its header; empty where that cannot be read.

    Two where it would have to be decoded whole to know: a PNG may have its EXIF behind the pixels, and TIFF is turned
    as it is loaded.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            if image.format in ("PNG", "TIFF"):
                return {(height, width), (width, height)}
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            return {(width, height) if turned else (height, width)}
    except Exception:  # Pillow's decoders raise many kinds; who opens the picture is told which
        return set()
