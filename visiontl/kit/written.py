"""Small files of data sets that are made on the spot: pictures, tables, text, with their folders. Imports no torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image


def jpeg(image: Image.Image) -> bytes:
    """An RGB picture as the content of a .jpg file, in high quality."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=92, subsampling=0)
    return content.getvalue()


def put(file: Path, content: bytes | str) -> None:
    """Writes a file, and the folders that it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def put_image(file: Path, image: Image.Image) -> None:
    """A picture in the format of the file's name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)


def put_table(file: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A .csv with a header."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    put(file, text.getvalue())
