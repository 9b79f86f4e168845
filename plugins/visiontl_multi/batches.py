"""What a batch holds: the pixels of one pass, and each part's own batch beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visiontl_multi.config import MultiConfig

OwnBatches = Callable[[str, int, int, int], list[list[int]]]


def collate(
    cfg: MultiConfig,
    samples: Sequence[Mapping[str, Any]],
    generator: torch.Generator | None,
    meta: Mapping[str, Any],
) -> dict[str, Any]:
    """Samples -> {"image": (B, 3, H, W) or a list, the first part's view of each photo, "more": (M, 3, H, W) other
    views of the same form, where there may be any, "parts": {part: {"owners": (n,) places of its photos in the batch,
    "rows": (n,) places of its views in `image` and `more` together, or None where it has pixels of another form,
    "batch": as its own `collate` made it, without "image" where there are rows}}, "labeled", where labels are missing,
    "size"}. A part without a photo in the batch is not in it."""
    base = [one["image"] for one in samples]
    image = torch.stack(base) if len({(one.shape, one.dtype) for one in base}) == 1 else base
    batch: dict[str, Any] = {"image": image}
    if all("size" in one for one in samples):
        batch["size"] = torch.tensor([one["size"] for one in samples])
    parts, more = {}, list[Tensor]()
    known = len(base)
    for name, part in cfg.tasks.items():
        owners = [place for place, one in enumerate(samples) if name in one["parts"]]
        if not owners:
            continue
        own = [{"image": samples[place]["image"], **samples[place]["parts"][name]} for place in owners]
        made = dict(part.task.collate(part.section, own, generator, meta["parts"][name]["meta"]))
        rows = None
        if isinstance(image, Tensor) and fits(made.get("image"), image):
            shown = made.pop("image")
            same = (shown == image[owners]).flatten(1).all(1)  # (n,)
            rows = torch.where(same, torch.tensor(owners), known + (~same).cumsum(0) - 1)
            known += int((~same).sum())
            more += [shown[~same]] if not bool(same.all()) else []
        parts[name] = {"owners": torch.tensor(owners), "rows": rows, "batch": made}
    if isinstance(image, Tensor) and (more or not meta["shared"]):
        batch["more"] = torch.cat(more) if more else image[:0]
    stated = labeled(cfg, parts, meta)
    return {**batch, "parts": parts, **({"labeled": stated} if stated else {})}


def fits(own: Any, image: Tensor) -> bool:
    """Whether a part's pixels can be rows of the same pass."""
    return isinstance(own, Tensor) and own.ndim == 4 and own.shape[1:] == image.shape[1:] and own.dtype == image.dtype


def labeled(cfg: MultiConfig, parts: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, float]:
    """{part: how many photos of the batch it labels}, or, of a part whose own batches state such, {part/term: theirs};
    nothing where every photo has all labels."""
    terms = meta["terms"]
    if not meta["partial"] and not any(terms.values()):
        return {}
    found: dict[str, float] = {}
    for name in cfg.tasks:
        made = parts.get(name)
        own = made["batch"].get("labeled", {}) if made else {}
        if terms[name]:
            found |= {f"{name}/{term}": float(own.get(term, 0)) for term in terms[name]}
        else:
            found[name] = float(len(made["owners"])) if made else 0.0
    return found


def joint(batch: Mapping[str, Any]) -> Any:
    """The pixels of the one pass: (R, 3, H, W), or the batch's list."""
    return torch.cat([batch["image"], batch["more"]]) if "more" in batch else batch["image"]


def part_batch(batch: Mapping[str, Any], name: str, pixels: Any = None) -> dict[str, Any]:
    """A part's batch as its own task knows it. pixels: of the one pass, where they are at hand."""
    held = batch["parts"][name]
    made = dict(held["batch"])
    if held["rows"] is not None:
        pixels = joint(batch) if pixels is None else pixels
        made["image"] = pixels if all_of(held["rows"], len(pixels)) else pixels[held["rows"]]
    for key in ("step", "progress"):
        if key in batch:
            made[key] = batch[key]
    if "id" in batch:
        made["id"] = batch["id"][held["owners"]]
    return made


def all_of(rows: Tensor, count: int) -> bool:
    """Whether these are all rows in their order."""
    return len(rows) == count and torch.equal(rows, torch.arange(count, device=rows.device))


@dataclass(frozen=True)
class Mixed:
    """Batches with images of every part in stated shares: what `Data.batches` is where sets are mixed.

    ids: {part: its images}. mix: {part: share}. own: {part: its own batches}, where it has such.
    """

    ids: Mapping[str, Sequence[int]]
    mix: Mapping[str, float]
    own: Mapping[str, OwnBatches]

    def __call__(self, split: str, seed: int, epoch: int, batch_size: int) -> list[list[int]]:
        """The set that lasts longest is gone through once in an epoch, the others again and again, each time in
        another order."""
        sizes = portions(self.mix, batch_size)
        rounds = max(max(1, len(self.ids[name]) // size) for name, size in sizes.items() if size)
        drawn = (split, seed, epoch)
        columns = [
            turns(self.ids[name], size, rounds, self.own.get(name), drawn, place)
            for place, (name, size) in enumerate(sizes.items())
        ]
        return [[id for column in columns for id in column[number]] for number in range(rounds)]


def portions(mix: Mapping[str, float], batch_size: int) -> dict[str, int]:
    """{part: images in each batch}: by the largest remainder, and one at least where the batch has room for all."""
    total = sum(mix.values())
    exact = {name: batch_size * share / total for name, share in mix.items()}
    least = 1 if batch_size >= len(mix) else 0
    sizes = {name: max(least, int(number)) for name, number in exact.items()}
    while sum(sizes.values()) != batch_size:
        gap = {name: exact[name] - sizes[name] for name in sizes}
        if sum(sizes.values()) < batch_size:
            sizes[max(gap, key=gap.__getitem__)] += 1
        else:
            able = [name for name in sizes if sizes[name] > least]
            sizes[min(able, key=gap.__getitem__)] -= 1
    return sizes


def turns(
    ids: Sequence[int], size: int, rounds: int, own: OwnBatches | None, drawn: tuple[str, int, int], place: int
) -> list[list[int]]:
    """`rounds` lists of `size` of these images, none again before all were there."""
    split, seed, epoch = drawn
    if own is not None and size:
        found: list[list[int]] = []
        turn = 0
        while len(found) < rounds:
            made = own(split, seed + turn, epoch, size)
            if not made:
                break
            found += made
            turn += 1
        if found:
            return [[ids[id] for id in found[number % len(found)]] for number in range(rounds)]
    rng = np.random.default_rng([seed % 2**63, epoch, place])
    order: list[int] = []
    while len(order) < rounds * size:
        order += rng.permutation(np.asarray(ids)).tolist()
    return [order[number * size : (number + 1) * size] for number in range(rounds)]
