"""The table of backbones that ships with the package: read in milliseconds, without importing any library.

tools/catalog.py writes it. First line: `# torch=... torchvision=... timm=...`; second line: column names.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("catalog.tsv")
LIBRARIES = {"timm": "visiontl.backbones.timm", "torchvision": "visiontl.backbones.torchvision"}
"""Library -> the module that knows it; a bare name means the first that has it."""
COLUMNS = ("name", "params", "embed_dim", "channels", "strides", "size", "sizing", "problem", "weights")


@dataclass(frozen=True)
class Tag:
    """One set of pretrained weights. accuracy: top-1 on ImageNet-1k in percent, where the library states it."""

    tag: str
    license: str
    source: str
    accuracy: float | None = None


@dataclass(frozen=True)
class Row:
    """One architecture. params: of the backbone without its classifier. size: (H, W) in pixels of its default
    weights. sizing: any, fixed, or multiple:N. problem: why it cannot be a backbone, or empty."""

    name: str
    params: int | None = None
    embed_dim: int | None = None
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    sizing: str = ""
    problem: str = ""
    weights: tuple[Tag, ...] = ()


@dataclass(frozen=True)
class Catalog:
    rows: Mapping[str, Row]
    versions: Mapping[str, str]  # of the libraries that the rows were measured with


@cache
def read(path: Path = PATH) -> Catalog:
    """The shipped table. An absent file is an empty catalog: names are then looked up in the libraries."""
    if not path.exists():
        return Catalog({}, {})
    first, header, *lines = path.read_text(encoding="utf-8").splitlines()
    versions = dict(word.split("=", 1) for word in first.lstrip("# ").split())
    if tuple(header.split("\t")) != COLUMNS:
        raise ValueError(f"{path}: columns {header.split()}; expected {list(COLUMNS)}; run tools/catalog.py again")
    rows = (parse(line) for line in lines if line)
    return Catalog({row.name: row for row in rows}, versions)


def parse(line: str) -> Row:
    name, params, embed_dim, channels, strides, size, sizing, problem, weights = line.split("\t")
    height, _, width = size.partition("x")
    return Row(
        name,
        int(params) if params else None,
        int(embed_dim) if embed_dim else None,
        numbers(channels),
        numbers(strides),
        (int(height), int(width)) if size else None,
        sizing,
        problem,
        tuple(parse_tag(name, text) for text in weights.split(";") if text),
    )


def write_line(row: Row) -> str:
    tags = ";".join("|".join(cells).rstrip("|") for cells in (_tag_cells(row.name, tag) for tag in row.weights))
    cells = (
        row.name,
        "" if row.params is None else str(row.params),
        str(row.embed_dim or ""),
        ",".join(map(str, row.channels)),
        ",".join(map(str, row.strides)),
        "" if row.size is None else f"{row.size[0]}x{row.size[1]}",
        row.sizing,
        " ".join(row.problem.split()),
        tags,
    )
    return "\t".join(cells)


def parse_tag(name: str, text: str) -> Tag:
    tag, license, accuracy, source = (*text.split("|"), "", "", "")[:4]
    return Tag(tag, license or "unknown", source or default_source(name, tag), float(accuracy) if accuracy else None)


def _tag_cells(name: str, tag: Tag) -> tuple[str, str, str, str]:
    source = "" if tag.source == default_source(name, tag.tag) else tag.source
    return tag.tag, tag.license, "" if tag.accuracy is None else f"{tag.accuracy:g}", source


def default_source(name: str, tag: str) -> str:
    """Where most weights of a library lie; only others are written out in the table."""
    library, _, arch = name.partition("/")
    return f"hf-hub:timm/{arch}.{tag}" if library == "timm" else f"{library} release files"


def stale(path: Path = PATH) -> str | None:
    """A sentence if the installed libraries are not those that the table was made with."""
    catalog = read(path)
    if not catalog.rows:
        return "the catalog is missing: run tools/catalog.py; names known to timm and torchvision work without it"
    other = []
    for library in LIBRARIES:
        try:
            installed = importlib.metadata.version(library).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            installed = "not installed"
        if installed != catalog.versions.get(library):
            other.append(f"{library} {catalog.versions.get(library)} (installed: {installed})")
    if not other:
        return None
    return f"the numbers were measured with {' and '.join(other)}; newer names work but are not listed"


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(",") if part)
