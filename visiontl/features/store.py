"""The store: rows of features by image, in few large files that are mapped into memory; and what a split's photos were.

FOLDER/rows/KEY/key.json             what the features belong to, for people
FOLDER/rows/KEY/*.safetensors        "image": (n, 32) keys, "row": (n, ...) features; written once, never changed
FOLDER/pictures/KEY.safetensors      the images of a split, and the files that they came from
FOLDER/locks/KEY                     held while features are computed
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from visiontl.errors import first_line
from visiontl.features import sealed
from visiontl.features.columns import decode, encode
from visiontl.features.keys import key_of
from visiontl.features.opened import Stamp, stamp

KEY = 32  # bytes of an image's key
SHARD = 128 << 20  # bytes of features after which a file is written
OLD = 86_400  # seconds after which a file that was never finished belongs to nobody
T = TypeVar("T")
SAYS = "what could not be read is computed again"


@dataclass
class Rows:
    """Features of many images, which lie in files until they are touched: rows[ids] -> (B, ...).

    file_of, row_of: (N,) where each row is.
    """

    files: list[Tensor]
    file_of: Tensor
    row_of: Tensor

    def __len__(self) -> int:
        return len(self.file_of)

    @property
    def dtype(self) -> torch.dtype:
        return self.files[0].dtype

    @property
    def row_bytes(self) -> int:
        return self.files[0][0].numel() * self.files[0].element_size()

    def __getitem__(self, ids: Tensor) -> Tensor:
        file_of, row_of = self.file_of[ids], self.row_of[ids]
        found = self.files[0].new_empty((len(file_of), *self.files[0].shape[1:]))
        for file in file_of.unique().tolist():
            mine = (file_of == file).nonzero()[:, 0]
            found[mine] = self.files[file][row_of[mine]]
        return found


@dataclass
class Part:
    """What the store has of one set of features: for each of the images that were looked for, its file and row."""

    tensors: list[Tensor]
    file_of: np.ndarray  # -1: not there
    row_of: np.ndarray

    @property
    def there(self) -> np.ndarray:
        return self.file_of >= 0

    def rows(self) -> Rows:
        return Rows(self.tensors, torch.from_numpy(self.file_of), torch.from_numpy(self.row_of))


@dataclass
class Pictures:
    """A split's images as they were read. keys: (N, 32); samples: without image, None where they cannot be stored;
    files: [{path: stamp} of each row], where its sample came from; without a stamp: too young to be trusted the next
    time; None in place of all: not to be told."""

    keys: np.ndarray
    samples: Sequence[dict[str, Any]] | None
    files: list[dict[str, Stamp | None] | None]

    def unchanged(self) -> np.ndarray:
        """(N,) True where no file of a row has changed since."""
        known: dict[str, Stamp | None] = {}

        def same(path: str, was: Stamp | None) -> bool:
            if path not in known:
                known[path] = stamp(path)
            return was is not None and known[path] == tuple(was)

        return np.array([bool(one) and all(same(*file) for file in one.items()) for one in self.files], dtype=bool)


@dataclass
class Store:
    """folder: of the store, shared by runs. limit: bytes that it may take. tell: hears what was damaged or removed."""

    folder: Path
    limit: int
    tell: Callable[[str], None]
    used: set[Path] = field(default_factory=set)
    open: dict[Path, dict[str, Tensor]] = field(default_factory=dict)

    def look(self, about: Mapping[str, Any], images: np.ndarray, width: int | None = None) -> Part:
        """What is there of a set of features. images: (n, 32) uint8; width: of the first axis of an image's features,
        where it is known."""
        return self.among(((one["image"].numpy(), one["row"]) for one in self._set(about, width)), images)

    @staticmethod
    def among(found: Iterable[tuple[np.ndarray, Tensor]], images: np.ndarray) -> Part:
        """Which of the images are in (keys, rows), and where."""
        wanted, order = _ordered(images)
        part = Part([], np.full(len(images), -1, dtype=np.int64), np.zeros(len(images), dtype=np.int64))
        for keys, rows in found:
            there, at = _find(keys, wanted, order, images)
            there &= part.file_of < 0
            if there.any():
                part.file_of[there], part.row_of[there] = len(part.tensors), at[there]
                part.tensors.append(rows)
        return part

    def keys(self, about: Mapping[str, Any], width: int | None = None) -> set[bytes]:
        """Of the images whose features are there."""
        return {bytes(key) for one in self._set(about, width) for key in one["image"].numpy()}

    def _set(self, about: Mapping[str, Any], width: int | None) -> Iterator[dict[str, Tensor]]:
        """The files of a set, each verified when it is first met."""
        folder = self.folder / "rows" / key_of(about)
        for path in sorted(path for path in folder.glob(f"*{sealed.SUFFIX}") if not path.name.startswith(".")):
            if path not in self.open:
                found = self._read(path, lambda tensors, text: _rows(tensors, width))
                if found is None:
                    continue
                self.open[path] = found
                self._use(path)
            yield self.open[path]

    def add(self, about: Mapping[str, Any], images: np.ndarray, rows: Tensor) -> None:
        """Raises OSError where the disk has no room."""
        folder = self.folder / "rows" / key_of(about)
        path = folder / f"{uuid.uuid4().hex}{sealed.SUFFIX}"
        sealed.write(path, {"image": torch.from_numpy(images), "row": rows})
        self.used.add(path)
        with suppress(FileExistsError), (folder / "key.json").open("x", encoding="utf-8") as file:  # through no link
            file.write(json.dumps(about, indent=1))

    def pictures(self, key: str) -> Pictures | None:
        path = self.folder / "pictures" / f"{key}{sealed.SUFFIX}"
        found = self._read(path, _pictures) if path.exists() else None
        if found is not None:
            self._use(path)
        return found

    def keep_pictures(self, key: str, pictures: Pictures) -> None:
        """Raises Unstorable for samples that only a pickle could keep, OSError where the disk has no room."""
        assert pictures.samples is not None
        tensors, text = encode(pictures.samples)
        files = [{} if one is None or None in one.values() else one for one in pictures.files]
        paths = [path for one in files for path in one]
        stamps = [list(at) for one in files for at in one.values() if at]
        path = self.folder / "pictures" / f"{key}{sealed.SUFFIX}"
        self.used.add(path)
        sealed.write(
            path,
            {f".{name}": tensor for name, tensor in tensors.items()}
            | {
                "keys": torch.from_numpy(pictures.keys),
                "stamps": torch.tensor(stamps, dtype=torch.int64).reshape(-1, 4),
                "ends": torch.tensor(np.cumsum([len(one) for one in files]), dtype=torch.int64),
            },
            json.dumps({"samples": text, "paths": paths}),
        )

    def make_room(self, needed: int) -> str:
        """Remove what was not used for longest until so many bytes more fit under the limit; why they cannot, or ""."""
        if needed > self.limit:
            return f"features need {gib(needed)} and features.limit is {gib(self.limit)}"
        files = sorted(self._all(), key=lambda one: one[1].st_mtime)
        total = sum(about.st_size for _, about in files)
        gone, last = 0, 0.0
        for path, about in files:
            if total - gone + needed <= self.limit:
                break
            if path not in self.used:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                    gone, last = gone + about.st_size, about.st_mtime
        if gone:
            self.tell(
                f"{self.folder}: features not used since {time.strftime('%Y-%m-%d', time.localtime(last))} or earlier "
                f"were removed to keep within features.limit ({gib(gone)})"
            )
        if total - gone + needed > self.limit:
            read = f"beside the {gib(total - gone)} that this run reads"
            return f"features need {gib(needed)} {read}, and features.limit is {gib(self.limit)}"
        free = shutil.disk_usage(self.folder).free
        return f"features need {gib(needed)} and the disk has {gib(free)} free" if needed > free else ""

    def _all(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The store's own files: none that a link leads to."""
        for path in (*self.folder.glob("rows/*/*"), *self.folder.glob("pictures/*")):
            with suppress(OSError):  # another run may have removed it meanwhile
                about = path.lstat()
                if not stat.S_ISREG(about.st_mode) or (path.parent.is_symlink() and path.parents[1] != self.folder):
                    continue
                if path.name.startswith(sealed.WRITING) and time.time() - about.st_mtime > OLD:
                    path.unlink()
                elif path.suffix == sealed.SUFFIX:
                    yield path, about

    def _read(self, path: Path, make: Callable[[dict[str, Tensor], str], T]) -> T | None:
        """What is made of a file; None for one that is damaged, or is none of ours though its checksum fits. It is
        removed, where that may be: it would be met again each time."""
        try:
            tensors, text = sealed.read(path)
            try:
                return make(tensors, text)
            except Exception as error:  # whatever a stranger's values lead to
                raise sealed.Damaged(f"{path}: is not as it is written here ({first_line(error)})") from None
        except sealed.Damaged as error:
            if os.path.lexists(path):  # else another run removed it for want of room
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                removed = "is left out" if os.path.lexists(path) else "was removed"
                self.tell(f"{error}; it {removed}, and {SAYS}")
            return None

    def _use(self, path: Path) -> None:
        self.used.add(path)
        with suppress(OSError):  # a store that may only be read
            os.utime(path)


def _rows(tensors: dict[str, Tensor], width: int | None) -> dict[str, Tensor]:
    """A file of features, as `add` writes it. Raises ValueError and KeyError for another."""
    keys, rows = tensors["image"], tensors["row"]
    if keys.dtype != torch.uint8 or keys.shape[1:] != (KEY,) or len(keys) != len(rows):
        raise ValueError(f"keys of shape {tuple(keys.shape)} for rows of {tuple(rows.shape)}")
    if not rows.is_floating_point() or rows.ndim < 2 or rows.shape[1] != (width or rows.shape[1]):
        raise ValueError(f"features of {rows.dtype} of shape {tuple(rows.shape[1:])}, and width {width} was expected")
    return tensors


def _pictures(tensors: dict[str, Tensor], text: str) -> Pictures:
    """As `keep_pictures` writes them; each sample is made, so that what cannot be is met here."""
    about = json.loads(text)
    keys, stamps, ends = tensors["keys"], tensors["stamps"].tolist(), tensors["ends"].tolist()
    if keys.dtype != torch.uint8 or keys.shape[1:] != (KEY,) or tensors["stamps"].shape[1:] != (4,):
        raise ValueError(f"keys of shape {tuple(keys.shape)}, stamps of {tuple(tensors['stamps'].shape)}")
    if not ends == sorted(ends) or [0, len(about["paths"])] != [min(ends[0], 0), ends[-1]]:
        raise ValueError("ends that do not fit the paths")
    files = [
        {str(path): tuple(at) for path, at in zip(about["paths"][a:b], stamps[a:b], strict=True)}
        for a, b in zip([0, *ends[:-1]], ends, strict=True)
    ]
    samples = list(decode({n[1:]: t for n, t in tensors.items() if n[0] == "."}, about["samples"]))
    if not len(keys) == len(files) == len(samples) or not all(isinstance(one, dict) for one in samples):
        raise ValueError(f"{len(keys)} keys, files of {len(files)} and {len(samples)} samples")
    return Pictures(keys.numpy(), samples, files)  # type: ignore[arg-type]


def gib(size: float) -> str:
    """Bytes in words: 3.2 MiB."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _ordered(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first 8 bytes of each key as a number, sorted; and the order that sorts them."""
    numbers = np.ascontiguousarray(images[:, :8]).view(np.uint64)[:, 0]
    order = np.argsort(numbers, kind="stable")
    return numbers[order], order


def _find(mine: np.ndarray, wanted: np.ndarray, order: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of the images: whether it is among `mine`, and where. Two keys that begin alike count as another."""
    numbers, own = _ordered(mine)
    found, at = np.zeros(len(images), dtype=bool), np.zeros(len(images), dtype=np.int64)
    if len(numbers) == 0:
        return found, at
    place = np.minimum(np.searchsorted(numbers, wanted), len(numbers) - 1)
    rows = own[place]
    found[order] = (mine[rows] == images[order]).all(1)
    at[order] = rows
    return found, at
