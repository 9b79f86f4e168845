"""The command that goes on from a finished run: predict on photos that it was not trained on."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, cast

from visiontl.config.resolve import Resolved
from visiontl.engine.example import SAMPLES, made_folder
from visiontl.task import SampleDataset

NEW = "new"  # the folder of photos that a task's samples have beside their splits
FEW = 3  # photos that are named one by one, where no folder holds them alone


def next_command(resolved: Resolved, folder: Path, splits: Mapping[str, SampleDataset]) -> str:
    """`visiontl predict RUN ...` on the sample data's new photos, or on those of test, or else of val: the folder that
    holds no others, or a few of them; PHOTOS where no file of these names is found."""
    places = list(paths_in(resolved.config.task.get("data")))
    photos = new_samples(resolved, places) or held_out(places, splits) or ["PHOTOS"]
    return shlex.join(["visiontl", "predict", str(folder), *photos])


def new_samples(resolved: Resolved, places: Sequence[Path]) -> list[str]:
    """The new photos beside the sample data, where the run is on these."""
    made = made_folder(resolved, SAMPLES)
    on_samples = any(place.is_relative_to(made) for place in places) and (made / NEW).is_dir()
    return [str(made / NEW)] if on_samples else []


def held_out(places: Sequence[Path], splits: Mapping[str, SampleDataset]) -> list[str]:
    """Photos of the split that nothing was learned or chosen on, or of val."""
    held = next((splits[name] for name in ("test", "val") if name in splits), None)
    if held is None or not len(held.names):
        return []
    # names lie below a folder of the config, or are whole paths
    bases = [*(place if place.is_dir() else place.parent for place in places), Path()]
    base = next((base for base in bases if (base / held.names[0]).is_file()), None)
    if base is None:
        return []
    others = [name for split in splits.values() if split is not held for name in split.names]
    alone = folder_of(held.names, others)
    return [str(base / name) for name in ([alone] if alone else held.names[:FEW])]


def paths_in(value: Any) -> Iterator[Path]:
    """What exists of the paths in a config's value, however deep they stand."""
    if isinstance(value, str) and value and "\0" not in value and os.path.exists(value):
        yield Path(value)
    elif isinstance(value, Mapping | list | tuple):
        inside = cast(Any, value.values() if isinstance(value, Mapping) else value)
        for one in inside:
            yield from paths_in(one)


def folder_of(names: Sequence[str], others: Sequence[str]) -> str:
    """The deepest folder that holds all of the names; "" where it is the base, or holds others too."""
    shared = os.path.commonpath([str(PurePosixPath(name).parent) for name in names])
    if shared in ("", "."):
        return ""
    return "" if any(PurePosixPath(name).is_relative_to(shared) for name in others) else shared
