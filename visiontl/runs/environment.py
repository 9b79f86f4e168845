"""Where a run happened: machine, versions, processes; and the folder it writes to."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from visiontl.errors import CheckpointError, ConfigError, refused_by_disk, room_at
from visiontl.kit.words import plural
from visiontl.processes import launch, ranks

LOCK = ".lock"
LIBRARIES = ("torch", "torchvision", "timm", "accelerate")


def environment(accelerator: Accelerator) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    device = accelerator.device
    return {
        "python": platform.python_version(),
        **versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0] if names else platform.machine()
    except OSError:
        return platform.processor() or platform.machine()


def check_processes(wanted: int | None) -> None:
    """Raise ConfigError unless as many processes run as the config (run.processes) or the launcher asked for."""
    actual = ranks.world()
    asked = (wanted, "run.processes is") if wanted is not None else launch.asked()
    if asked is not None and asked[0] != actual:
        number, who = asked
        raise ConfigError(
            f"{who} {number}, but {actual} {plural(actual, 'process')} started; on CPU use "
            f"`torchrun --nproc_per_node {number}` (accelerate launch starts one there), see docs/distributed.md"
        )


def command_line() -> str:
    """The command as it was typed, as far as Python knows it."""
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    return shlex.join([program, *sys.argv[1:]])


def run_folder(parent: Path, name: str) -> Path:
    """A new folder `parent/name-DATE-TIME`, the same on every rank; never one that is there already."""
    stamped = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    return ranks.on_main(lambda: _new_folder(parent, stamped))


def named_folder(parent: Path, name: str) -> Path:
    """A new folder `parent/name`, the same on every rank; refused when it exists and a run wrote to it."""
    return ranks.on_main(lambda: _new_folder(parent, name, numbered=False))


def _new_folder(parent: Path, name: str, numbered: bool = True) -> Path:
    if Path(name).name != name or name in ("", ".", ".."):
        raise CheckpointError(f"run.name {name!r} is no plain folder name")
    for attempt in range(1, 1000):
        folder = parent / (name if attempt == 1 else f"{name}-{attempt}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            if not folder.exists():  # what exists is a folder above, or so it seems: a link to nothing
                raise CheckpointError(f"{folder} cannot be made: {parent} is a link to nothing") from None
            if not numbered and is_blank(folder):
                return folder
            if not numbered:
                raise CheckpointError(
                    f"{folder} exists already and is never overwritten; choose another run.name"
                ) from None
        except OSError as error:
            room = f", {room_at(parent)}; make room, or choose another folder" if refused_by_disk(error) else ""
            raise CheckpointError(f"{folder} cannot be made: {error.strerror or error}{room}") from None
    raise CheckpointError(f"{parent / name}: a thousand folders of that name exist")


def is_blank(folder: Path) -> bool:
    """Whether it is a folder that a run began and wrote nothing whole to: the disk was full, say, or it was killed."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return all(name == LOCK or name.startswith(".writing-") for name in os.listdir(folder))
