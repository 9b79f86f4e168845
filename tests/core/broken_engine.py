"""Breaks the engine in one way after another; visiontl.testing.ranks must see each. A target for torchrun.

    torchrun --standalone --nproc_per_node 2 tests/core/broken_engine.py FOLDER

Prints `caught NAME PROBLEMS` or `missed NAME`, on the main process.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator

from visiontl.engine import loader, order
from visiontl.engine import train as training
from visiontl.engine.device import current_device
from visiontl.processes import ranks
from visiontl.testing import Case
from visiontl.testing import ranks as suite


@contextmanager
def the_first_wrapper_stays() -> Iterator[None]:
    """Parameters that were frozen when DDP wrapped the model get no synchronization when they are freed."""
    first: dict[int, Any] = {}
    prepare = Accelerator.prepare

    def once(self: Accelerator, *objects: Any, **named: Any) -> Any:
        if id(self) not in first:
            first[id(self)] = prepare(self, *objects, **named)
        return first[id(self)]

    with patch.object(Accelerator, "prepare", once), patch.object(training, "check_gradients", lambda *_: None):
        yield


def frozen_stages_are_in_training_mode() -> Any:
    return patch.object(training, "set_training", lambda model, *_: model.train())


def statistics_are_not_exchanged() -> Any:
    return patch.object(ranks, "broadcast_buffers", lambda model: None)


def only_the_first_micro_batch_is_used() -> Any:
    group = order.Order.group
    return patch.object(order.Order, "group", lambda self, step: group(self, step)[:1])


def augmentation_depends_on_the_worker() -> Any:
    samples = loader.Batches.samples

    def other(self: loader.Batches, ids: Any, epoch: int) -> Any:
        return samples(self, ids, epoch + (torch.utils.data.get_worker_info() is not None))

    return patch.object(loader.Batches, "samples", other)


def ranks_hold_other_weights() -> Any:
    small_run = suite.small_run

    def other(*arguments: Any, **named: Any) -> Any:
        run = small_run(*arguments, **named)
        for parameter in run.built.model.parameters():
            parameter.data += 0.01 * ranks.rank()
        return run

    return patch.object(suite, "small_run", other)


def a_row_comes_from_the_neighbor() -> Any:
    merge = suite.merge_rows

    def shifted(parts: Any, count: int) -> Any:
        rows = merge(parts, count)
        return rows[-1:] + rows[:-1]

    return patch.object(suite, "merge_rows", shifted)


POLICY = "policy {schedule: {0: all, 1: stage2}}"
BROKEN: list[tuple[Callable[[], Any], str, str]] = [  # how, the check that must see it, what it must say
    (the_first_wrapper_stays, POLICY, "in the wrapper of an earlier one"),
    (the_first_wrapper_stays, POLICY, "gradients differ between ranks"),
    (frozen_stages_are_in_training_mode, POLICY, "frozen, and yet moved"),
    (statistics_are_not_exchanged, "statistics", "ranks evaluate with other buffers"),
    (only_the_first_micro_batch_is_used, "weights", "is apart by"),
    (augmentation_depends_on_the_worker, "workers", "other bits than none"),
    (ranks_hold_other_weights, "evaluation", "scores apart by"),
    (a_row_comes_from_the_neighbor, "merging", "ids ["),
]


def main(folder: Path) -> None:
    current_device()  # starts the process group
    case = Case("brightness", folder)
    for (breaks, check), expected in itertools.groupby(BROKEN, key=lambda row: row[:2]):
        with ExitStack() as stack:
            stack.enter_context(breaks())
            result, said = suite.outcome(suite.CHECKS[check], case)
        if ranks.rank() == 0:
            for _, _, words in expected:
                seen = result == "FAILED" and any(words in line for line in said)
                print("caught" if seen else "missed", breaks.__name__, words, said[:3], sep="  ", flush=True)
    ranks.shutdown()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
