"""Features of a frozen backbone with the labels that a task says: per image, per box or per sampled pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl.backbone import Backbone
from visiontl.config.resolve import Resolved
from visiontl.engine import loader
from visiontl.engine.device import Placement
from visiontl.engine.feature_cache import FeatureCache
from visiontl.engine.folds import groups_of
from visiontl.engine.parts import Part
from visiontl.engine.wanted import Ask
from visiontl.errors import ConfigError, DataError, PluginError
from visiontl.kit.splits import folds
from visiontl.kit.words import count
from visiontl.processes.seeds import generator
from visiontl.report.console import Console
from visiontl.search.probing import Table
from visiontl.task import Data, SampleDataset

FOLDS = 5
PIXELS = 64  # of an image, for labels per pixel; half of them drawn so that each class comes alike
BACKGROUND = 0.1  # most of a box that others may cover, to be called background
ROWS = 20_000  # features at the most; more are thinned evenly
LEVELS = 2  # deepest maps that are read for boxes and pixels
STEP = 32  # pixels that images of different sizes are padded to a multiple of


@dataclass
class Gathered:
    """x: (n, D) each batch; y: (n,) or (n, K); owner: (n,) number of the image."""

    x: list[Tensor] = field(default_factory=list[Tensor])
    y: list[Tensor] = field(default_factory=list[Tensor])
    owner: list[Tensor] = field(default_factory=list[Tensor])
    kind: str = ""


def refuse(resolved: Resolved) -> None:
    """Raises ConfigError for a task that does not say what its features should tell."""
    if resolved.task.probe is None:
        raise ConfigError(
            f"task {resolved.task.name!r} does not say which labels its images have (it has no `probe`), so backbones "
            "cannot be ranked for it by their features; `visiontl sweep CONFIG backbone.name=a,b,c` trains with each"
        )


def still_train(found: Data) -> SampleDataset:
    """Train without augmentation."""
    split = found.still or found.train
    if split is None:
        raise DataError("the data has no train split, so there is nothing to rank backbones by")
    return split


def some_of(split: SampleDataset, most: int) -> Part:
    """At most so many of its images, which ones by the hash of their names; the same for every backbone."""
    names = list(split.names)
    order = folds(names, len(set(names)))
    chosen = sorted(sorted(range(len(names)), key=lambda id: order[id])[:most])
    return Part(split, chosen)


def batches_of(
    resolved: Resolved, split: SampleDataset, console: Console, size: int
) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """(ids, samples) of the split in order, read by the run's loader processes."""
    keys = [(tuple(range(i, min(i + size, len(split)))), 0, 0) for i in range(0, len(split), size)]
    source = loader.Batches(split, _keep, None, {}, resolved.config.train.seed, training=False)
    workers = resolved.config.loader.workers
    for (ids, _, _), batch in zip(keys, loader.load(source, keys, workers, False, console), strict=True):
        yield list(ids), batch["samples"]


def _keep(cfg: Any, samples: list[dict], generator: Any, meta: Any) -> dict[str, Any]:
    return {"samples": samples}


class Reader:
    """Reads what a probe is asked of: a backbone in eval mode on its device, with the precision that training has."""

    def __init__(self, resolved: Resolved, backbone: Backbone, meta: Mapping[str, Any], placement: Placement):
        self.resolved, self.backbone, self.meta = resolved, backbone.eval(), meta
        self.placement = placement
        count = len(backbone.channels)
        self.levels = tuple(range(max(0, count - LEVELS), count))
        self.device = next(backbone.parameters()).device

    def labels(self, sample: dict[str, Any]) -> dict[str, Any]:
        """What the task says of a sample, looked at. Raises PluginError for what is no answer."""
        assert self.resolved.task.probe is not None
        found = self.resolved.task.probe(self.resolved.cfg, sample, self.meta)
        if not isinstance(found, Mapping) or "labels" not in found:
            raise PluginError(
                f"task {self.resolved.task.name}: its `probe` gave {type(found).__name__}; expected {{'labels': ...}}"
            )
        values = torch.as_tensor(np.asarray(found["labels"])).long()
        boxes = found.get("boxes")
        return {"labels": values, "boxes": None if boxes is None else torch.as_tensor(np.asarray(boxes)).float()}

    def kind(self, asked: Mapping[str, Any]) -> str:
        if asked["boxes"] is not None:
            return "box"
        return {0: "image", 1: "image", 2: "pixel"}[asked["labels"].ndim]

    def read(self, ids: Sequence[int], samples: Sequence[dict[str, Any]], into: Gathered) -> None:
        """Add a batch's features and labels."""
        asked = [self.labels(sample) for sample in samples]
        into.kind = kind = into.kind or self.kind(asked[0])
        if kind == "image":
            kept = [i for i, one in enumerate(asked) if bool((one["labels"] >= 0).all())]
            if kept:
                pooled = self.forward([samples[i]["image"] for i in kept], pooled=True).pooled
                assert pooled is not None
                into.x.append(pooled.float().cpu())
                into.y.append(torch.stack([asked[i]["labels"] for i in kept]))
                into.owner.append(torch.tensor([ids[i] for i in kept]))
            return
        images = [sample["image"] for sample in samples]
        maps = self.forward(images, maps=self.levels).maps
        canvas = canvas_of(images)
        for i, (id, one) in enumerate(zip(ids, asked, strict=True)):
            size = images[i].shape[-2], images[i].shape[-1]
            add_places([level[i : i + 1].float().cpu() for level in maps], one, size, canvas, id, into)

    def ask(self, kind: str) -> Ask:
        """What is read of the backbone for labels of that kind."""
        return Ask(pooled=True) if kind == "image" else Ask(maps=self.levels)

    def take(self, found: FeatureCache, kind: str, into: Gathered) -> None:
        """Add features of all images that are there already, with the labels of their samples."""
        asked = [self.labels(sample) for sample in found.samples]
        into.kind, cpu = kind, torch.device("cpu")
        if kind == "image":
            kept = torch.tensor([i for i, one in enumerate(asked) if bool((one["labels"] >= 0).all())])
            if len(kept):
                pooled = found.at(kept, 0, cpu).pooled
                assert pooled is not None
                into.x.append(pooled.float())
                into.y.append(torch.stack([asked[i]["labels"] for i in kept.tolist()]))
                into.owner.append(kept)
            return
        for id, (one, sample) in enumerate(zip(asked, found.samples, strict=True)):
            size = sample["image"].shape[-2], sample["image"].shape[-1]  # of the blank in its place
            maps = [level.float() for level in found.at(torch.tensor([id]), 0, cpu).maps]
            add_places(maps, one, size, size, id, into)

    def forward(self, images: Sequence[Tensor], **ask: Any) -> Any:
        canvas = canvas_of(images)
        batch = torch.stack([_padded(image, canvas) for image in images]).to(self.device)
        with torch.no_grad(), self.placement.accelerator.autocast():
            return self.backbone(batch, **ask)


def canvas_of(images: Sequence[Tensor]) -> tuple[int, int]:
    """(H, W) that holds all images of a batch: their own where they are of one size."""
    sizes = {tuple(image.shape[-2:]) for image in images}
    if len(sizes) == 1:
        return next(iter(sizes))  # type: ignore[return-value]
    height, width = (-(-max(size[i] for size in sizes) // STEP) * STEP for i in (0, 1))
    return height, width


def _padded(image: Tensor, canvas: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == canvas:
        return image
    return torch.nn.functional.pad(image, (0, canvas[1] - image.shape[-1], 0, canvas[0] - image.shape[-2]))


def add_places(
    maps: Sequence[Tensor],
    asked: Mapping[str, Any],
    size: tuple[int, int],
    canvas: tuple[int, int],
    id: int,
    into: Gathered,
) -> None:
    """Add the boxes or the pixels of one image. maps: (1, C, h, w) each."""
    x, y = (box_rows if into.kind == "box" else pixel_rows)(maps, asked, size, canvas, id)
    into.x.append(x)
    into.y.append(y)
    into.owner.append(torch.full((len(y),), id))


def box_rows(
    maps: Sequence[Tensor], asked: Mapping[str, Any], size: tuple[int, int], canvas: tuple[int, int], id: int
) -> tuple[Tensor, Tensor]:
    """Mean features of each box, and of as many places without objects, whose class is number 0."""
    from torchvision.ops import roi_align

    boxes, labels = asked["boxes"].reshape(-1, 4), asked["labels"].reshape(-1)
    boxes, labels = boxes[labels >= 0], labels[labels >= 0]
    empty = background(boxes, size, id)
    every = torch.cat([boxes, empty])
    y = torch.cat([labels + 1, torch.zeros(len(empty), dtype=torch.long)])
    if not len(every):
        return torch.empty(0, sum(one.shape[1] for one in maps)), y
    parts = [roi_align(one, [every], 2, one.shape[-1] / canvas[1], 2, True).mean((2, 3)) for one in maps]
    return torch.cat(parts, 1), y


def background(boxes: Tensor, size: tuple[int, int], id: int) -> Tensor:
    """Boxes (M, 4), as many and as large as those given where there is room, that objects hardly cover. One of an image
    without objects. A function of the image's number."""
    from torchvision.ops import box_area

    height, width = size
    sides = boxes[:, 2:] - boxes[:, :2] if len(boxes) else torch.tensor([[width / 3, height / 3]])
    sides = torch.minimum(sides, torch.tensor([width, height]) - 1.0).clamp(min=1)
    found: list[Tensor] = []
    draw = generator(id, 17)
    for side in sides:
        corner = torch.rand(20, 2, generator=draw) * (torch.tensor([width, height]) - side)
        tried = torch.cat([corner, corner + side], 1)  # (20, 4)
        if len(boxes):
            low = torch.maximum(tried[:, None, :2], boxes[None, :, :2])
            high = torch.minimum(tried[:, None, 2:], boxes[None, :, 2:])
            covered = (high - low).clamp(min=0).prod(2).sum(1) / box_area(tried)
            tried = tried[covered <= BACKGROUND]
        found += list(tried[:1])
    return torch.stack(found) if found else torch.empty(0, 4)


def pixel_rows(
    maps: Sequence[Tensor], asked: Mapping[str, Any], size: tuple[int, int], canvas: tuple[int, int], id: int
) -> tuple[Tensor, Tensor]:
    """Features at some pixels that have a label: half of them anywhere, half with each class alike."""
    labels = asked["labels"]  # (H, W)
    known = (labels >= 0).nonzero()  # (M, 2)
    width = sum(one.shape[1] for one in maps)
    if not len(known):
        return torch.empty(0, width), torch.empty(0, dtype=torch.long)
    draw = generator(id, 19)
    values = labels[known[:, 0], known[:, 1]]
    frequency = torch.bincount(values)[values].double()
    anywhere = torch.randint(len(known), (PIXELS // 2,), generator=draw)
    alike = torch.multinomial(1 / frequency, PIXELS // 2, replacement=True, generator=draw)
    chosen = known[torch.cat([anywhere, alike])]
    scale = torch.tensor([canvas[1] / 2, canvas[0] / 2])
    grid = ((chosen.flip(1) + 0.5) / scale - 1).view(1, 1, -1, 2)
    parts = [torch.nn.functional.grid_sample(one, grid, align_corners=False)[0, :, 0].T for one in maps]
    return torch.cat(parts, 1), labels[chosen[:, 0], chosen[:, 1]]


def table_of(gathered: Gathered, split: SampleDataset, precision: str, unread: int = 0) -> Table:
    """The features as a table with folds by image. unread: images of train that are not in the split. Raises DataError
    where there are too few labels."""
    if not gathered.y or sum(map(len, gathered.y)) < 2 * FOLDS:
        labels = count(sum(map(len, gathered.y)), "label")
        more = f"raise --images: {unread:,} more are there" if unread else "these are all of train"
        raise DataError(
            f"{count(len(split), 'image')} with {labels} are too few to rank backbones by, {2 * FOLDS} labels or more "
            f"were expected; {more}"
        )
    x, y, owner = (torch.cat(parts) for parts in (gathered.x, gathered.y, gathered.owner))
    step = -(-len(x) // ROWS)
    x, y, owner = x[::step], y[::step], owner[::step]
    if y.ndim == 1:
        y = torch.unique(y, return_inverse=True)[1]
        if int(y.max()) < 1:
            raise DataError("all labels of the images that were read are the same; a ranking needs two classes")
    names = fold_names(split, y, owner)
    if gathered.kind == "image" and y.ndim == 1 and names is split.names and len(set(names)) == len(names):
        place = by_class(names, y, owner)
    else:
        place = torch.tensor(folds(names, FOLDS))
    return Table(x, y, owner, place[owner], gathered.kind != "image", precision)


def by_class(names: Sequence[str], y: Tensor, owner: Tensor) -> Tensor:
    """(N,) part of each image, every class dealt out evenly: else a fold that leaves out many of a class makes that
    one rare in the others, and features that know nothing score below chance."""
    order = folds(names, len(names))  # a number for each name that only hangs on the names
    labels = dict(zip(owner.tolist(), y.tolist(), strict=True))
    dealt = sorted(range(len(names)), key=lambda id: (labels.get(id, -1), order[id]))
    place = torch.empty(len(names), dtype=torch.long)
    place[torch.tensor(dealt)] = torch.arange(len(names)) % FOLDS
    return place


def fold_names(split: SampleDataset, y: Tensor, owner: Tensor) -> Sequence[str]:
    """What is dealt out over the folds: images, or the groups that belong together, unless these are the very classes
    that are to be told apart."""
    groups = groups_of(split)
    if groups is None or len(set(groups)) < FOLDS:
        return split.names
    if y.ndim == 1 and len(set(zip((groups[id] for id in owner.tolist()), y.tolist(), strict=True))) == len(
        {groups[id] for id in owner.tolist()}
    ) == int(y.max()) + 1:  # fmt: skip
        return split.names
    return groups
