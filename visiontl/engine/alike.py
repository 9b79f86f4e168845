"""Which runs can be merged, and which must not be. Raises in words."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visiontl.config.merging import MergeOptions
from visiontl.engine.model import load_model
from visiontl.errors import CheckpointError, DataError
from visiontl.kit.words import count, some
from visiontl.report.console import Console
from visiontl.runs import folders
from visiontl.runs.comparing import short_names


def require_number(runs: Sequence[Path], options: MergeOptions) -> None:
    """Raise DataError for a number of runs that cannot be merged in this way, or one run twice, by whatever path."""
    if options.how == "path" and len(runs) != 2:
        raise DataError(f"how=path goes from one run to another; got {count(len(runs), 'run')}")
    if len(runs) < 2:
        raise DataError("one run has nothing to be merged with; name 2 or more")
    places = [os.path.realpath(run) for run in runs]
    twice = sorted({str(run) for run, place in zip(runs, places, strict=True) if places.count(place) > 1})
    if twice:
        raise DataError(f"named twice: {some(twice)}")


def whole_run(run: str | Path) -> Path:
    """A run's folder, absolute, for its `model/` too, which does not know on what it was trained."""
    place = Path(os.path.abspath(run))
    return place.parent if place.name == "model" and (place.parent / "config.yaml").is_file() else place


def require_alike(runs: Sequence[Path]) -> None:
    """Raise CheckpointError where the models are not of one kind: in task, backbone, preprocessing, meta, names or
    shapes; or where two are one, bit for bit, which a mean would count twice."""
    first, called = load_model(runs[0]), dict(zip(runs, short_names(runs), strict=True))
    known = {_bits(first.model): runs[0]}
    shapes = {name: tuple(tensor.shape) for name, tensor in first.model.state_dict().items()}
    for run in runs[1:]:
        other = load_model(run)
        what = [
            ("task", first.resolved.task.name, other.resolved.task.name),
            ("backbone", first.backbone.name, other.backbone.name),
            ("preprocessing", first.backbone.spec, other.backbone.spec),
            *((f"meta {key!r}", first.meta.get(key), other.meta.get(key)) for key in {**first.meta, **other.meta}),
        ]
        for name, ours, theirs in what:
            if ours != theirs:
                raise CheckpointError(
                    f"{called[runs[0]]} and {called[run]} differ in their {name}: {_short(ours)} and {_short(theirs)}; "
                    "only models of one kind can be merged"
                )
        differ = [n for n, t in other.model.state_dict().items() if shapes.get(n) != tuple(t.shape)]
        differ += [name for name in shapes if name not in other.model.state_dict()]
        if differ:
            raise CheckpointError(
                f"{called[runs[0]]} and {called[run]} differ in {count(len(differ), 'tensor')} ({some(differ)}); only "
                "models of one kind can be merged"
            )
        if (twin := known.setdefault(_bits(other.model), run)) is not run:
            raise CheckpointError(
                f"{called[twin]} and {called[run]} hold the same weights, to the bit: one would be counted twice; "
                "leave one of them out"
            )


def require_unseen(runs: Sequence[Path], val: Sequence[str], console: Console) -> None:
    """Raise DataError where a run was trained on images by which the merged weights would be judged."""
    trained = {run: folders.listed_files(run, "train") for run in runs}
    called = dict(zip(runs, short_names(runs), strict=True))
    for run, files in trained.items():
        if files is None or not files & (trained[runs[0]] or set()):
            console.warn(
                f"{called[run]}: whether it was trained on images of val is not known: its files are not listed"
            )
        elif seen := sorted(set(val) & files):
            raise DataError(
                f"{called[run]} was trained on {count(len(seen), 'image')} of val, such as {seen[0]}: what is chosen "
                "by val would be chosen by what is known by heart; merge runs with the same splits"
            )


def _bits(model: nn.Module) -> str:
    """SHA-256 of all tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
