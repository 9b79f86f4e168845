"""Processes forked from one that has imported everything: a run in one of them costs a second or two and not ten."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import torch

from visiontl import plugins
from visiontl.signatures import lazy
from visiontl.task import Task


@dataclass(frozen=True)
class Rank:
    """number: of the process among those of a run, from 0. port: where they meet."""

    number: int
    processes: int
    port: int

    def variables(self) -> dict[str, str]:
        """What `accelerate launch` would set in the environment."""
        if self.processes == 1:
            return {}
        world = {name: str(self.processes) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")}
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self.port)}
        return world | meeting | {"RANK": str(self.number), "LOCAL_RANK": str(self.number)}


def fork(work: Callable[[], int], log: Path, rank: Rank) -> int:
    """The id of a new process at the head of a process group of its own, which appends what it says to the log and ends
    with the code that `work` gives, or with a trace and 1."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ |= rank.variables()
        from visiontl.report import page

        page.render_figure = lambda figure, prefix="": ""  # drawing takes longer than such a run
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):  # where a process speaks may be closed or full
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def kill(pids: Sequence[int]) -> None:
    for pid in pids:
        for send in (os.killpg, os.kill):  # the group may not be there yet
            try:
                send(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def import_all(tasks: list[str]) -> None:
    """Everything a run imports, before the first fork; no tensor is touched, so no thread is started."""
    torch.set_num_threads(1)
    heavy = ["torch._dynamo", "matplotlib.backends.backend_agg", "matplotlib.figure", "jinja2", "numpy.ctypeslib"]
    heavy += ["torchvision.transforms.v2", "torchvision.tv_tensors", "PIL.ImageEnhance", "PIL.ImageFilter"]
    own = [
        f"visiontl.{name}" for name in ("engine.train", "backbones.tiny", "backbones.registry", "backbones.packages")
    ]
    for name in (*own, *heavy):  # what is else imported at the first use
        importlib.import_module(name)
    for task in tasks:
        for one in fields(Task):
            value = getattr(plugins.task(task), one.name)
            if isinstance(value, lazy):
                value.resolve()
    gc.collect()
    gc.freeze()  # a run collects garbage, and need not look through all of this
