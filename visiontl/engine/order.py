"""Which sample goes where, as a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch

from visiontl.engine.given import known_ids
from visiontl.errors import DataError
from visiontl.kit.words import plural
from visiontl.processes.seeds import ORDER, generator, mix
from visiontl.task import Data

Key = tuple[tuple[int, ...], int, int]  # (ids, epoch, step)
Group = list[list[tuple[int, ...]]]  # of one optimizer update: ids by micro-batch and rank


def images_of(group: Group) -> int:
    return sum(len(ids) for micro in group for ids in micro)


@dataclass(frozen=True)
class Order:
    """The training order of one epoch, the same on every rank.

    A group is what one optimizer update sees: `accumulate` micro-batches on each of `world` ranks. Which images
    are in which group depends on batch_size * accumulate * world alone.
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
    def short(self) -> int:
        """Images in the last, short group; 0 where there is none.

        One image alone breaks batch norm, so micro-batches have two or more. An even number can be shared out like
        that by any batch size and any number of ranks; an odd one cannot (batch_size: 2), so one image stays out.
        """
        return len(self.ids) % self._group // 2 * 2

    @property
    def dropped(self) -> int:
        """Samples of this epoch that no rank sees."""
        if self.batches is not None:
            whole = len(self.batches) // self.world * self.world
            return sum(map(len, self.batches[whole:]))
        return len(self.ids) % self._group - self.short

    def __len__(self) -> int:
        """Optimizer updates in the epoch."""
        if self.batches is not None:
            return -(-(len(self.batches) // self.world) // self.accumulate)
        return len(self.ids) // self._group + (self.short > 0)

    def group(self, step: int) -> Group:
        """[micro-batch][rank] -> ids, for update `step` of the epoch. Ranks that a short group leaves without
        images have none there (see `fetched`); rank 0 always has some."""
        if self.batches is not None:
            width = self.accumulate * self.world
            whole = len(self.batches) // self.world * self.world
            chosen = [tuple(batch) for batch in self.batches[step * width : min(whole, (step + 1) * width)]]
        else:
            ids = self.ids[step * self._group : (step + 1) * self._group]
            parts = self.accumulate * self.world
            if len(ids) < self._group:
                ids = ids[: self.short]
                rounds = -(-self.short // (self.batch_size * self.world))
                parts = min(rounds * self.world, self.short // min(2, self.batch_size))
            size, larger = divmod(len(ids), parts)  # split as np.array_split does, in a tenth of its time
            ends = [(i + 1) * size + min(i + 1, larger) for i in range(parts)]
            listed = ids.tolist()
            chosen = [tuple(listed[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        micros = [chosen[i : i + self.world] for i in range(0, len(chosen), self.world)]
        return [micro + [()] * (self.world - len(micro)) for micro in micros]


def fetched(micro: Sequence[tuple[int, ...]], rank: int) -> tuple[int, ...]:
    """The ids that a rank computes. One without images of its own goes through rank 0's with weight 0, because
    every rank must take part in the exchange of gradients."""
    return micro[rank] or micro[0]


def epoch_order(data: Data, seed: int, epoch: int, batch_size: int, accumulate: int, world: int) -> Order:
    assert data.train is not None
    count = len(data.train)
    if data.batches is not None:
        batches = known_ids(data.batches("train", mix(seed, ORDER), epoch, batch_size), count)
        order = Order(np.empty(0, dtype=np.int64), batch_size, accumulate, world, batches)
    else:
        permutation = torch.randperm(count, generator=generator(seed, ORDER, epoch)).numpy()
        order = Order(permutation, batch_size, accumulate, world)
    if len(order) == 0:
        raise DataError(
            f"the training split has {count} {plural(count, 'image')}, too few for one update of {batch_size} on "
            f"each of {world} {plural(world, 'process')}; make train.batch_size smaller or use fewer processes"
        )
    return order


@dataclass(frozen=True)
class Orders:
    """The training order of every epoch: orders(epoch) -> Order. batch_size: per process."""

    data: Data
    seed: int
    batch_size: int
    accumulate: int
    world: int

    @cached_property
    def _newest(self) -> Callable[[int], Order]:
        make = partial(epoch_order, self.data, self.seed)
        parts = {"batch_size": self.batch_size, "accumulate": self.accumulate, "world": self.world}
        return lru_cache(maxsize=3)(lambda epoch: make(epoch, **parts))  # the loader reads a little ahead of the loop

    def __call__(self, epoch: int) -> Order:
        return self._newest(epoch)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Optimizer updates."""
        return len(self(0))


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
                yield fetched(micro, rank), epoch, epoch * steps_per_epoch + local


def evaluation_keys(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[Key]:
    """Chunks of the id list, fixed by the batch size; rank r takes whole chunks r, r + world, ..., because a
    detector's scores depend on the images beside it in the batch."""
    chunks = [tuple(range(i, min(i + batch_size, count))) for i in range(0, count, batch_size)]
    return [(chunk, 0, 0) for chunk in chunks[rank::world]]
