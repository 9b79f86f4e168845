"""The features of one split on their way: what is there, what must be computed, by whom, and where it goes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from visiontl.config.resolve import Resolved
from visiontl.engine import loader
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.wanted import Source, Wanted
from visiontl.errors import VisionTLError
from visiontl.features import sealed
from visiontl.features.columns import Unstorable, blank
from visiontl.features.keys import image_key, key_of, reading_key
from visiontl.features.opened import Stamp, seen, watched
from visiontl.features.store import KEY, SHARD, Part, Pictures, Rows, Store, gib
from visiontl.kit.words import count
from visiontl.processes import ranks
from visiontl.processes.seeds import SAMPLE, mix
from visiontl.task import SampleDataset

MEMORY_SHARE = 0.25  # of the memory that is free, for the features of one split
PATIENCE = 30.0  # seconds between two words to the other ranks while another run computes the same
OFTEN = 60.0  # seconds after which what was computed is written, so that a kill costs no more


def first_reason(own: str) -> str:
    """The first reason that any rank has, on every rank; empty where none has one."""
    return next((text for text in ranks.gather_objects(own) if text), "")


class Unfit(Exception):
    """Why features cannot be kept, in words."""


@dataclass
class Filling:
    """One split's features on their way. new: {(part, size): [(keys, rows)]} computed here and in no file yet."""

    source: Source
    wanted: Wanted
    store: Store | None
    new: dict[tuple[str, int], list[tuple[np.ndarray, Tensor]]] = field(default_factory=dict)
    error: float = 0.0  # the largest of half precision
    largest: float = 0.0  # value that was stored
    written: float = field(default_factory=time.monotonic)
    computed: int = 0

    # ------------------------------------------------------------------------------------------------- from end to end

    def fill(self) -> FeatureCache | str:
        pictures, todo = self.known()
        if len(todo):
            reason = first_reason(ranks.agree(lambda: self.too_large(len(todo))))
            if reason:
                return reason
            with self.alone():
                pictures, todo = self.known()  # what another run has computed meanwhile
                reason = first_reason(ranks.agree(lambda: self.compute(pictures, todo)))
                if reason:
                    return reason
                pictures = self.exchange(pictures, todo)
            self.say(len(todo))
        else:
            self.source.console.say(
                f"features of {self.wanted.name}: all {count(self.wanted.rows, 'image')} found in {self.place}",
                keep=True,
            )
        return ranks.agree(lambda: self.assemble(pictures))

    @property
    def place(self) -> str:
        return "memory" if self.store is None else str(self.store.folder)

    def about(self, part: str, size: int) -> Mapping[str, Any]:
        """What a set of features in the store belongs to."""
        return {**self.source.key, "part": part, "images in a pass": size}

    @cached_property
    def reading(self) -> str | None:
        """The name of the split's pictures in the store."""
        if self.store is None:
            return None
        resolved, wanted = self.source.resolved, self.wanted
        seed = resolved.config.train.seed if wanted.drawn else None
        found = reading_key(wanted.split, resolved.task.data, seed)
        return None if found is None else key_of([found, wanted.views])

    @cached_property
    def sizes(self) -> np.ndarray:
        """(rows,) images in the pass that computes each."""
        return np.array([self.wanted.size(row) for row in range(self.wanted.rows)], dtype=np.int64)

    # ------------------------------------------------------------------------------------------------- what is there

    def known(self) -> tuple[Pictures, np.ndarray]:
        """The split's pictures as the store knows them, and the rows that some rank must read: photos that are new or
        have changed, and those of which a part is not there."""
        rows = self.wanted.rows
        empty = Pictures(np.zeros((rows, KEY), np.uint8), [{}] * rows, [None] * rows)

        def look() -> tuple[Pictures, np.ndarray]:
            found = self.store.pictures(self.reading) if self.store is not None and self.reading else None
            if found is None or len(found.keys) != rows:
                return empty, np.ones(rows, dtype=bool)
            missing = ~found.unchanged()
            for keys, where in self.parts(found.keys):
                missing[where] |= ~keys
            return found, missing

        pictures, missing = ranks.agree(look)
        return pictures, np.logical_or.reduce(ranks.gather_objects(missing)).nonzero()[0]

    def parts(self, keys: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        """(which of these rows the store has, the rows) of each part and size of pass."""
        assert self.store is not None
        for size in np.unique(self.sizes):
            where = (self.sizes == size).nonzero()[0]
            for part in self.wanted.ask.parts:
                yield self.look(part, int(size), keys[where]).there, where

    def too_large(self, missing: int) -> str:
        """Why the features of so many images may not be kept, by what one takes; or an empty string."""
        wanted, console = self.wanted, self.source.console
        seed = self.source.resolved.config.train.seed
        image = wanted.split[0, mix(seed, SAMPLE, 0, 0)]["image"]
        parts = self.source.forward(image[None], wanted.ask)
        each = sum(part.numel() * self.stored(part).element_size() for part in parts)
        needed = each * missing
        views = f" x {wanted.views} views" if wanted.views > 1 else ""
        console.say(
            f"features of {wanted.name}: {count(len(wanted.split), 'image')}{views} take {gib(each)} each, "
            f"{gib(each * wanted.rows)} in all, in {self.place}; {missing} to be read",
            keep=True,
        )
        if self.store is not None:
            return self.store.make_room(needed + KEY * missing)
        free = allowed_memory()
        return f"features need {gib(needed)} and {gib(free)} of memory may be used" if needed > free else ""

    def stored(self, part: Tensor) -> Tensor:
        """As it is kept: half precision takes half the room of what is not there already."""
        half = self.source.resolved.config.features.precision == "half"
        return part.half() if half and part.dtype == torch.float32 else part

    # ------------------------------------------------------------------------------------------------- what is computed

    def compute(self, pictures: Pictures, todo: np.ndarray) -> str:
        """This rank's share: photos are read, and those of which no features are there go through the backbone.
        pictures is brought up to date. Returns why not, or an empty string."""
        console, workers = self.source.console, self.source.resolved.config.loader.workers
        have = {int(size): self.have(int(size)) for size in np.unique(self.sizes)}
        pending: dict[int, list[tuple[bytes, Tensor]]] = {size: [] for size in have}
        source = reading_batches(self.source.resolved, self.wanted.split)
        keys = self.share(todo)
        samples = pictures.samples = list(pictures.samples or [])
        done = 0
        try:
            with console.progress(total=len(todo), unit="image", what=f"features of {self.wanted.name}") as bar:
                for batch in loader.load(source, keys, workers, False, console):
                    for id, read in zip(batch["ids"], batch["read"], strict=True):
                        row = batch["view"] * len(self.wanted.split) + id
                        sample, key, files = read
                        image = sample["image"]
                        pictures.keys[row] = np.frombuffer(key, np.uint8)
                        samples[row], pictures.files[row] = {**sample, "image": blank(image.shape, image.dtype)}, files
                        size = int(self.sizes[row])
                        if key not in have[size]:
                            have[size].add(key)
                            pending[size].append((key, image))
                        if len(pending[size]) == size:
                            self.run(pending[size], size)
                    done += len(batch["ids"]) * ranks.world()
                    bar.update(min(done, len(todo)))
                for size, left in pending.items():
                    self.run(left, size)
            self.write()
        except Unfit as error:
            return str(error)
        return ""

    def look(self, part: str, size: int, keys: np.ndarray) -> Part:
        """What the store has of a part for the images of these keys."""
        assert self.store is not None
        return self.store.look(self.about(part, size), keys, self.source.width(part))

    def have(self, size: int) -> set[bytes]:
        """Keys of the images of which all parts are there."""
        if self.store is None:
            return set()
        each = [self.store.keys(self.about(part, size), self.source.width(part)) for part in self.wanted.ask.parts]
        return set.intersection(*each) if each else set()

    def share(self, todo: np.ndarray) -> list[tuple[tuple[int, ...], int, int]]:
        """The loader's keys of this rank: whole passes where nothing is there yet."""
        images, found = len(self.wanted.split), list[tuple[tuple[int, ...], int, int]]()
        for view in np.unique(todo // images):
            ids = (todo[todo // images == view] % images).tolist()
            size = self.wanted.batch_size
            found += [(tuple(ids[at : at + size]), int(view), 0) for at in range(0, len(ids), size)]
        return found[ranks.rank() :: ranks.world()]

    def run(self, pending: list[tuple[bytes, Tensor]], size: int) -> None:
        """One pass of `size` images; the last image fills it up where there are fewer."""
        if not pending:
            return
        images = [image for _, image in pending]
        if len({(image.shape, image.dtype) for image in images}) > 1:
            raise Unfit("the images are of several sizes")
        parts = self.source.forward(torch.stack(images + images[-1:] * (size - len(images))), self.wanted.ask)
        keys = np.stack([np.frombuffer(key, np.uint8) for key, _ in pending])
        for name, part in zip(self.wanted.ask.parts, parts, strict=True):
            part = part[: len(pending)]
            kept = self.stored(part)
            if kept is not part:
                if not kept.isfinite().all() and part.isfinite().all():
                    raise Unfit(f"half precision ends at 65504 and a feature is {part.abs().max():.4g}")
                self.error = max(self.error, float((kept.float() - part).abs().max()))
                self.largest = max(self.largest, float(part.abs().max()))
            self.new.setdefault((name, size), []).append((keys, kept.clone()))
        self.computed += len(pending)
        pending.clear()
        waiting = sum(rows.nbytes for each in self.new.values() for _, rows in each)
        if self.store is not None and (waiting > SHARD or time.monotonic() - self.written > OFTEN):
            self.write()

    def write(self) -> None:
        """What was computed so far goes to the disk."""
        if self.store is None:
            return
        try:
            for (part, size), found in self.new.items():
                keys, rows = np.concatenate([keys for keys, _ in found]), torch.cat([rows for _, rows in found])
                self.store.add(self.about(part, size), keys, rows)
        except OSError as error:
            raise Unfit(f"{self.store.folder} cannot be written to ({error})") from None
        self.new.clear()
        self.written = time.monotonic()

    # ------------------------------------------------------------------------------------------------- ranks and runs

    @contextmanager
    def alone(self) -> Generator[None]:
        """While another run computes the same, this one waits. A run that dies holds nothing back."""
        if self.store is None:
            yield
            return
        path = self.store.folder / "locks" / key_of([self.source.key, self.reading, self.wanted.ask.parts])
        lock = sealed.Lock(path)

        def held() -> bool:
            until = time.monotonic() + PATIENCE
            while not lock.take():
                if time.monotonic() > until:
                    return False
                time.sleep(0.2)
            return True

        try:
            if not ranks.on_main(lock.take):
                self.source.console.say("another run computes the same features: this one waits for it", keep=True)
                while not ranks.on_main(held):  # so many words that no rank is thought dead
                    pass
            yield
        finally:
            lock.leave()

    def exchange(self, pictures: Pictures, todo: np.ndarray) -> Pictures:
        """What each rank has read goes to the others, and to the store."""
        samples = list(pictures.samples or [])
        mine = [(row, pictures.keys[row], samples[row], pictures.files[row]) for row in self.rows_of_share(todo)]
        for row, key, sample, files in (one for each in ranks.gather_objects(mine) for one in each):
            pictures.keys[row], samples[row], pictures.files[row] = key, sample, files
        pictures.samples = samples
        self.spread(pictures)
        if self.store is not None:
            ranks.agree(lambda: self.keep(pictures) if local_rank() == 0 else None)
        return pictures

    def rows_of_share(self, todo: np.ndarray) -> list[int]:
        images = len(self.wanted.split)
        return [view * images + id for ids, view, _ in self.share(todo) for id in ids]

    def spread(self, pictures: Pictures) -> None:
        """Features that another machine's disk, or another rank's memory, holds."""
        if self.store is None:
            gathered = ranks.gather_objects(self.new)
            self.new = {
                key: [one for each in gathered for one in each.get(key, [])] for each in gathered for key in each
            }
            return
        complete = ranks.agree(lambda: all(found.all() for found, _ in self.parts(pictures.keys)))
        if all(ranks.gather_objects(complete)):
            return
        own = {}
        for size in np.unique(self.sizes):
            where = (self.sizes == size).nonzero()[0]
            for part in self.wanted.ask.parts:
                found = self.look(part, int(size), pictures.keys[where])
                there = found.there.nonzero()[0]
                if len(there):
                    own[part, int(size)] = pictures.keys[where][there], found.rows()[torch.from_numpy(there)]
        for other in ranks.gather_objects(own):
            for (part, size), (keys, rows) in other.items():
                lacks = ~self.look(part, size, keys).there
                if lacks.any():
                    self.store.add(self.about(part, size), keys[lacks], rows[torch.from_numpy(lacks)])

    def keep(self, pictures: Pictures) -> None:
        assert self.store is not None
        name, console = self.wanted.name, self.source.console
        if self.reading is None:
            console.say(
                f"the photos of {name} are read again by each run: the split cannot be told from another", keep=True
            )
            return
        if any(files is None for files in pictures.files):
            console.say(f"the photos of {name} are read again by each run: their files cannot be told", keep=True)
            return
        try:
            self.store.keep_pictures(self.reading, pictures)
        except Unstorable as error:
            console.say(f"the photos of {name} are read again by each run: of a sample, {error}", keep=True)
        except OSError as error:
            console.warn(f"{self.store.folder} cannot be written to ({error}); the next run reads the photos again")

    def say(self, read: int) -> None:
        counts = ranks.gather_objects(self.computed)
        error = max(ranks.gather_objects(self.error))
        text = f"features of {self.wanted.name}: {count(read, 'image')} read, {sum(counts)} computed"
        if self.source.resolved.config.features.precision == "half":
            largest = max(ranks.gather_objects(self.largest))
            text += f"; half precision moved them by {error:.2g} at most, of values up to {largest:.3g}"
        self.source.console.say(text, keep=True)

    # ------------------------------------------------------------------------------------------------- what it makes

    def assemble(self, pictures: Pictures) -> FeatureCache:
        wanted, found = self.wanted, list[Any]()
        for part in wanted.ask.parts:
            rows = self.rows_of(part, pictures.keys)
            fits = self.store is None or rows.row_bytes * len(rows) * len(wanted.ask.parts) <= allowed_memory()
            found.append(rows[torch.arange(len(rows))] if fits else rows)
        named = dict(zip(wanted.ask.parts, found, strict=True))
        half = self.source.resolved.config.features.precision == "half" and self.source.placement.precision != "fp16"
        assert pictures.samples is not None
        return FeatureCache(
            len(wanted.split),
            wanted.views,
            list(pictures.samples),
            [named[f"map {i}"] for i in wanted.ask.maps],
            named.get("pooled"),
            {name: named[f"layer {name}"] for name in wanted.ask.layers},
            half,
        )

    def rows_of(self, part: str, keys: np.ndarray) -> Rows:
        """A part's rows, in the order of the split's."""
        tensors, file_of, row_of = [], np.full(len(keys), -1, np.int64), np.zeros(len(keys), np.int64)
        for size in np.unique(self.sizes).tolist():
            where = (self.sizes == size).nonzero()[0]
            if self.store is not None:
                found = self.look(part, size, keys[where])
            else:
                found = Store.among(self.new[part, size], keys[where])
            assert found.there.all()
            file_of[where], row_of[where] = found.file_of + len(tensors), found.row_of
            tensors += found.tensors
        return Rows(tensors, torch.from_numpy(file_of), torch.from_numpy(row_of))


def allowed_memory() -> float:
    """Bytes that one split's features may take of this machine's memory, which its processes share."""
    return psutil.virtual_memory().available * MEMORY_SHARE / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


Read = tuple[dict[str, Any], bytes, "dict[str, Stamp | None] | None"]


class Reading(loader.Batches):
    """Answers a key with each sample, its image, the image's key and the files that it came from."""

    def __getitem__(self, key: loader.Key) -> Any:
        ids, view, _ = key
        try:
            return {"ids": ids, "view": view, "read": [self.read(id, view) for id in ids]}
        except VisionTLError as error:
            return loader.Failure(error)

    def read(self, id: int, view: int) -> Read:
        with watched() as files:
            (sample,) = self.samples([id], view)
        return sample, image_key(sample["image"]), files if seen(files, self.split.names[id]) else None


def reading_batches(resolved: Resolved, split: SampleDataset) -> Reading:
    return Reading(split, resolved.task.collate, resolved.cfg, {}, resolved.config.train.seed, training=False)
