"""The values of a prediction in words: as a table, or one of them in a few characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from PIL import Image

from visiontl.report import inline
from visiontl.report.formats import cell, is_number

ROWS = 12  # rows of a list or mapping within a prediction
WORDS = 60  # characters of a value in a line


def listed(values: Mapping[str, Any]) -> str:
    """The values as a table; what is nested as a table of its own below, of at most ROWS rows."""
    plain = [[key.replace("_", " "), worded(value)] for key, value in values.items() if not nested(value)]
    parts = [inline.table(["", ""], plain, [False, False])] if plain else []
    for key, value in values.items():
        if not nested(value):
            continue
        columns, rows = as_rows(value)
        more = inline.soft(f"and {len(value) - ROWS} more") if len(value) > ROWS else ""
        right = [all(is_number(row[i]) for row in rows) for i in range(len(columns))]
        cells = [[worded(value) for value in row] for row in rows]
        name = f'<div style="margin-top:.4em;font-weight:600">{inline.text(key.replace("_", " "))}</div>'
        parts.append(f"{name}{inline.table(columns, cells, right)}{more}")
    return "".join(parts)


def nested(value: Any) -> bool:
    """Whether a value is a table: a list of dicts, or a dict of numbers and texts."""
    if isinstance(value, Mapping):
        return len(cast(Mapping[Any, Any], value)) > 0
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(one, Mapping) for one in value)  # type: ignore[reportUnknownArgumentType]


def as_rows(value: Any) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of a nested value, the first ROWS of them."""
    if isinstance(value, Mapping):
        items = list(cast(Mapping[Any, Any], value).items())[:ROWS]
        return ["", ""], [[str(key), item] for key, item in items]
    records = cast(Sequence[Mapping[str, Any]], value)[:ROWS]
    columns = list(dict.fromkeys(key for record in records for key in record))
    return columns, [[record.get(column) for column in columns] for record in records]


def worded(value: Any) -> str:
    """A value for a cell of a table: texts without quotes, what is empty as none."""
    if isinstance(value, str):
        return value if len(value) <= WORDS else f"{value[: WORDS - 4]} ..."
    return "none" if isinstance(value, list | tuple | Mapping) and not value else brief(value)


def brief(value: Any) -> str:
    """A value in at most WORDS characters; what is larger is described."""
    if isinstance(value, Image.Image):
        return f"picture of {value.width} x {value.height}"
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype} array {value.shape}"
    if isinstance(value, str):
        made = repr(value)
    elif isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        made = "{" + ", ".join(f"{key}: {brief(one)}" for key, one in items) + "}"
        return made if len(made) <= WORDS else f"{{{len(items)} keys}}"
    elif isinstance(value, list | tuple):
        made = "[" + ", ".join(map(brief, cast(Sequence[Any], value))) + "]"
        return made if len(made) <= WORDS else f"[{len(cast(Sequence[Any], value))} items]"
    else:
        made = cell(value)
    return made if len(made) <= WORDS else f"{made[: WORDS - 4]} ..."
