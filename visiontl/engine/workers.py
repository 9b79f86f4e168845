"""Loader processes: how their batches come home where memory to share or open files are few, and what ends them in
words."""

from __future__ import annotations

import multiprocessing
import multiprocessing.process
import os
import pickle
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from visiontl.errors import TrainingError
from visiontl.processes import signals
from visiontl.report.console import Console

FILES = 16384  # that may be open at once, where the system lets a process ask for so many
PER_WORKER, SPARE = (
    6,
    16,
)  # open files that a loader process takes in the main process, and that the rest of a run needs
IN_FLIGHT = 8  # open files that a tensor of a batch may take at once, in either process
DEATH = re.compile(
    r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\) (exited unexpectedly|is killed by signal: (?P<how>[\w ]+))"
)


@dataclass(frozen=True)
class Packed:
    """A batch on its way home. slow: why it is no shared memory, where that failed."""

    content: bytes
    slow: str = ""

    def unpacked(self) -> Any:
        if self.slow:
            _slow.add(self.slow)
        return pickle.loads(self.content)

    def pin_memory(self) -> Any:
        """What torch's pinning thread asks for."""
        return pin_memory(self.unpacked())


_failed = ""  # in a loader process: why it no longer shares memory
_slow = set[str]()  # in the main process: why batches are not shared, until it is said


def pack(batch: Any) -> Packed:
    """In a loader process: its tensors are moved to shared memory, or where that fails, into the message itself.

    torch would do it later, in a thread whose error nobody hears: the main process would wait for ever.
    """
    global _failed
    if not _failed and tensors(batch) * IN_FLIGHT > open_files() - SPARE:
        _failed = f"at most {open_files()} files may be open (ulimit -n)"
    if not _failed:
        try:
            return Packed(shared(batch))
        except OSError as error:
            _failed = f"{error.strerror or error}"
        except RuntimeError as error:
            if "shared memory" not in str(error) and "shm" not in str(error):
                raise
            _failed = "/dev/shm is full"
        for left in Path("/dev/shm").glob(f"torch_{os.getpid()}_*"):  # what could not be filled still takes room
            left.unlink(missing_ok=True)
    return Packed(pickle.dumps(batch), _failed)


def shared(batch: Any) -> bytes:
    """A message that names the shared memory of the batch's tensors."""
    return bytes(ForkingPickler.dumps(batch))


def tensors(value: Any) -> int:
    """How many there are in nested lists and dicts."""
    if isinstance(value, torch.Tensor):
        return 1
    if isinstance(value, dict):
        return sum(map(tensors, value.values()))
    return sum(map(tensors, value)) if isinstance(value, list | tuple) else 0


def open_files() -> int:
    """How many files this process may have open."""
    try:
        import resource
    except ImportError:  # Windows
        return FILES
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return FILES if limit == resource.RLIM_INFINITY else limit


def ask_for_files() -> None:
    """As many open files as the system lets this process have, up to FILES."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def fetch(batches: Dataset, keys: Iterable[Any], workers: int, pin: bool, console: Console) -> Iterator[Any]:
    """What the data set answers to each key, in their order, fetched ahead by so many processes at most."""
    workers = min(workers, os.cpu_count() or 1)
    iterator = start(batches, keys, workers, pin, console)
    while True:
        with explained():
            try:
                answer = next(iterator)
            except StopIteration:
                return
            answer = answer.unpacked() if isinstance(answer, Packed) else answer
        while _slow:
            warn_once(
                f"batches come from the loader processes through pipes, which is slower: {_slow.pop()}; give more of "
                "it (docker run --shm-size=2g, ulimit -n), or take loader.workers=0",
                console,
            )
        yield answer


def start(batches: Dataset, keys: Iterable[Any], wanted: int, pin: bool, console: Console) -> Iterator[Any]:
    """With fewer processes where the system does not give so many, or none, and then it says so."""
    workers, why = wanted, ""
    if wanted and os.name == "posix":
        ask_for_files()
        room = max(0, (open_files() - psutil.Process().num_fds() - SPARE) // PER_WORKER)
        if room < wanted:
            workers, why = room, f"at most {open_files()} files may be open (ulimit -n)"
    iterator: Iterator[Any] | None = None
    while iterator is None:
        before = set(multiprocessing.active_children())
        try:
            iterator = iter(loader(batches, keys, workers, pin))
        except OSError as error:  # no file, no memory, no process more, or no /dev/shm for their locks
            if workers == 0:
                raise
            put_away(error, set(multiprocessing.active_children()) - before)
            workers, why = workers // 2, str(error.strerror or error)
    if workers < wanted:
        warn_once(f"loader.workers: {workers} in place of {wanted}, for the system gives no more: {why}", console)
    return iterator


def put_away(error: OSError, processes: set[multiprocessing.process.BaseProcess]) -> None:
    """What is left of torch's iterator that could not be made: its processes, and its own end, which would complain."""
    for process in processes:
        process.terminate()
    for frame, _ in traceback.walk_tb(error.__traceback__):
        half_made: Any = frame.f_locals.get("self")
        if type(half_made).__name__ == "_MultiProcessingDataLoaderIter":
            half_made._shutdown = True


def loader(batches: Dataset, keys: Iterable[Any], workers: int, pin: bool) -> DataLoader:
    return DataLoader(
        batches,
        sampler=keys,  # type: ignore[arg-type]
        batch_size=None,
        num_workers=workers,
        worker_init_fn=start_worker,
        collate_fn=pack if workers else identity,
        pin_memory=pin,
    )


def start_worker(worker: int) -> None:
    signals.leave_to_the_main_process()


def identity(batch: Any) -> Any:
    return batch


@contextmanager
def explained(advice: str = "") -> Iterator[None]:
    """Within the block the death of a loader process is told in words. torch raises it wherever the main process is.

    advice: how the run goes on.
    """
    try:
        yield
    except TrainingError as error:
        if advice and isinstance(error.__cause__, RuntimeError) and DEATH.search(str(error.__cause__)):
            raise TrainingError(f"{error}{advice}") from error.__cause__
        raise
    except RuntimeError as error:
        if DEATH.search(str(error)) is None:
            raise
        signal = DEATH.search(str(error.__cause__)) or DEATH.search(str(error))
        how = (signal and signal["how"]) or "it ended without a word"
        if how == "Bus error":
            why = "/dev/shm is full: give more of it (docker run --shm-size=2g)"
        else:
            why = (
                "killed by somebody, or by the system for want of memory: smaller batches or fewer processes need less"
            )
        raise TrainingError(
            f"a loader process died ({how}); {why}; loader.workers=0 does without them{advice}"
        ) from error


def warn_once(text: str, console: Console) -> None:
    """A run starts loader processes anew for each evaluation."""
    if f"warning: {text}" not in console.notes:
        console.warn(text)
