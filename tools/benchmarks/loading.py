"""Loading: images per second of one core, from the file to the finished batch.

visiontl's data set, views, collate and loader, as training and evaluation use them, against the pipeline that
torchvision's tutorials show: `ImageFolder` (Pillow decodes), its transforms, `DataLoader` with the default collate.
Both do the same work: the evaluation preprocessing of ImageNet weights, or random crops of the same share of the
photo, flips and colors. All run in this process, pinned to one core, without loader processes.

The photos are hymenoptera's training photos as they are (most have 400 pixels on the long side), and the same ones
stretched to 500 x 375 pixels, ImageNet's usual size, and saved as JPEG again. Where there are none, they are drawn.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.harness import BenchmarkError, Case, Options, Table, measure, ratios, seconds
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import datasets, transforms
from torchvision.transforms import v2

from visiontl import ImageSpec, plugins
from visiontl.engine import loader, order
from visiontl.report.console import Console
from visiontl.spec import IMAGENET_MEAN, IMAGENET_STD

PHOTOS = "classification/hymenoptera/train"
SIZE = (500, 375)  # width and height
BATCH = 32
TARGET = 1.5  # times the plain pipeline's images per second
MOST_LEVELS = 2.0  # of 255: how far a pixel may be from Pillow's, because torch's resizing rounds otherwise
VIEWS = {"evaluation": "none", "crop and flip": "light", "crop, flip and color": "standard"}  # -> task.augment
ABOUT = __doc__ or ""


def tables(options: Options) -> Iterator[tuple[str, Callable[[], Table]]]:
    yield "Loading, photos of 500 x 375 pixels", partial(table, options, SIZE)
    if options.data is not None and not options.quick:
        yield "Loading, photos as they are", partial(table, options, None)


def table(options: Options, size: tuple[int, int] | None) -> Table:
    rounds = 2 if options.quick else 9
    rows: list[list[Any]] = []
    values: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place, one_core():
        count = photos(Path(place), options, size)
        levels, share = difference(Path(place))
        if levels > MOST_LEVELS:
            raise BenchmarkError(f"the evaluation batches differ by {levels:.2f} of 255; {MOST_LEVELS} is allowed")
        for view, augment in VIEWS.items():
            plain = partial(drain, lambda augment=augment: plain_loader(Path(place), old_steps(augment)))
            cases = [
                Case("Pillow and torchvision", plain),
                Case("the same again", plain),
                Case("with transforms.v2", partial(drain, lambda a=augment: plain_loader(Path(place), new_steps(a)))),
                Case("visiontl", partial(drain, lambda augment=augment: our_loader(Path(place), augment))),
            ]
            laps = measure(cases, rounds)
            for name, found in laps.items():
                faster = ratios(laps["Pillow and torchvision"], found)
                rows.append([view, name, f"{count / seconds(found).median:.0f}", faster.text()])
                values[f"{view}, {name}"] = faster.median
    notes = [
        f"{count} photos, {BATCH} in a batch, {rounds} rounds. The last column is the median over the rounds, with "
        f"quartiles, of the first pipeline's time / this one's. Target: {TARGET}.",
        f"The evaluation batches of visiontl and of the first pipeline differ in {share:.2%} of the values, by at most "
        f"{levels:.1f} of 255.",
    ]
    return Table(["view", "pipeline", "images per second and core", "times as fast"], rows, notes, values=values)


@contextmanager
def one_core() -> Iterator[None]:
    """This process on one core and one torch thread, where the system can pin it."""
    threads = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    torch.set_num_threads(1)
    if cores:
        os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if cores:
            os.sched_setaffinity(0, cores)


def photos(place: Path, options: Options, size: tuple[int, int] | None) -> int:
    """Fill `place` with class folders of JPEG photos; their number. size: width and height of a lying photo."""
    found = sorted((options.data / PHOTOS).rglob("*.jpg")) if options.data is not None else []
    if not found:
        return drawn(place, 16 if options.quick else 240)
    found = found[:: 1 if not options.quick else max(1, len(found) // 16)]
    for number, path in enumerate(found):
        target = place / path.parent.name / f"{number:04d}.jpg"
        target.parent.mkdir(exist_ok=True)
        if size is None:
            target.write_bytes(path.read_bytes())
            continue
        with Image.open(path) as image:
            turned = size if image.width >= image.height else (size[1], size[0])
            image.convert("RGB").resize(turned, Image.Resampling.BICUBIC).save(target, quality=90)
    return len(found)


def drawn(place: Path, count: int) -> int:
    """Blurred noise of 500 x 375 pixels."""
    rng = np.random.default_rng(0)
    for number in range(count):
        target = place / f"class{number % 2}" / f"{number:04d}.jpg"
        target.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(target, quality=90)
    return count


def old_steps(augment: str) -> list[Any]:
    """The plain pipeline with torchvision's first transforms, as its ImageNet example has them."""
    ready = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    if augment == "none":
        return [transforms.Resize(256), transforms.CenterCrop(224), *ready]
    area = {"light": (0.7, 1.0), "standard": (0.35, 1.0)}[augment]
    color = [transforms.ColorJitter(0.2, 0.2, 0.2)] if augment == "standard" else []
    return [transforms.RandomResizedCrop(224, area), transforms.RandomHorizontalFlip(), *color, *ready]


def new_steps(augment: str) -> list[Any]:
    ready = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    if augment == "none":
        return [v2.Resize(256), v2.CenterCrop(224), *ready]
    area = {"light": (0.7, 1.0), "standard": (0.35, 1.0)}[augment]
    color = [v2.ColorJitter(0.2, 0.2, 0.2)] if augment == "standard" else []
    return [v2.RandomResizedCrop(224, area), v2.RandomHorizontalFlip(), *color, *ready]


def plain_loader(place: Path, steps: list[Any]) -> Iterator[Any]:
    folder = datasets.ImageFolder(place, transforms.Compose(steps))
    return iter(DataLoader(folder, batch_size=BATCH))


@dataclass(frozen=True)
class Ours:
    """One split as the engine feeds it."""

    batches: loader.Batches
    count: int


def our_split(place: Path, augment: str) -> Ours:
    """All photos as the training split, or as the test split where nothing is augmented."""
    task = plugins.task("classification")
    training = augment != "none"
    source = {"folder": str(place), "val_fraction": 0.0, "split": "auto" if training else "none"}
    cfg = task.config.model_validate({"data": source, "augment": augment})
    meta = None if training else {"labels": "single", "classes": sorted(names(place)), "ids": sorted(names(place))}
    found = task.data(cfg, ImageSpec(), meta)
    split = found.splits()["train" if training else "test"]
    return Ours(loader.Batches(split, task.collate, cfg, found.meta, 0, training), len(split))


def names(place: Path) -> list[str]:
    return [folder.name for folder in place.iterdir()]


def our_loader(place: Path, augment: str) -> Iterator[Any]:
    ours = our_split(place, augment)
    return loader.load(ours.batches, order.evaluation_keys(ours.count, BATCH), 0, False, Console())


def drain(loader: Callable[[], Iterator[Any]]) -> float:
    """Seconds from the first batch asked for to the last one given; listing the folder is not counted."""
    batches = loader()
    began = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - began


def difference(place: Path) -> tuple[float, float]:
    """How far the evaluation batches are apart: (levels of 255 at most, share of values that differ)."""
    most, differing, total = 0.0, 0.0, 0
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for ours, (theirs, labels) in zip(our_loader(place, "none"), plain_loader(place, old_steps("none")), strict=True):
        image: Tensor = ours["image"]  # (B, 3, H, W)
        if not torch.equal(ours["label"], labels) or image.shape != theirs.shape:
            raise BenchmarkError("the two pipelines give other labels or shapes")
        apart = (image - ((theirs * std + mean) * 255).round()).abs()  # whole levels: ToTensor divided them by 255
        most = max(most, float(apart.max()))
        differing += float((apart > 0).sum())
        total += apart.numel()
    return most, differing / total
