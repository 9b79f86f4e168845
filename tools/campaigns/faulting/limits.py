"""What the system gives a process: files, memory, sizes, a /dev/shm, somewhere to print, a clock."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

from tools.campaigns.faulting.disks import fill, make_room
from tools.campaigns.faulting.moments import at_update
from tools.campaigns.faulting.scenes import Plant, Scene


def limited(name: str, value: int, beyond: bool = False) -> Plant:
    """`ulimit`. beyond: on top of what the process has already."""

    def plant(scene: Scene, rank: int) -> None:
        import resource

        kind = getattr(resource, f"RLIMIT_{name}")
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if beyond else 0
        if name == "FSIZE":  # what is said goes through a pipe, or the limit would be its own
            speaker = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=1, start_new_session=True)
            assert speaker.stdin is not None
            os.dup2(speaker.stdin.fileno(), 1)
            os.dup2(speaker.stdin.fileno(), 2)
        resource.setrlimit(kind, (now + value, now + value))

    return plant


def own_shm(megabytes: float) -> Plant:
    """A /dev/shm of this process and its children alone."""

    def plant(scene: Scene, rank: int) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x00020000):  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        size = f"size={int(megabytes * 1024)}k"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", "/dev/shm"], check=True)

    return plant


def nowhere_to_speak(kind: str) -> Plant:
    """stdout and stderr refuse what is printed."""

    def plant(scene: Scene, rank: int) -> None:
        if kind == "closed":
            os.close(1)
            os.close(2)
            sys.stdout = sys.stderr = None  # type: ignore[assignment]
            return
        if kind == "a full disk":
            target = os.open("/dev/full", os.O_WRONLY)
        elif kind == "a log file on a disk that fills":
            target = os.open(scene.disk / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            at_update(scene, 2, lambda: fill(scene))
            at_update(scene, 4, lambda: make_room(scene))
        else:
            reader, target = os.pipe()
            os.close(reader)
        os.dup2(target, 1)
        if kind != "a pipe that nobody reads":
            os.dup2(target, 2)

    return plant


def clock_back(scene: Scene, rank: int) -> None:
    """An hour back at the third update, and again later."""
    real, steps = time.time, [0.0]
    time.time = lambda: real() - steps[0]
    for update in (3, 5):
        at_update(scene, update, lambda: steps.__setitem__(0, steps[0] + 3600))
