"""What lies below the folder of a data set: names that stay inside it, files that are there, sizes of pictures."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from PIL import Image

from visiontl import DataError
from visiontl.kit.words import did_you_mean, told

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
WHOLE = "whole"  # the part of a source that comes without splits
LONGEST = 4096  # characters of a path, Linux's limit
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
THREADS = 8  # that read headers: they wait for the disk

Kind = Literal["file", "folder", "link", "other"]


@dataclass(frozen=True)
class Folders:
    """A folder and what is below it. Each folder is listed once, when it is asked for, instead of one look per file.

    Names are relative to the base, with forward slashes; "" is the base itself.
    """

    base: str
    listed: dict[str, dict[str, Kind]] = field(default_factory=dict, repr=False)

    def path(self, name: str) -> Path:
        return Path(self.base, name)

    def entries(self, folder: str) -> dict[str, Kind]:
        """name -> kind, sorted; empty where there is no such folder. Raises DataError where a link leads out."""
        if folder not in self.listed:
            found: dict[str, Kind] = {}
            if os.path.isdir(self.path(folder)):
                self.check_inside(folder)
                try:
                    with os.scandir(self.path(folder)) as entries:
                        found = {entry.name: _kind(entry) for entry in sorted(entries, key=lambda entry: entry.name)}
                except PermissionError:
                    raise DataError(f"{self.path(folder)}: may not be read (no permission)") from None
            self.listed[folder] = found
        return self.listed[folder]

    def check_inside(self, name: str) -> None:
        """Raises DataError where links lead out of the base."""
        real, base = os.path.realpath(self.path(name)), os.path.realpath(self.base)
        if real != base and not real.startswith(os.path.join(base, "")):
            raise DataError(
                f"{self.path(name)}: is a link that leads out of {self.base}; put the files themselves there"
            )

    def has(self, name: str) -> bool:
        """Whether it is a regular file. Raises DataError where it is a link that leads out."""
        folder, _, last = name.rpartition("/")
        kind = self.entries(folder).get(last)
        if kind == "link" and os.path.isfile(self.path(name)):
            self.check_inside(name)
            return True
        return kind == "file"

    def is_folder(self, name: str) -> bool:
        return os.path.isdir(self.path(name))

    def files(self, folder: str, *suffixes: str) -> list[str]:
        """Names within the folder of what is no folder and ends so, hidden ones left out."""
        return [
            name
            for name, kind in self.entries(folder).items()
            if kind != "folder" and name.lower().endswith(suffixes) and not name.startswith(".")
        ]

    def folders(self, folder: str) -> list[str]:
        """Names within the folder of its folders, hidden ones left out."""
        return [
            name
            for name, kind in self.entries(folder).items()
            if not name.startswith(".")
            and (kind == "folder" or (kind == "link" and self.is_folder(join(folder, name))))
        ]

    def read(self, name: str, most: int) -> bytes:
        """A regular file of at most so many bytes. Raises DataError."""
        path = self.path(name)
        try:
            status = os.stat(path)
            self.check_inside(name)
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

    def read_text(self, name: str, most: int) -> str:
        """The same as UTF-8 text, a byte order mark left out."""
        try:
            return self.read(name, most).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            where = self.path(name)
            raise DataError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start:,})") from None


def _kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return "link"
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"


def opened(folder: str) -> Folders:
    """The folder of a config. Raises DataError where it is none."""
    root = Path(folder).expanduser()
    if "\0" in folder or not root.exists():
        names = [entry.name for entry in os.scandir(root.parent) if entry.is_dir()] if root.parent.is_dir() else []
        raise DataError(f"task.data.folder: {told(root)}: no such folder{did_you_mean(root.name, names)}")
    if not root.is_dir():
        raise DataError(
            f"task.data.folder: {root}: is a file; give the data set's folder, and name annotations in task.data.train"
        )
    return Folders(str(root))


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def relative(name: Any) -> str:
    """A path as a file states it -> the same without detours. Raises ValueError, saying why, for one that is no text,
    names nothing, or leaves its folder."""
    if not isinstance(name, str):
        raise ValueError(f"{told(name)} is no file name; expected text")
    if not name.strip() or "\0" in name or len(name) > LONGEST:
        raise ValueError(f"no file can have the name {told(ascii(name))}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise ValueError(f"no file can have the name {told(ascii(name))}") from None
    plain = os.path.normpath(name).replace(os.sep, "/")
    if os.path.isabs(name) or plain == ".." or plain.startswith("../"):
        raise ValueError(f"{told(name)} leaves the data set's folder; paths must stay inside it")
    return "" if plain == "." else plain


def named(folders: Folders, split: str, value: str) -> str:
    """The file that task.data.SPLIT names. Raises DataError where it is not there."""
    try:
        name = relative(value)
    except ValueError as error:
        raise DataError(f"task.data.{split}: {error}") from None
    if not folders.has(name):
        parent = str(PurePosixPath(name).parent).removeprefix(".")
        near = [join(parent, one) for one in folders.files(parent, PurePosixPath(name).suffix)]
        raise DataError(f"task.data.{split}: {folders.path(name)}: no such file{did_you_mean(name, near)}")
    return name


def image_sizes(base: str, names: Sequence[str]) -> list[tuple[int, int] | None]:
    """(H, W) of each picture with EXIF applied, from its header; None where that cannot be read.

    A PNG without EXIF is decoded whole, because it may follow the pixels.
    """
    if not names:
        return []
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        warnings.simplefilter("ignore")  # Pillow's name no file; opening the picture tells what matters
        return list(pool.map(lambda name: image_size(os.path.join(base, name)), names))


def image_size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.format == "TIFF":
                image.load()  # which turns it
            turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # Pillow's decoders raise many kinds; who opens the picture is told which
        return None
