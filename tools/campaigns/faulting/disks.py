"""Disks that are full, refuse, or lose a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tools.campaigns.faulting.moments import at_update, at_write, stood, written_path
from tools.campaigns.faulting.scenes import Plant, Scene

ROOM = 32  # MB of the disk that a run is given
# What a run writes, by a part of the path: the moment at which it begins to
WRITES = {
    "its start": ("started.json", 1),
    "its config": ("config.yaml", 1),
    "the lists of its splits": ("splits", 1),
    "its numbers": ("metrics.jsonl", 1),
    "its first checkpoint": (".writing-step-", 1),
    "a later checkpoint": ("step-00000003", 1),
    "the best weights": (".writing-model", 1),
    "the twin of the best weights": (".writing-best", 1),
    "the scores of each image": (".writing-images-", 1),
    "the pictures of its report": ("pictures", 1),
    "its report": (".report.html", 1),
    "the end of its report": (".writing-report.json", 1),
    "its numbers as a table": ("metrics.csv", 1),
}


@contextlib.contextmanager
def mounted(place: Path, wanted: bool) -> Iterator[bool]:
    """Within the block a small disk lies at the place, where the system mounts one. Gives whether it does."""
    place.mkdir(exist_ok=True)
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={ROOM}m", "none", str(place)]
    if not wanted or mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def may_mount(folder: Path) -> bool:
    with mounted(folder / "tried", True) as works:
        return works


def fill(scene: Scene) -> None:
    """Take all room of the mounted disk."""
    with contextlib.suppress(OSError), (scene.disk / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
    with contextlib.suppress(OSError), (scene.disk / "ballast").open("ab", buffering=0) as file:
        file.write(bytes(1))


def make_room(scene: Scene) -> None:
    (scene.disk / "ballast").unlink(missing_ok=True)


def refuse_from_here(scene: Scene, number: int) -> None:
    """The system refuses whatever this process opens for writing below the disk: no disk is needed."""

    def heard(event: str, arguments: Any) -> None:
        path = written_path(event, arguments)
        if path is not None and path.startswith(str(scene.disk)):
            raise OSError(number, os.strerror(number), path)

    sys.addaudithook(heard)


def refuse_all(scene: Scene) -> None:
    refuse_from_here(scene, errno.ENOSPC)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def refuse_once(scene: Scene) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_at(word: str, nth: int, mounted: bool) -> Plant:
    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_write(scene, word, lambda: fill(scene) if mounted else refuse_all(scene), nth)

    return plant


def full_now(scene: Scene, rank: int) -> None:
    stood(scene)
    fill(scene)


def refused_once(word: str, nth: int) -> Plant:
    return lambda scene, rank: at_write(scene, word, lambda: refuse_once(scene), nth)


def read_only_at(update: int) -> Plant:
    """As a disk is after an error of its own; `mount -o remount,ro` refuses while a file is open."""
    return lambda scene, rank: at_update(scene, update, lambda: refuse_from_here(scene, errno.EROFS))


def moved(path: Callable[[Scene], Path], update: int) -> tuple[Plant, Callable[[Scene], None]]:
    """A folder vanishes at an update, and comes back."""

    def plant(scene: Scene, rank: int) -> None:
        if rank == 0:
            at_update(scene, update, lambda: path(scene).rename(path(scene).with_name("gone")))

    def mend(scene: Scene) -> None:
        gone = path(scene).with_name("gone")
        if gone.exists():
            shutil.rmtree(path(scene), ignore_errors=True)
            gone.rename(path(scene))

    return plant, mend
