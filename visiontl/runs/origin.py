"""From which folder a run's relative paths are read: it was started in one, and may be continued from any other."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from visiontl.config.resolve import resolve
from visiontl.config.schema import Config
from visiontl.errors import VisionTLError
from visiontl.report.console import Console
from visiontl.runs.files import read_text, write_text

STARTED = "started.json"
PATHS = ("task.data", "task.data.folder", "backbone.weights", "init")  # keys whose plain words may be paths


@dataclass(frozen=True)
class Asked:
    """What was asked of a run, in paths that stand wherever one is. data: None for the run's own."""

    run: Path
    data: str | None = None
    overrides: Sequence[str] = ()


def remember(folder: Path) -> None:
    """Keep the folder that a run is started in: as it is, and as it lies from the run, for a project that moves."""
    here = os.path.abspath(os.curdir)
    try:
        relative: str | None = os.path.relpath(here, folder.absolute())
    except ValueError:  # on another drive
        relative = None
    write_text(folder / STARTED, json.dumps({"folder": here, "from_run": relative}, indent=1))


@contextlib.contextmanager
def as_started(asked: Asked, console: Console) -> Iterator[Asked]:
    """Within the block relative paths are those of the folder that the run was started in, which is said where it is
    another than the current one. Gives what was asked with paths that are right there.

    Of the places where that folder may be (as it lies from the run, as it was called, the current one) the first that
    has the most of the paths in the run's config is taken: a whole project, or a run alone, may have moved.
    """
    here, places = Path.cwd(), origins(asked.run)
    paths = relative_paths(asked.run)
    place = max([*places, here], key=lambda one: sum(os.path.lexists(one / path) for path in paths))
    lost = None if asked.data or not places else lost_data(asked.run, place)
    if lost:
        console.warn(f"{lost} is not there: looked for as {' and '.join(str(one / lost) for one in [*places, here])}")
    if not paths or place.samefile(here):
        yield asked
        return
    console.say(
        f"the run was started in {place}: the relative paths of its config ({paths[0]} ...) are read from there"
    )
    moved = replace(
        asked,
        run=Path(os.path.abspath(asked.run)),
        data=None if asked.data is None else os.path.abspath(asked.data),
        overrides=[_absolute(one) for one in asked.overrides],
    )
    with contextlib.chdir(place):
        yield moved


def origins(run: Path) -> list[Path]:
    """The folders that a run, or the run of a `model/`, may have been started in, and that are there."""
    found: list[Path] = []
    for folder in (run, Path(os.path.abspath(run)).parent):
        try:
            said = json.loads(read_text(folder / STARTED))
            places = [folder / said["from_run"]] if said["from_run"] is not None else []
            places.append(Path(said["folder"]))
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        for place in map(Path, map(os.path.abspath, places)):
            if place.is_dir() and place not in found:
                found.append(place)
    return found


def relative_paths(run: Path) -> list[str]:
    """What may be relative paths in the config of a run: the texts of `task`, those of `task.data` first, then the
    weights and the run that it began with. A text that is no path is nowhere a file, so it decides nothing."""
    config = _config(run)
    if config is None:
        return []
    data = list(_texts(config.task.get("data")))
    rest = [text for key, value in config.task.items() if key not in ("name", "data") for text in _texts(value)]
    texts = [*data, *rest, config.backbone.weights, *([config.init] if config.init else [])]
    return [text for text in dict.fromkeys(texts) if text and "\0" not in text and not os.path.isabs(text)]


def lost_data(run: Path, place: Path) -> str | None:
    """The data that the run's config names, where it is relative and nothing of it lies in this folder: the first text
    of `task.data`, or the first that looks like a path, as words like `auto` do not."""
    config = _config(run)
    texts = list(_texts(config.task.get("data"))) if config else []
    made = {"example", "samples"} & set(texts)  # on the spot
    if made or any(os.path.isabs(text) or "\0" in text or os.path.exists(place / text) for text in texts):
        return None
    return next((text for text in texts if os.path.dirname(text) or os.path.splitext(text)[1]), next(iter(texts), None))


def _config(run: Path) -> Config | None:
    file = next((one for one in (run / "config.yaml", run / "model" / "config.yaml") if one.is_file()), None)
    try:
        return resolve(file).config if file else None
    except VisionTLError:  # said where the run is read
        return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ():
        yield from _texts(one)


def _absolute(override: str) -> str:
    """An override whose value is a file or folder here, with that one's whole path."""
    key, equals, value = override.partition("=")
    path = key in PATHS or bool(os.path.dirname(value) or os.path.splitext(value)[1])  # `coco` may be a format
    there = equals and value and path and not os.path.isabs(value) and os.path.exists(value)
    return f"{key}={os.path.abspath(value)}" if there else override
