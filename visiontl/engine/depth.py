"""Pictures of more than 8 bits in a run: `data.depth` goes with its data, and what is doubtful about it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from visiontl.kit import depths
from visiontl.kit.depths import Depth, Levels
from visiontl.kit.words import count
from visiontl.report.console import Console
from visiontl.task import Data, SampleDataset

LOOKED_AT = 24  # images of train, evenly spaced, that tell how deep pictures are read


class ReadAs:
    """A split whose pictures are read by a value of `data.depth`, in whatever process; else as it is."""

    def __init__(self, split: SampleDataset, depth: Depth):
        self.split, self.depth = split, depth
        self.names: Sequence[str] = split.names

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        with depths.reading(self.depth):
            return self.split[key]

    def image(self, id: int) -> Any:
        with depths.reading(self.depth):
            return self.split.image(id)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "split":  # while it is unpickled there is none yet
            raise AttributeError(name)
        return getattr(self.split, name)


def with_depth(depth: Depth, make: Callable[[], Any]) -> Any:
    """What a task's `data` gives, its pictures read by `depth` now and later."""
    with depths.reading(depth):
        found = make()
    if depth == "auto" or not isinstance(found, Data):
        return found
    splits = {**found.splits(), **({} if found.still is None else {"still": found.still})}
    return replace(found, **{name: ReadAs(split, depth) for name, split in splits.items()})


def warn_of_depth(split: SampleDataset, depth: Depth, console: Console) -> None:
    """Says what is doubtful about how pictures of more than 8 bits are read, by a few images of the split."""
    step = max(1, len(split) // LOOKED_AT)
    found: list[Levels] = []
    for id in range(0, len(split), step):
        try:
            image = split.image(id)
        except Exception:  # a stranger's data set raises what it likes; told where the run meets it
            continue
        levels = getattr(image, "info", {}).get("levels")
        if levels is not None:
            found.append(levels)
        elif len(found) == 0 and id >= 7 * step:  # a data set of 8 bits, as almost all are
            return
    for doubt in depths.doubts(found, depth):
        console.warn(f"of {count(len(range(0, len(split), step)), 'image')} looked at, {doubt}")
