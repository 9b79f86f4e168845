"""A part of a split as a split of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from visiontl.task import SampleDataset


class Part:
    """Some images of a split, numbered anew: number i is image ids[i]."""

    def __init__(self, split: SampleDataset, ids: Sequence[int]):
        self.split, self.ids = split, list(ids)
        self.names: Sequence[str] = [split.names[id] for id in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        number, seed = key
        return self.split[self.ids[number], seed]

    def image(self, id: int) -> Any:
        return self.split.image(self.ids[id])
