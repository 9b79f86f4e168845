"""Finished batches, fetched ahead by processes in the order of their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from visiontl.engine.order import Key
from visiontl.engine.workers import fetch
from visiontl.errors import DataError, VisionTLError
from visiontl.processes.seeds import BATCH, SAMPLE, generator, mix
from visiontl.report.console import Console
from visiontl.task import SampleDataset


class Remaining:
    """A split without its unreadable images; ids are 0..n-1 again. bad: {id in the whole split: why}."""

    def __init__(self, split: SampleDataset, bad: Mapping[int, str]):
        self.split, self.bad = split, dict(bad)
        self.ids = [i for i in range(len(split)) if i not in bad]
        self.names: Sequence[str] = [split.names[i] for i in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        return self.split[self.ids[key[0]], key[1]]

    def image(self, id: int) -> Any:
        return self.split.image(self.ids[id])


@dataclass(frozen=True)
class Failure:
    """A user's error in a loader process, carried home as a value: torch would wrap it in a stack trace."""

    error: VisionTLError


class Batches(Dataset):
    """Answers a key with a finished batch. Holds what a worker needs and nothing that cannot be pickled."""

    at_hand = False  # all in memory: no process fetches anything ahead

    def __init__(
        self, split: SampleDataset, collate: Callable[..., dict], cfg: Any, meta: Mapping, seed: int, training: bool
    ):
        self.split, self.collate, self.cfg, self.meta = split, collate, cfg, meta
        self.seed, self.training = seed, training

    def samples(self, ids: Iterable[int], epoch: int) -> list[dict[str, Any]]:
        try:
            return [self.split[i, mix(self.seed, SAMPLE, epoch, i)] for i in ids]
        except DataError as error:
            if isinstance(self.split, Remaining):
                raise
            raise DataError(f"{error}; data.on_bad=skip leaves out what cannot be read, and names it") from None

    def __getitem__(self, key: Key) -> dict[str, Any] | Failure:
        ids, epoch, step = key
        try:
            drawn = generator(self.seed, BATCH, step) if self.training else None
            batch = self.collate(self.cfg, self.samples(ids, epoch), drawn, self.meta)
        except VisionTLError as error:
            return Failure(error)
        return {**batch, "id": torch.tensor(ids), "step": step, "progress": 0.0}


def load(batches: Dataset, keys: Iterable[Key], workers: int, pin: bool, console: Console) -> Iterator[dict[str, Any]]:
    """Batches in the order of the keys, fetched ahead by `workers` processes."""
    at_hand = getattr(batches, "at_hand", False)
    for batch in map(batches.__getitem__, keys) if at_hand else fetch(batches, keys, workers, pin, console):
        if isinstance(batch, Failure):
            raise batch.error
        yield batch
