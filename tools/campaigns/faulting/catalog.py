"""Which faults there are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tools.campaigns.faulting.disks import WRITES, full_at, full_now, make_room, moved, read_only_at, refused_once
from tools.campaigns.faulting.limits import clock_back, limited, nowhere_to_speak, own_shm
from tools.campaigns.faulting.pictures import changed_picture
from tools.campaigns.faulting.ranks import slow_rank, stopped_rank
from tools.campaigns.faulting.scenes import Fault, Scene, nothing


def faults(tasks: Sequence[str]) -> list[Fault]:
    """All of them: each kind of fault in turn on another task, and a full disk at whatever a run of any task writes."""
    turn = itertools.cycle(tasks)
    found = [*of_the_system(turn), *of_folders(turn), *of_processes(turn), *of_writes(turn)]
    for task, (what, (word, nth)) in itertools.product(tasks, WRITES.items()):
        found.append(Fault("full disk", f"at {what}", task, full_at(word, nth, True), make_room, needs="disk"))
    return found


def of_writes(turn: Iterator[str]) -> list[Fault]:
    found: list[Fault] = []
    for what, (word, nth) in WRITES.items():
        found.append(Fault("refusal", f"from {what} on", next(turn), full_at(word, nth, False)))
    for what in ("its first checkpoint", "the best weights", "its report", "its numbers"):
        word, nth = WRITES[what]
        found.append(Fault("refusal", f"once, at {what}", next(turn), refused_once(word, nth)))
    for command, word in (
        ("predict", "out"),
        ("predict", "predictions.csv"),
        ("evaluate", "out"),
        ("evaluate", "rows"),
    ):
        plant = full_at(word, 1, True)
        found.append(Fault("full disk", f"at {word}", next(turn), plant, make_room, needs="disk", command=command))
    found.append(Fault("full disk", "before the start", next(turn), full_now, make_room, needs="disk"))
    return found


def of_the_system(turn: Iterator[str]) -> list[Fault]:
    found = [
        Fault("/dev/shm", f"of {size} MB", next(turn), own_shm(size), needs="shm", workers=2)
        for size in (0.05, 16, 64, 256)
    ]
    found += [
        Fault("ulimit -n", str(files), next(turn), limited("NOFILE", files), workers=workers)
        for files, workers in ((24, 0), (32, 2), (48, 2), (64, 2), (128, 2), (256, 2))
    ]
    found += [Fault("ulimit -n", str(files), next(turn), limited("NOFILE", files), processes=2) for files in (32, 64)]
    found += [
        Fault("ulimit -v", f"{size} MB more", next(turn), limited("AS", size << 20, beyond=True))
        for size in (5, 50, 400)
    ]
    found += [Fault("ulimit -f", f"{size} kB", next(turn), limited("FSIZE", size << 10)) for size in (0, 4, 64)]
    places = ("closed", "a full disk", "a pipe that nobody reads")
    found += [Fault("printing", place, next(turn), nowhere_to_speak(place)) for place in places]
    log = "a log file on a disk that fills"
    found += [Fault("printing", log, next(turn), nowhere_to_speak(log), make_room, needs="disk")]
    found += [Fault("clock", "goes back twice", next(turn), clock_back)]
    return found


def of_folders(turn: Iterator[str]) -> list[Fault]:
    found = []
    for update in (2, 5):
        what = f"the disk of the run at update {update}"
        found.append(Fault("read-only", what, next(turn), read_only_at(update)))
    places: dict[str, Callable[[Scene], Path]] = {
        "the run folder": lambda scene: scene.run,
        "the folder of checkpoints": lambda scene: scene.run / "checkpoints",
        "the best weights": lambda scene: scene.run / "model",
        "the data": lambda scene: scene.case.folder / f"runs/example-{scene.case.task}",
    }
    for what, path in places.items():
        plant, mend = moved(path, 5)
        found.append(Fault("vanishes", what, next(turn), plant, mend, same=what != "the folder of checkpoints"))
    for kind in ("garbage", "cut short", "gone", "a pipe", "of 100 megapixels"):
        plant, mend = changed_picture(kind, 3)
        found.append(Fault("pictures", kind, next(turn), plant, mend, same=False))
    return found


def of_processes(turn: Iterator[str]) -> list[Fault]:
    return [
        Fault("ranks", "one stands still for 5 s", next(turn), stopped_rank(5.0), processes=2),
        Fault("ranks", "one stands still, then is killed", next(turn), stopped_rank(None), processes=2),
        Fault("ranks", "one at low priority", next(turn), slow_rank, processes=2),
        Fault("at once", "two of the same run", next(turn), nothing, twice=True),
        Fault("at once", "two resumes of one run", next(turn), nothing, twice=True, begun=True),
        Fault("at once", "two resumes of one run", next(turn), nothing, twice=True, begun=True),
    ]
