"""What the steps of a task gave, looked at before it is used: a stranger's mistake is told in words, with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from visiontl.errors import PluginError


def through_json(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Data.meta as it will be after loading, so that training sees the same (int keys become str, tuples lists)."""
    return json.loads(json.dumps(meta, allow_nan=False))


def known_ids(batches: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The lists of Data.batches. count: images of the split. Raises PluginError for ids of no image."""
    foreign = [id for ids in batches for id in ids if not 0 <= id < count]
    if foreign:
        raise PluginError(f"the task's batches name image {foreign[0]}; the split has 0 to {count - 1}")
    return [list(ids) for ids in batches]
