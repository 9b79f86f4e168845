"""Processes that stand still, are slow, or are killed."""

from __future__ import annotations

import os
import signal
import subprocess

from tools.campaigns.faulting.moments import at_update
from tools.campaigns.faulting.scenes import Plant, Scene


def stopped_rank(seconds: float | None) -> Plant:
    """The second rank stands still: for some seconds, or until it is killed after them."""

    def plant(scene: Scene, rank: int) -> None:
        if rank != 1:
            return

        def stand() -> None:
            pid = os.getpid()
            send = "CONT" if seconds is not None else "KILL"
            wait = seconds if seconds is not None else 4.0
            subprocess.Popen(["sh", "-c", f"sleep {wait}; kill -{send} {pid}"], start_new_session=True)
            os.kill(pid, signal.SIGSTOP)

        at_update(scene, 3, stand)

    return plant


def slow_rank(scene: Scene, rank: int) -> None:
    if rank == 1:
        os.nice(19)


def killed_at(update: int) -> Plant:
    return lambda scene, rank: at_update(scene, update, lambda: os.kill(os.getpid(), signal.SIGKILL))
