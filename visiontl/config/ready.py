"""The ready configs: in the wheel beside this package, in a clone in its `configs/`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PREFIX = "package:"  # of what `Resolved.source` says of one
LAUNCH = "accelerate"  # the folder of files for `accelerate launch --config_file`, which are no runs


@cache
def configs() -> dict[str, Path]:
    """{"classification/quickstart": its file}, launch files included; empty where neither wheel nor clone has them."""
    clone = PACKAGE.parent
    places = [PACKAGE / "configs", *([clone / "configs"] if (clone / "pyproject.toml").is_file() else [])]
    root = next((place for place in places if place.is_dir()), None)
    if root is None:
        return {}
    return {file.relative_to(root).with_suffix("").as_posix(): file for file in sorted(root.rglob("*.yaml"))}


def runs() -> dict[str, Path]:
    """Those that can be trained."""
    return {name: file for name, file in configs().items() if not name.startswith(f"{LAUNCH}/")}


def about(file: Path) -> str:
    """The first sentence of its header."""
    lines = file.read_text(encoding="utf-8").splitlines()
    header = " ".join(line.removeprefix("#").strip() for line in lines[: _end(lines)])
    first = re.split(r"(?<!al)[.:;](?:\s|$)", header, maxsplit=1)[0]
    return re.sub(r"\s*\([^()]*$", "", first)  # a bracket that the sentence's end cut off


def _end(lines: list[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
