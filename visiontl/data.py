"""Which sample goes where, as a pure function of (seed, epoch), and the loader that fetches it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from visiontl.errors import DataError, VisionTLError
from visiontl.randomness import generator, mix
from visiontl.task import Data, SampleDataset

ORDER, SAMPLE, BATCH, STEP = range(4)  # keeps the streams of seeds apart

Key = tuple[tuple[int, ...], int, int]  # (ids, epoch, step)


@dataclass(frozen=True)
class Order:
    """The training order of one epoch, the same on every rank.

    A group is what one optimiser update sees: `accumulate` micro-batches on each of `world` ranks.
    """

    ids: np.ndarray
    batch_size: int
    accumulate: int
    world: int
    batches: list[list[int]] | None = None  # a task's own batches, in place of slices of `ids`

    @cached_property
    def _group(self) -> int:
        return self.batch_size * self.accumulate * self.world

    @cached_property
    def tail(self) -> int:
        """Micro-batches per rank in the last, short group; 0 where it is dropped."""
        rest = len(self.ids) % self._group
        if not rest:
            return 0
        micro = -(-rest // (self.batch_size * self.world))
        smallest = rest // (micro * self.world)
        return micro if smallest >= min(2, self.batch_size) else 0  # one image breaks batch norm

    @property
    def dropped(self) -> int:
        """Samples of this epoch that no rank sees."""
        if self.batches is not None:
            whole = len(self.batches) // self.world * self.world
            return sum(map(len, self.batches[whole:]))
        return 0 if self.tail else len(self.ids) % self._group

    def __len__(self) -> int:
        """Optimiser updates in the epoch."""
        if self.batches is not None:
            return -(-(len(self.batches) // self.world) // self.accumulate)
        return len(self.ids) // self._group + (self.tail > 0)

    def group(self, step: int) -> list[list[tuple[int, ...]]]:
        """[micro-batch][rank] -> ids, for update `step` of the epoch."""
        if self.batches is not None:
            width = self.accumulate * self.world
            whole = len(self.batches) // self.world * self.world
            chosen = [tuple(batch) for batch in self.batches[step * width : min(whole, (step + 1) * width)]]
        else:
            ids = self.ids[step * self._group : (step + 1) * self._group]
            count = self.accumulate if len(ids) == self._group else self.tail
            chosen = [tuple(map(int, part)) for part in np.array_split(ids, count * self.world)]
        return [chosen[i : i + self.world] for i in range(0, len(chosen), self.world)]


def epoch_order(data: Data, seed: int, epoch: int, batch_size: int, accumulate: int, world: int) -> Order:
    assert data.train is not None
    count = len(data.train)
    if data.batches is not None:
        batches = data.batches("train", mix(seed, ORDER), epoch, batch_size)
        order = Order(np.empty(0, dtype=np.int64), batch_size, accumulate, world, batches)
    else:
        permutation = torch.randperm(count, generator=generator(seed, ORDER, epoch)).numpy()
        order = Order(permutation, batch_size, accumulate, world)
    if len(order) == 0:
        raise DataError(
            f"the training split has {count} images, too few for one update of {batch_size} images on each of "
            f"{world} processes; make train.batch_size smaller or use fewer processes"
        )
    return order


def training_keys(
    order: Callable[[int], Order], rank: int, start: int, steps_per_epoch: int, epochs: int
) -> Iterator[Key]:
    """The keys of one rank from update `start` to the end of the run, micro-batch by micro-batch."""
    for epoch in range(start // steps_per_epoch, epochs):
        current = order(epoch)
        if len(current) != steps_per_epoch:
            raise DataError(
                f"the task's `batches` gives {len(current)} updates in epoch {epoch} and {steps_per_epoch} in epoch 0; "
                "the length must be the same in every epoch"
            )
        first = start - epoch * steps_per_epoch if epoch == start // steps_per_epoch else 0
        for local in range(first, steps_per_epoch):
            for micro in current.group(local):
                yield micro[rank], epoch, epoch * steps_per_epoch + local


def evaluation_keys(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[Key]:
    """Chunks of the id list, fixed by the batch size; rank r takes whole chunks r, r + world, ..., because a
    detector's scores depend on the images beside it in the batch."""
    chunks = [tuple(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    return [(chunk, 0, 0) for chunk in chunks[rank::world]]


@dataclass(frozen=True)
class Failure:
    """A user's error in a loader process, carried home as a value: torch would wrap it in a stack trace."""

    error: VisionTLError


class Batches(Dataset):
    """Answers a key with a finished batch. Holds what a worker needs and nothing that cannot be pickled."""

    def __init__(
        self, split: SampleDataset, collate: Callable[..., dict], cfg: Any, meta: Mapping, seed: int, training: bool
    ):
        self.split, self.collate, self.cfg, self.meta = split, collate, cfg, meta
        self.seed, self.training = seed, training

    def samples(self, ids: Iterable[int], epoch: int) -> list[dict[str, Any]]:
        return [self.split[i, mix(self.seed, SAMPLE, epoch, i)] for i in ids]

    def __getitem__(self, key: Key) -> dict[str, Any] | Failure:
        ids, epoch, step = key
        try:
            drawn = generator(self.seed, BATCH, step) if self.training else None
            batch = self.collate(self.cfg, self.samples(ids, epoch), drawn, self.meta)
        except VisionTLError as error:
            return Failure(error)
        return {**batch, "id": torch.tensor(ids), "step": step, "progress": 0.0}


def load(batches: Dataset, keys: Iterable[Key], workers: int, pin: bool) -> Iterator[dict[str, Any]]:
    """Batches in the order of the keys, fetched ahead by `workers` processes."""
    loader = DataLoader(
        batches,
        sampler=keys,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=min(workers, os.cpu_count() or 1),
        worker_init_fn=leave_interrupts_to_the_main_process,
        collate_fn=identity,
        pin_memory=pin,
    )
    for batch in loader:
        if isinstance(batch, Failure):
            raise batch.error
        yield batch


def leave_interrupts_to_the_main_process(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; a worker that dies of it turns an interruption into an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def identity(batch: Any) -> Any:
    return batch
