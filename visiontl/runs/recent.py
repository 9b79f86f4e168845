"""Which run is meant by a path that is none. Imports no torch: it is asked before anything heavy is."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from visiontl import plugins
from visiontl.config import ready
from visiontl.config.resolve import Resolved, resolve
from visiontl.config.write import config_hash
from visiontl.errors import VisionTLError, closest
from visiontl.kit.words import some

SHOWN = 3  # runs that a sentence names


def newest_runs(folder: Path) -> list[Path]:
    """The run folders in a folder, the newest first."""
    with suppress(OSError):
        runs = [path for path in folder.iterdir() if (path / "config.yaml").is_file()]
        return sorted(runs, key=lambda path: (path / "config.yaml").stat().st_mtime_ns, reverse=True)
    return []


def runs_of(resolved: Resolved) -> list[Path]:
    """Runs with a model to use that a config made, the newest first: by the config itself, or by the name that runs
    take from its file."""
    runs = [run for run in newest_runs(Path(resolved.config.run.folder)) if (run / "model").is_dir()]
    wanted, name = config_hash(resolved), f"{Path(resolved.source).stem}-"
    found: list[Path] = []
    for run in runs:
        with suppress(VisionTLError, OSError):
            if run.name.startswith(name) or config_hash(resolve(run / "config.yaml")) == wanted:
                found.append(run)
    return found


def is_config(name: str) -> bool:
    """Whether a word names a config rather than a run: a YAML file, or a ready config where nothing else is there."""
    path = Path(name)
    return path.is_file() if path.exists() else path.suffix in (".yaml", ".yml") or name in ready.runs()


def is_whole(name: str) -> bool:
    """Whether a word is the name of a whole model that a task knows, with or without a tag."""
    return any(name.partition(":")[0] in task.wholes for task in plugins.tasks().values())


def instead_of_config(name: str, words: Sequence[str]) -> str:
    """The sentence for a command that needs a run and was given a config. words: of the command line."""
    resolved = resolve(name)
    runs = runs_of(resolved)
    if not runs:
        where = f"no run of it is in {resolved.config.run.folder}"
        return f"{name} is a config, not a run, and {where}: `visiontl train {name}` makes one"
    others = f"; before it {some([str(run) for run in runs[1:]], SHOWN)}" if runs[1:] else ""
    line = shlex.join(["visiontl", *(str(runs[0]) if word == name else word for word in words)])
    return f"{name} is a config, not a run; its newest run: `{line}`{others}"


def no_such_run(run: Path) -> str:
    """The sentence for a path where nothing is: the nearest run, else the newest, else a ready config so called."""
    near = [path.name for path in run.parent.iterdir() if path.is_dir()] if run.parent.is_dir() else []
    if named := closest(run.name, near, 1):
        return f"{run}: no such run folder; did you mean '{run.parent / named[0]}'?"
    if named := closest(str(run), ready.runs(), 1):
        return f"{run}: no such run folder; did you mean {named[0]!r}, which is a ready config?"
    return f"{run}: no such run folder{_newest([run.parent, Path('runs')])}"


def _newest(folders: Iterable[Path]) -> str:
    for folder in folders:
        if runs := newest_runs(folder):
            return f"; the newest runs in {folder} are {some([path.name for path in runs], SHOWN)}"
    return "; `visiontl train CONFIG` makes one"
