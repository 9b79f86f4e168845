"""Reading every image of a data set before the first training second: what can be read, and how it is stored."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from visiontl.config.schema import DataConfig
from visiontl.engine.depth import warn_of_depth
from visiontl.engine.loader import Remaining, load
from visiontl.engine.parts import Part
from visiontl.errors import DataError, VisionTLError
from visiontl.kit.depths import Levels
from visiontl.kit.images import Stored, how_stored
from visiontl.kit.strips import strips
from visiontl.kit.words import plural
from visiontl.processes import ranks
from visiontl.processes.seeds import seeded
from visiontl.report.console import Console
from visiontl.report.items import Finding, Seen
from visiontl.task import Data, SampleDataset, Task

NAMED = 5  # names in a sentence on the console; files hold all
CHUNK = 32  # images that a loader process reads before it answers


@dataclass(frozen=True, slots=True)
class Photo:
    """One image that could be read. size: (H, W) in pixels as the run sees it. stored: None where it is no file."""

    size: tuple[int, int]
    stored: Stored | None = None
    pixels: bytes = b""  # digest of size and decoded pixels
    look: bytes = b""  # perceptual hash of 128 bits; empty for pictures too plain to have one
    plain: bool = False  # one color all over
    levels: Levels | None = None  # how more than 8 bits a value were read


@dataclass(frozen=True, slots=True)
class Bad:
    """One image that could not be read, and why, in a sentence that names it."""

    why: str


Scans = Mapping[str, Sequence[Photo | Bad]]
"""Per split, in id order."""


def read(split: SampleDataset, id: int, compare: bool = False) -> Photo | Bad:
    """Open one image, and make its sample as training would (a mask may be damaged too): that alone is the verdict.

    compare: also look at how it is stored, and compute what tells duplicates.
    """
    try:
        image = split.image(id)
        photo = Photo((image.height, image.width))
        if compare:
            stored = stored_as(image)
            levels = image.info.get("levels")
            photo = Photo(photo.size, stored, pixels_digest(image), look(image), one_color(image), levels)
        del image  # a large one is not held twice
        split[id, 0]
    except VisionTLError as error:
        name = split.names[id]
        return Bad(str(error) if name in str(error) else f"{name}: {error}")
    except Exception as error:  # a stranger's data set raises what it likes
        return Bad(f"{split.names[id]}: {type(error).__name__}: {error}")
    return photo


def stored_as(image: Image.Image) -> Stored | None:
    """None for an image that is no file, and for one whose header says what cannot be told though it was read."""
    file = image.info.get("file")
    if not file:
        return None
    try:
        stored = how_stored(file)
    except Exception:  # Pillow's parsers raise many kinds, of frames and tags that nobody reads
        return None
    return replace(stored, turned=stored.turned or "turned" in image.info)  # EXIF may stand behind the pixels


class Reader(Dataset):
    """Answers (split, ids) with what reading them gave. What a loader process needs, so it must pickle."""

    def __init__(self, splits: Mapping[str, SampleDataset], compare: bool):
        self.splits, self.compare = splits, compare

    def __getitem__(self, key: tuple[str, range]) -> list[Photo | Bad]:
        name, ids = key
        return [read(self.splits[name], id, self.compare) for id in ids]


def read_all(splits: Mapping[str, SampleDataset], console: Console, compare: bool = False) -> Scans:
    """Every image of the splits, shared out over the ranks; all of them get all answers.

    Each rank reads with its share of the CPUs in loader processes: a data set need not bear threads, and they wait
    for each other. No rank reads for all, because the others would wait in a collective that has a time limit.
    """
    keys = [
        (name, range(start, min(start + CHUNK, len(split))))
        for name, split in splits.items()
        for start in range(0, len(split), CHUNK)
    ]
    rank, world = ranks.rank(), ranks.world()
    parts = ranks.gather_objects(ranks.agree(lambda: read_keys(splits, keys[rank::world], console, compare)))
    found: dict[str, list[Photo | Bad]] = {name: [] for name in splits}
    for index, (name, _) in enumerate(keys):
        found[name] += parts[index % world][index // world]
    return found


def read_keys(
    splits: Mapping[str, SampleDataset], keys: Sequence[tuple[str, range]], console: Console, compare: bool
) -> list[list[Photo | Bad]]:
    """The answer to each key, in order."""
    processes = max(1, cpus() // local_world()) if len(keys) > 2 else 0
    total = sum(len(ids) for _, ids in keys)
    found: list[list[Photo | Bad]] = []
    done = 0
    # seeded, because a loader's start draws a number: the run's own random numbers must not depend on this
    with seeded(0), console.progress(total=total, unit="image", what="reading all images") as bar:
        # the loader hands keys and answers through unchanged, in order
        answers: Any = load(Reader(splits, compare), keys, processes, False, console)  # type: ignore[arg-type]
        for (_, ids), answer in zip(keys, answers, strict=True):
            found.append(answer)
            done += len(ids)
            bar.update(done, images=len(ids))
    return found


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_world() -> int:
    """Processes of the run on this machine, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if ranks.active() else 1


def readable_data(
    section: DataConfig, task: Task, cfg: Any, data: Data, console: Console, only: Sequence[str] | None = None
) -> Data:
    """What a run works with: the data as it is, or (data.on_bad: skip) without its unreadable images.

    only: the splits that are wanted at all. Raises DataError where more
    than data.max_bad of a split cannot be read, or where the task cannot do with what remains.
    """
    if only is not None:
        data = replace(data, **{name: None for name in data.splits() if name not in only})
    if data.train is not None and ranks.rank() == 0:
        warn_of_depth(data.train, section.depth, console)
    if section.on_bad == "error":
        return data
    began = time.perf_counter()
    scans = read_all(data.splits(), console)
    bad = unreadable(scans)
    count = sum(map(len, scans.values()))
    console.say(f"data.on_bad: skip: read {count:,} {plural(count, 'image')} in {time.perf_counter() - began:.0f} s")
    problems = too_many(section, data, bad)
    if problems:
        raise DataError(problems[0], lines=problems[1:])
    for name, found in bad.items():
        if found:
            whole = f"{len(scans[name]):,} {plural(len(scans[name]), 'image')}"
            named = first_reasons(list(found.values()))
            console.warn(f"{name}: {len(found)} of {whole} cannot be read and are left out: {named}")
    if any(bad.values()) and task.check is not None:
        found = task.check(cfg, data, data.meta, seen(scans))
        errors = [one for one in found if isinstance(one, Finding) and one.level == "error"]
        if errors:
            raise DataError("without the unreadable images: " + "; ".join(one.what for one in errors))
    return remaining(data, bad)


def unreadable(scans: Scans) -> dict[str, dict[int, str]]:
    """{split: {id: why}}"""
    return {
        name: {id: one.why for id, one in enumerate(found) if isinstance(one, Bad)} for name, found in scans.items()
    }


def too_many(section: DataConfig, data: Data, bad: Mapping[str, Mapping[int, str]]) -> list[str]:
    """One sentence per split of which more cannot be read than may be skipped, or all."""
    problems = []
    for name, split in data.splits().items():
        count, whole = len(bad[name]), len(split)
        if count and (count == whole or count > section.max_bad * whole):
            advice = "" if count == whole else f"; data.max_bad={least_share(count, whole):g} would allow it"
            named = first_reasons(list(bad[name].values()))
            problems.append(
                f"{name}: {count:,} of {whole:,} {plural(whole, 'image')} cannot be read, more than data.max_bad: "
                f"{section.max_bad:g} allows{advice}: {named}"
            )
    return problems


def least_share(count: int, whole: int) -> float:
    """count / whole, rounded up to three decimals."""
    return -(-count * 1000 // whole) / 1000


def remaining(data: Data, bad: Mapping[str, Mapping[int, str]]) -> Data:
    """The data without the unreadable images, its own batches without their ids."""
    splits = {name: Remaining(split, bad[name]) for name, split in data.splits().items()}
    still = None if data.still is None or "train" not in bad else Remaining(data.still, bad["train"])
    batches = data.batches
    if batches is not None:
        batches = functools.partial(renumbered, batches, splits)
    return replace(data, **splits, still=still, batches=batches)


def renumbered(
    batches: Callable[..., list[list[int]]],
    splits: Mapping[str, Any],
    split: str,
    seed: int,
    epoch: int,
    batch_size: int,
) -> list[list[int]]:
    """A task's own batches in the ids of what remains of each split (its `ids`). As many as before: one that is left
    empty repeats another."""
    number = {id: new for new, id in enumerate(splits[split].ids)}
    kept = [[number[id] for id in batch if id in number] for batch in batches(split, seed, epoch, batch_size)]
    full = [batch for batch in kept if batch]
    if not full:
        raise DataError(f"{split}: the task's `batches` hold no image that can be read")
    return [batch or full[i % len(full)] for i, batch in enumerate(kept)]


def seen(scans: Scans, duplicates: Sequence[Sequence[tuple[str, int]]] = ()) -> Seen:
    sizes = {name: [one.size if isinstance(one, Photo) else None for one in found] for name, found in scans.items()}
    return Seen(sizes, duplicates)


def unreadable_lines(data: Data) -> str:
    """All that was left out, one JSON object a line."""
    return "".join(
        json.dumps({"split": name, "name": str(split.split.names[id]), "why": why}) + "\n"
        for name, split in data.splits().items()
        for split in [split.split if isinstance(split, Part) and name == "train" else split]
        if isinstance(split, Remaining)
        for id, why in split.bad.items()
    )


def pixels_digest(image: Image.Image) -> bytes:
    """20 bytes over size and RGB pixels: equal for a renamed copy, and for one saved again without loss."""
    digest = hashlib.sha1(f"{image.width}x{image.height}".encode(), usedforsecurity=False)
    for _, part in strips(image):
        digest.update(part.tobytes())
    return digest.digest()


def look(image: Image.Image) -> bytes:
    """Difference hash of 128 bits: which of two neighbors is brighter, across and down, on a grid of 9 x 9.

    The usual dHash takes 64 comparisons across (N. Krawetz, 2013, "Kind of Like That"); with those down added, copies
    saved as JPEG again or at half size differ in 0 to 7 bits on photos, other photos in 24 or more.
    """
    grid = np.asarray(image.convert("L").resize((9, 9), Image.Resampling.BOX), dtype=np.int16)
    if grid.std() < 4:  # of 255: noise would decide
        return b""
    across, down = grid[:8, 1:] > grid[:8, :-1], grid[1:, :8] > grid[:-1, :8]  # (8, 8) each
    return np.packbits(np.concatenate([across.ravel(), down.ravel()])).tobytes()


def one_color(image: Image.Image) -> bool:
    extrema: Any = image.getextrema()
    return all(high - low <= 2 for low, high in extrema)


def first_reasons(reasons: Sequence[str]) -> str:
    """The first sentences of many, whole, and how many more."""
    more = [f"and {len(reasons) - NAMED:,} more"] if len(reasons) > NAMED else []
    return "; ".join([*reasons[:NAMED], *more])
