"""The parts that start from the training data: one after the other's turn with each batch of one pass."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch

from visiontl import ConfigError, TrainingError
from visiontl_multi.batches import joint
from visiontl_multi.config import MultiConfig

if TYPE_CHECKING:
    from visiontl_multi.model import Several

ASKS = object()  # said by a part that wants its next batch


def start(cfg: MultiConfig, model: Several, batches: Iterable[Mapping[str, Any]], meta: Mapping[str, Any]) -> None:
    """The start of each part whose task has one, all from one pass over the training images. Each has its own head to
    set. Raises ConfigError where one of several changes the backbone, whose features the others start from."""
    names = [name for name, part in cfg.tasks.items() if part.task.start is not None]

    def beginning(name: str) -> Callable[[Iterator[dict[str, Any]]], None]:
        part, own = cfg.tasks[name], meta["parts"][name]["meta"]
        step: Any = part.task.start
        return lambda given: step(part.section, model.parts[name], given, own)

    if len(names) == 1:
        beginning(names[0])(given[names[0]] for given in prepared(model, batches, names))
    elif names:
        before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
        in_turns({name: beginning(name) for name in names}, prepared(model, batches, names), model)
        for name, tensor in model.backbone.state_dict().items():
            if not torch.equal(before[name], tensor):
                raise ConfigError(
                    f"task.tasks: {' and '.join(names)} start from the training data, and one of them changes "
                    f"the backbone there ({name}), whose features the other starts from; train the one that does "
                    "alone, and begin from its model (init)"
                )
    model.let_go()


def prepared(
    model: Several, batches: Iterable[Mapping[str, Any]], names: Sequence[str]
) -> Iterator[dict[str, dict[str, Any]]]:
    """{part: its batch} of those that have photos in it, with the shared pass made for them."""
    for batch in batches:
        parts = {name: batch["parts"][name] for name in names if name in batch["parts"]}
        if parts:
            model.prepare({**batch, "parts": parts}, joint(batch))
            yield dict(model.given)


class Abandoned(Exception):
    """Another part's start has failed: nobody waits for this one."""


@dataclass
class Turn:
    """A part's start, in a thread that runs only while the main one waits for it: so what is drawn is drawn in one
    order. ended: whether it wants no more batches."""

    begin: Callable[[Iterator[dict[str, Any]]], None]
    given: SimpleQueue[Any] = field(default_factory=SimpleQueue[Any])
    said: SimpleQueue[Any] = field(default_factory=SimpleQueue[Any])
    ended: bool = False

    def run(self) -> None:
        try:
            self.begin(self.read())
        except BaseException as error:
            self.said.put(error)
        else:
            self.said.put(None)

    def read(self) -> Iterator[dict[str, Any]]:
        while True:
            self.said.put(ASKS)
            batch = self.given.get()
            if batch is None:
                return
            if batch is Abandoned:
                raise Abandoned
            yield batch

    def take(self, batch: dict[str, Any] | None) -> None:
        """batch: its next one; None where there are no more."""
        self.given.put(batch)
        self.wait()

    def wait(self) -> None:
        """Until it asks for a batch or has ended. Raises what it raised."""
        answer = self.said.get()
        self.ended = answer is not ASKS
        if isinstance(answer, BaseException):
            raise answer


def in_turns(
    starts: Mapping[str, Callable[[Iterator[dict[str, Any]]], None]],
    batches: Iterable[Mapping[str, dict[str, Any]]],
    model: Several,
) -> None:
    """{part: what sets it from the iterator of its batches}: all of them from one pass, of which no more is read than
    one of them asks for. batches: {part: its batch}. Raises what the first of them raises."""
    turns = {name: Turn(begin) for name, begin in starts.items()}
    try:
        for name, turn in turns.items():
            threading.Thread(target=as_here(turn.run, model.backbone.mean.device), name=name, daemon=True).start()
            turn.wait()
        for given in batches:
            for name, batch in given.items():
                if not turns[name].ended:
                    turns[name].take(batch)
                if model.seats[name].changed:
                    raise TrainingError(
                        f"{name}: its start changes the backbone's features in place, which others read"
                    )
            if all(turn.ended for turn in turns.values()):
                return
        for turn in turns.values():
            if not turn.ended:
                turn.take(None)
    finally:
        for turn in turns.values():
            if not turn.ended:
                turn.given.put(Abandoned)


def as_here(run: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same under what torch and others keep for each thread: gradients, autocast, the GPU, context variables."""
    gradients, kind = torch.is_grad_enabled(), device.type
    autocast = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
    context = contextvars.copy_context()

    def inside() -> None:
        gpu = torch.cuda.device(device) if kind == "cuda" else nullcontext()
        with torch.set_grad_enabled(gradients), autocast, gpu:
            run()

    return lambda: context.run(inside)
