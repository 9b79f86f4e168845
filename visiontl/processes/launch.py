"""What a launcher asked for, before any process has met another: how many processes, and whether they come."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import yaml

from visiontl.errors import ConfigError
from visiontl.outlet import say

PATIENCE = 5.0  # seconds until it is said that others are waited for
LIMIT = 180.0  # seconds until they are given up: on a slow disk an import alone takes a minute
COUNTS = ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = {"RANK": "WORLD_SIZE", "LOCAL_RANK": "LOCAL_WORLD_SIZE"}  # and what each is below
OWN = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # which of them this process is
LAUNCHERS = ("accelerate-launch", "accelerate.commands.launch", "accelerate/commands/launch.py")


def world_size() -> int:
    """How many processes the environment says there are. Raises ConfigError where it says what cannot be."""
    given = os.environ
    for name in COUNTS:
        _number(given, name, 1)
    for name, whole in RANKS.items():
        value, below = _number(given, name, 0), _number(given, whole, 1)
        if value is not None and below is not None and value >= below:
            raise ConfigError(
                f"{name}={value} and {whole}={below} in the environment: a rank is below the number of processes, the "
                f"first is 0; unset both for one process"
            )
    _number(given, "MASTER_PORT", 0)
    world = _number(given, "WORLD_SIZE", 1) or 1
    if world > 1 and not any(given.get(name) for name in OWN):
        raise ConfigError(
            f"WORLD_SIZE={world} in the environment, but no RANK that says which of them this is; unset it for one "
            f"process, or start all with torchrun --nproc_per_node {world}"
        )
    return world


def _number(given: Mapping[str, str], name: str, least: int) -> int | None:
    text = given.get(name)
    if not text or (least == 0 and text == "-1"):  # Accelerate's word for no rank
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise ConfigError(
            f"{name}={text!r} in the environment: expected a whole number, {least} or more, as a launcher sets it; "
            f"unset it for one process, or start with torchrun --nproc_per_node N"
        )
    return int(text)


def asked() -> tuple[int, str] | None:
    """(how many processes a launcher above this one was asked for, who says so), where that can be known.

    On a CPU `accelerate launch` starts one whatever its flag or its file asks for (seen with Accelerate 1.15), and
    MPI's launchers start several that know nothing of each other where there are GPUs. Neither says so.
    """
    text = os.environ.get("ACCELERATE_NUM_PROCESSES")
    if text and text.isdecimal():
        return int(text), f"ACCELERATE_NUM_PROCESSES={text} asked for"
    try:
        parent = psutil.Process().parent()
        words: Sequence[str] = parent.cmdline() if parent else []
        folder = parent.cwd() if parent else "."
    except psutil.Error:
        words, folder = [], "."
    for index, word in enumerate(words):
        if word.endswith(LAUNCHERS) or (word == "launch" and "accelerate" in words[index - 1]):
            return _asked_of_accelerate(words[index + 1 :], Path(folder))
    if os.environ.get("WORLD_SIZE"):  # torchrun under MPI's launcher: MPI counts nodes, or what is not its own
        return None
    for name in COUNTS[2:]:
        number = _number(os.environ, name, 1)
        if number is not None and number > 1:
            return number, f"{name}={number} in the environment says"
    return None


def _asked_of_accelerate(options: Sequence[str], folder: Path) -> tuple[int, str] | None:
    """By its flag, else its file, else the file that `accelerate config` wrote for all."""
    count, named = _value(options, "num_processes"), _value(options, "config_file")
    if count is not None and count.isdecimal():
        return int(count), "accelerate launch was asked for"
    if named is None and "--cpu" in options:
        return None
    file = default_file() if named is None else folder / named
    number = _read(file).get("num_processes")
    if isinstance(number, int) and not isinstance(number, bool) and number > 0:
        return number, f"accelerate launch was asked by {file} for"
    return None


def _value(options: Sequence[str], name: str) -> str | None:
    """Of --name VALUE or --name=VALUE, with _ or - within the name; the last one counts."""
    flags = (f"--{name}", f"--{name.replace('_', '-')}")
    found = [options[i + 1] for i, word in enumerate(options[:-1]) if word in flags]
    found += [word.partition("=")[2] for word in options if word.startswith(tuple(f"{flag}=" for flag in flags))]
    return found[-1] if found else None


def default_file() -> Path:
    """Where `accelerate config` writes, as Accelerate looks for it."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))
    return Path(home).expanduser() / "accelerate" / "default_config.yaml"


def _read(file: Path) -> Mapping[str, Any]:
    """A launch file, YAML or JSON; empty where it cannot be read: Accelerate has said so."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def waited_for() -> Iterator[None]:
    """Within the block the processes of a run find each other. One that waits says so after seconds, and ends the
    process with exit code 2 after minutes: nothing else would ever come."""
    world = world_size()
    if world == 1:
        yield
        return
    found = threading.Event()
    rank = next(os.environ[name] for name in OWN if os.environ.get(name))
    place = f"{os.environ.get('MASTER_ADDR', 'localhost')}:{os.environ.get('MASTER_PORT', '29500')}"
    what = f"rank {rank} waits for the rest of {world} processes (WORLD_SIZE={world}) at {place}"
    advice = f"unset WORLD_SIZE for one process, or start all with torchrun --nproc_per_node {world}"

    def watch() -> None:
        if found.wait(PATIENCE):
            return
        say(f"warning: {what}; if none is coming: {advice}", sys.stderr)
        if found.wait(LIMIT - PATIENCE):
            return
        say(f"error: {what}, and none came in {LIMIT:.0f} seconds; {advice}", sys.stderr)
        os._exit(ConfigError.exit_code)  # the main thread sits in a call that no exception reaches

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        found.set()
