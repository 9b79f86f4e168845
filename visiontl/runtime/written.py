"""What `visiontl predict` writes: one record a photo, its arrays and pictures as files, and a table of all. Needs NumPy
and Pillow alone."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl.errors import DataError
from visiontl.kit.cells import marked
from visiontl.kit.names import compared
from visiontl.report.values import json_value

JPEG_SIDE = 65_500  # pixels, the longest that a JPEG can have
LONGEST = 200  # bytes of a name without its ending; file systems take 255, and a letter may take 4


@dataclass
class Written:
    """Predictions as they come: each is a line of predictions.jsonl before the next one is made.

    records: of the photos so far. failed: file -> why it could not be read. vectors: key -> one vector a photo.
    """

    folder: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    vectors: dict[str, list[np.ndarray]] = field(default_factory=dict)
    taken: Names = field(default_factory=lambda: Names())

    def add(self, file: Path, prediction: Mapping[str, Any]) -> str:
        """Writes one, and says under which name its files are."""
        name = self.taken.free(file)
        record = {"file": str(file), **stored(prediction, self.folder, name, self.vectors)}
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        append_whole(self.folder / "predictions.jsonl", line.encode("utf-8", "backslashreplace"))
        self.records.append(record)
        return name

    def finish(self) -> None:
        """predictions.csv, and KEY.safetensors for each key with one vector a photo."""
        append_whole(self.folder / "predictions.jsonl", b"")  # there too where there is no prediction
        write_csv(self.folder / "predictions.csv", self.records)
        for key, found in self.vectors.items():
            save_vectors(key, np.stack(found), self.folder / f"{plain_name(key)}.safetensors")


def new_folder(folder: Path) -> Path:
    """The folder, made where it is not there, and empty. Raises DataError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except OSError as error:
        raise DataError(f"--out: {folder} cannot be made: {error.strerror or error}") from None
    if taken:
        raise DataError(f"{folder} is not empty; nothing in it is overwritten, choose another --out")
    return folder


def append_whole(path: Path, content: bytes) -> None:
    """At the end of a file, all of it or nothing: a full disk leaves no half line."""
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        except OSError:
            file.truncate(before)
            raise


def save_vectors(key: str, values: np.ndarray, target: Path) -> None:
    """(N, d) as a .safetensors file with one tensor, as the library of that name writes it: the length of the header in
    8 bytes, the header in JSON, filled up with blanks to whole words, and the values."""
    values = np.ascontiguousarray(values)
    values = values.astype(values.dtype.newbyteorder("<"), copy=False)
    kind = values.dtype.kind, values.dtype.itemsize * 8
    name = "BOOL" if kind[0] == "b" else {"f": "F", "i": "I", "u": "U"}[kind[0]] + str(kind[1])
    header = {key: {"dtype": name, "shape": list(values.shape), "data_offsets": [0, values.nbytes]}}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(values.tobytes())


def save_picture(picture: Image.Image, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if max(picture.size) > JPEG_SIDE:
        picture = picture.copy()  # it may be the photo itself
        picture.thumbnail((JPEG_SIDE, JPEG_SIDE))
    picture.save(target, quality=90)


def in_words(record: Mapping[str, Any]) -> str:
    """A record in one line for the console."""
    values = {key: value for key, value in record.items() if key != "file"}
    if all(isinstance(value, Mapping) for value in values.values()):  # of several tasks
        values = {f"{part}.{key}": value for part, own in values.items() for key, value in own.items()}
    shown = {key: short(value) for key, value in values.items()}
    file = record["file"] if record["file"].isprintable() else ascii(record["file"])
    return f"{file}: " + ", ".join(f"{key} {value}" for key, value in shown.items() if value)


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Records as a table: nested mappings become dotted columns, lists JSON; no text is a formula."""
    rows = [
        {marked(key): marked(value) if isinstance(value, str) else value for key, value in flat(record).items()}
        for record in records
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    temporary = path.with_name(f".writing-{path.name}")
    try:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            words = isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
            nested = "|".join(value) if words else json.dumps(value, ensure_ascii=False)
            found[prefix + key] = nested if isinstance(value, list | tuple) else value
    return found


def stored(
    prediction: Mapping[str, Any], folder: Path, name: str, vectors: dict[str, list[np.ndarray]], above: str = ""
) -> dict[str, Any]:
    """The prediction as JSON values; arrays and images become files, named in their place, those in mappings by the
    path of their keys (a.b). Vectors of one length are gathered: row i of `vectors[key]` is that of the i-th photo."""
    made: dict[str, Any] = {}
    for own, value in prediction.items():
        key = f"{above}{own}"
        if isinstance(value, Mapping):
            made[str(own)] = stored(value, folder, name, vectors, f"{key}.")
        elif isinstance(value, np.ndarray) and value.ndim == 1 and value.shape == vectors.get(key, [value])[0].shape:
            rows = vectors.setdefault(key, [])
            rows.append(value)
            made[own] = {"file": f"{plain_name(key)}.safetensors", "row": len(rows) - 1}
        elif isinstance(value, Image.Image | np.ndarray):
            suffix = ".png" if isinstance(value, Image.Image) else ".npy"
            target = folder / plain_name(key) / f"{name}{suffix}"
            target.parent.mkdir(exist_ok=True)
            value.save(target) if isinstance(value, Image.Image) else np.save(target, value, allow_pickle=False)
            made[own] = str(target.relative_to(folder))
        else:
            made[own] = json_value(value, key)
    return made


class Names:
    """Names for the files of photos, each given once, also to who cannot tell capitals or forms of Unicode apart."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.next: dict[str, int] = {}  # form of a stem -> the number to try next

    def free(self, file: Path) -> str:
        """The file's stem, or stem-2 ... where another folder has a picture of that name."""
        stem = plain_name(file.stem)
        form, name = compared(stem), stem
        while compared(name) in self.taken:
            self.next[form] = self.next.get(form, 1) + 1
            name = f"{stem}-{self.next[form]}"
        self.taken.add(compared(name))
        return name


def plain_name(text: str) -> str:
    """Text as a file name that cannot leave its folder, short enough for every file system with an ending behind it."""
    kept = "".join(sign if sign.isalnum() or sign in "-_. ()" else "_" for sign in text).strip(". ")
    return kept[:100].encode()[:LONGEST].decode(errors="ignore") or "unnamed"


def short(value: Any) -> str:
    """A value for the console: plain ones and lists of words; what is nested stays in the files."""
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return ", ".join(value)[:80] or "none"
    if isinstance(value, Mapping) and all(isinstance(one, int) for one in value.values()):  # counts
        return ", ".join(f"{name} {one}" for name, one in value.items())[:80] or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)[:80] if isinstance(value, str | int) else ""
