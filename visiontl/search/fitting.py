"""The largest micro-batch that fits, by real updates: on a GPU until its memory is spent, on a CPU by what was measured
with smaller ones, so that the system never has to end a process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from visiontl.config.resolve import Resolved
from visiontl.engine.order import images_of
from visiontl.engine.usage import memory_used
from visiontl.errors import VisionTLError, first_line
from visiontl.kit.words import count
from visiontl.search.updates import for_a_moment, losses

UPDATES = 3  # of each size; the first warms up, the others are timed
SHARE = 0.8  # of the free memory of a CPU's machine that may be taken
CGROUP = Path("/sys/fs/cgroup")
LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


@dataclass(frozen=True)
class Fit:
    """One micro-batch size. megabytes: the most that was in use; speed: images per second; why: it did not fit."""

    size: int
    megabytes: float | None = None
    speed: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Fitted:
    """best: the size and the accumulation that keep the effective batch; None where not even the smallest fits."""

    fits: Sequence[Fit]
    best: tuple[int, int] | None
    why: str


def sizes(effective: int) -> list[int]:
    """The micro-batches of 2 images and more that divide an update's images evenly, the smallest first: each at least
    half as large again as the one before, and the whole at the end."""
    found: list[int] = []
    for size in range(2, effective + 1):
        if effective % size == 0 and (not found or size >= 1.5 * found[-1] or size == effective):
            found.append(size)
    return found or [effective]


def largest_fit(resolved: Resolved, told: Callable[[Fit], None]) -> Fitted:
    """Try sizes upwards. told: called for each. Raises what a run raises that cannot be set up at all."""
    section = resolved.config.train
    effective = section.batch_size * section.accumulate
    fits: list[Fit] = []
    limit = memory_limit()
    for size in sizes(effective):
        needed = predicted(fits)(size) if limit is not None else None
        if needed is not None and limit is not None and needed > limit:
            fits.append(Fit(size, None, None, f"would need {needed / 1000:.1f} GB; {limit / 1000:.1f} may be used"))
        else:
            fits.append(attempt(resolved, size))
        told(fits[-1])
        if fits[-1].why and any(not one.why for one in fits):
            break
    fitting = [one for one in fits if not one.why]
    if not fitting:
        return Fitted(fits, None, f"no micro-batch fits: {fits[0].why}")
    best = fitting[-1]
    rest = next((one for one in fits if one.size > best.size and one.why), None)
    why = f"{count(best.size, 'image')} {'fits' if best.size == 1 else 'fit'}" + (
        f"; {rest.size} do not: {rest.why}" if rest else ", a whole update at once"
    )
    return Fitted(fits, (best.size, effective // best.size), why)


def attempt(resolved: Resolved, size: int) -> Fit:
    """Some updates with micro-batches of that size."""
    changes = {"train.batch_size": size, "train.accumulate": 1, "features.cache": "off", "train.epochs": UPDATES}
    try:
        with for_a_moment(resolved, changes, UPDATES) as run:
            most = from_now(run.accelerator.device)
            began, seconds = time.perf_counter(), list[float]()
            images = [images_of(run.orders(0).group(i % run.steps_per_epoch)) for i in range(UPDATES)]
            for _ in losses(run, [1e-3] * UPDATES):
                seconds.append(time.perf_counter() - began)
                began = time.perf_counter()
            speed = sum(images[1:]) / max(1e-9, sum(seconds[1:]))
            return Fit(size, most(), speed)
    except VisionTLError as error:
        return Fit(size, why=first_line(error))
    except (RuntimeError, MemoryError) as error:
        if not no_memory(error):
            raise
        return Fit(size, why="memory is spent")


def no_memory(error: BaseException) -> bool:
    text = str(error)
    words = ("out of memory", "can't allocate memory", "bad_alloc", "could not create a memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in text for word in words)


def from_now(device: torch.device) -> Callable[[], float]:
    """A function that says the most megabytes in use since now. Of a CPU the whole process's, since its beginning where
    the system does not let the record begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return lambda: memory_used(device)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM is the memory in use now
    return resident_peak


def resident_peak() -> float:
    """Megabytes that this process held at the most."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    return psutil.Process().memory_info().rss / 1e6


def memory_limit() -> float | None:
    """Megabytes that this process may hold on a CPU; None on a GPU, which says itself when it is full."""
    from visiontl.engine.device import current_device

    if current_device().type != "cpu":
        return None
    free = psutil.virtual_memory().available
    for most, used in LIMITS:
        try:
            left = int((CGROUP / most).read_text()) - int((CGROUP / used).read_text())
            free = min(free, max(0, left))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return (free * SHARE + psutil.Process().memory_info().rss) / 1e6


def predicted(fits: Sequence[Fit]) -> Callable[[int], float | None]:
    """Megabytes of a size, along the line through the two largest that were measured; None before there are two."""
    known = [(one.size, one.megabytes) for one in fits if one.megabytes is not None]
    if len(known) < 2:
        return lambda size: None
    (a, low), (b, high) = known[-2:]
    slope = max(0.0, (high - low) / (b - a))
    return lambda size: high + slope * (size - b)
