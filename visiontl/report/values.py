"""What JSON can hold: one way from the numbers of a task to those of a file, for all that write one. Imports no torch
and no NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from visiontl.errors import PluginError

KEYS = (str, int, float)  # kinds of keys; JSON holds texts alone, so others are written as texts


def json_value(value: Any, place: str = "value", keep_nan: bool = False) -> Any:
    """A value as JSON has it: nested mappings with texts as keys, lists, texts, numbers, true, false and null.

    NumPy's and torch's numbers and arrays become Python's numbers and lists. A number that is not finite, which JSON
    cannot say, becomes None; with `keep_nan` it stays, for those who still compare it.
    place: what the value is, for the message. Raises PluginError for what JSON cannot hold, with its place.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if keep_nan or math.isfinite(value) else None
    if isinstance(value, Mapping):
        return _mapping(cast(Mapping[Any, Any], value), place, keep_nan)
    if isinstance(value, list | tuple):
        items = cast(Sequence[Any], value)
        return [json_value(item, f"{place}[{index}]", keep_nan) for index, item in enumerate(items)]
    if hasattr(value, "tolist"):
        return json_value(value.tolist(), place, keep_nan)
    raise PluginError(
        f"{place}: a {type(value).__name__} ({value!r:.80}) cannot be written as JSON; expected numbers, texts, true, "
        "false or None, or lists and dicts of them"
    )


def _mapping(values: Mapping[Any, Any], place: str, keep_nan: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        key = key.item() if hasattr(key, "item") and not isinstance(key, KEYS) else key
        if not isinstance(key, KEYS):
            raise PluginError(f"{place}: the key {key!r:.80} is a {type(key).__name__}; JSON's keys are texts")
        name = str.__str__(key) if isinstance(key, str) else str(key)
        if name in found:
            raise PluginError(f"{place}: two keys are {name!r} when written as texts; one would be lost")
        found[name] = json_value(value, f"{place}.{name}", keep_nan)
    return found
