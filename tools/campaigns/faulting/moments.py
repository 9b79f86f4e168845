"""When a fault comes: as a run writes something, or at an update of its training."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tools.campaigns.faulting.scenes import Scene
from visiontl.runs import store
from visiontl.runs.files import read_lines


def stood(scene: Scene) -> None:
    """Note what is there as the fault comes."""
    whole = [path.name for path in store.step_folders(scene.run / "checkpoints") if store.damage(path) is None]
    scene.marker.write_text(json.dumps({"checkpoints": whole, "lines": len(read_lines(scene.run)[0])}))


def at_write(scene: Scene, word: str, do: Callable[[], object], nth: int = 1) -> None:
    """Call `do` as this process is about to make, open for writing, link or rename something with that word in its
    path, for the nth time. What it raises is what the system answers."""
    count, busy = 0, False

    def heard(event: str, arguments: Any) -> None:
        nonlocal count, busy
        path = written_path(event, arguments)
        if busy or path is None or word not in path or not path.startswith(str(scene.disk)):
            return
        busy, count = True, count + 1
        try:
            if count == nth:
                stood(scene)
                do()
        finally:
            busy = False

    sys.addaudithook(heard)


def written_path(event: str, arguments: Any) -> str | None:
    """The path that an audit event of Python tells is about to be written to."""
    if event == "open":
        path, _, flags = arguments
        writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return os.fsdecode(path) if writing and isinstance(path, str | bytes) else None
    if event == "os.mkdir":
        return os.fsdecode(arguments[0])
    return os.fsdecode(arguments[1]) if event in ("os.rename", "os.link") else None


def at_update(scene: Scene, number: int, do: Callable[[], object]) -> None:
    """Call `do` at an update of training, counted in this process from 1."""
    train = importlib.import_module("visiontl.engine.train")
    real, count = train.set_lr, itertools.count(1)

    def call(*arguments: Any) -> None:
        if next(count) == number:
            stood(scene)
            do()
        real(*arguments)

    train.set_lr = call  # type: ignore[attr-defined]
