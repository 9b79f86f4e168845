"""The parts' data sets, made one: photos that they share with the labels of all, or sets of their own, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from visiontl import ConfigError, Data, DataError, ImageSpec, seeded
from visiontl.kit.words import count
from visiontl_multi.batches import Mixed
from visiontl_multi.config import MultiConfig
from visiontl_multi.matching import Entry, matched
from visiontl_multi.views import shown_alike, with_color

LOOKED_AT, SEEDS = 4, 8  # photos of train, and looks at each, that say whether the parts are shown the same pixels
COLOR = 7919  # added to a sample's seed: what its parts draw for themselves shall say nothing of the color


@dataclass(frozen=True)
class Photos:
    """One split. entries: {part: (its split, the id there)} of each photo. own: {part: its splits}. views, color: as
    the config has them. base: what makes the first part's picture of a photo that it has no label of, for judging."""

    names: Sequence[str]
    entries: Sequence[Entry] = field(repr=False)
    own: Mapping[str, Mapping[str, Any]] = field(repr=False)
    found: Mapping[str, Data] = field(repr=False)
    views: Mapping[str, str] = field(default_factory=dict)
    color: float = 0.0
    base: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.entries)

    def image(self, id: int) -> Image.Image:
        """The photo itself, as the first part that has it opens it."""
        part, (split, number) = next(iter(self.entries[id].items()))
        return self.own[part][split].image(number)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """{"image": the first part's, "parts": {part: its sample; without "image" where that is the same}, "size"}"""
        id, seed = key
        parts = {part: dict(self.own[part][split][number, seed]) for part, (split, number) in self.entries[id].items()}
        for part, other in self.views.items():
            if part in parts and other in parts:
                parts[part]["image"] = parts[other]["image"]
        if self.color:
            with seeded(seed + COLOR):
                parts = with_color(parts, self.color)
        base = None if self.base is None or next(iter(self.own)) in parts else self.base(self.image(id))
        return shown_alike(parts, base)

    def __getstate__(self) -> dict[str, Any]:
        """For loader processes, which need no annotations of other splits."""
        return {**self.__dict__, "found": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def data(cfg: MultiConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """meta: {"parts": {part: {"task": its name, "meta": its own}}, "partial": whether labels are missing, "terms":
    {part: what its own batches state as `labeled`, or null}, "shared": whether all are shown the same pixels}.
    Raises DataError for what the parts refuse, and for photos that one part would learn and another judge."""
    found: dict[str, Data] = {}
    notes: list[str] = []
    for name, part in cfg.tasks.items():
        try:
            made = part.task.data(part.section, spec, None if meta is None else meta["parts"][name]["meta"])
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        if not isinstance(made, Data):
            raise DataError(f"{name}: task {part.name} gave no visiontl.Data")
        found[name] = made
        notes += [f"{name}: {line}" for line in made.notes]
    notes += preferences(cfg)
    names = {name: {split: one.names for split, one in made.splits().items()} for name, made in found.items()}
    if cfg.mix is None:
        lead = [cfg.splits, *(name for name in found if name != cfg.splits)] if cfg.splits else []
        splits, said = matched(names, [name for name in lead if name], meta is None)
        notes += said + own_batches(found)
    else:
        splits = {
            split: [{name: (split, id)} for name, own in names.items() for id in range(len(own.get(split, ())))]
            for split in ("train", "val", "test")
        }
    kept = {split: entries for split, entries in splits.items() if entries}
    if meta is None and "train" not in kept:
        raise DataError("no photo of any part is in train; a model needs images to learn from")
    partly = any(len(entry) < len(found) for entry in kept.get("train", ()))
    notes += [counted(split, entries, list(found), cfg.mix is None) for split, entries in kept.items()]
    if meta is not None:
        meta = dict(meta)
    else:
        metas = {name: {"task": cfg.tasks[name].name, "meta": dict(found[name].meta)} for name in found}
        batches_of_one = one_each(cfg, found)
        notes += unbalanced(cfg, batches_of_one)
        meta = {"parts": metas, "partial": partly, "terms": terms(batches_of_one), "shared": False}
    parts: dict[str, Any] = {split: photos(cfg, spec, meta, found, split, entries) for split, entries in kept.items()}
    if "train" in parts:
        meta["shared"], said = sharing(parts["train"])
        notes.append(said)
    batches = None
    if cfg.mix is not None and "train" in kept:
        ids = {name: [i for i, entry in enumerate(kept["train"]) if name in entry] for name in found}
        own = {name: made.batches for name, made in found.items() if made.batches is not None}
        batches = Mixed(ids, cfg.mix, own)
    still: Any = None
    if "train" in parts and any(made.still is not None for made in found.values()):
        still = photos(cfg, spec, meta, found, "still", kept["train"])
    return Data(**parts, still=still, meta=meta, batches=batches, notes=notes)


def photos(
    cfg: MultiConfig,
    spec: ImageSpec,
    meta: Mapping[str, Any],
    found: Mapping[str, Data],
    split: str,
    entries: Sequence[Entry],
) -> Photos:
    own = {name: dict(made.splits()) for name, made in found.items()}
    if split == "still":
        own |= {name: {**own[name], "train": made.still} for name, made in found.items() if made.still is not None}
    names = []
    for entry in entries:
        part, (where, id) = next(iter(entry.items()))
        name = str(found[part].splits()[where].names[id])
        names.append(name if cfg.mix is None else f"{part}/{name}")
    first = next(iter(cfg.tasks))
    judged = split not in ("train", "still")
    base = None
    if judged and any(first not in entry for entry in entries):
        own_meta = meta["parts"][first]["meta"]
        base = cfg.tasks[first].task.sample(cfg.tasks[first].section, spec, own_meta)
    color = cfg.color if split == "train" else 0.0
    return Photos(names, entries, own, found, cfg.views, color, base)


def one_each(cfg: MultiConfig, found: Mapping[str, Data]) -> dict[str, dict[str, Any]]:
    """{part: its own batch of one image of train}; {} for one without such, or that cannot be read"""
    made: dict[str, dict[str, Any]] = {key: {} for key in cfg.tasks}
    for name, part in cfg.tasks.items():
        split = found[name].train
        if split is not None and len(split):
            with suppress(DataError):  # said, or left out, where the run meets it
                made[name] = part.task.collate(part.section, [split[0, 0]], None, found[name].meta)
    return made


def terms(batches: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str] | None]:
    """{part: what its own batches state as `labeled`; None where they state nothing}"""
    stated = {name: batch.get("labeled") for name, batch in batches.items()}
    return {name: sorted(one) if isinstance(one, Mapping) else None for name, one in stated.items()}


def unbalanced(cfg: MultiConfig, batches: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What `balance` cannot reach: parts that lay their pictures into canvases of their own, so that no other reads
    their pass. Raises ConfigError where that leaves nothing to balance."""
    apart = [name for name, batch in batches.items() if isinstance(batch.get("image"), list)]
    if cfg.weighting != "balance" or not apart:
        return []
    if len(batches) - len(apart) < 2:
        raise ConfigError(
            "task.weighting: balance works on features that two parts read from one pass, and no other part reads that "
            f"of {' or '.join(apart)}; use fixed or uncertainty"
        )
    return [f"{name}: weighting=balance does not reach its own pass; its loss counts as it is" for name in apart]


def preferences(cfg: MultiConfig) -> list[str]:
    """What a part's task prefers of the core's settings, which several tasks cannot all have."""
    return [
        f"{name}: task {part.name} alone would train with {key}={value}; set it if you want it for all"
        for name, part in cfg.tasks.items()
        for key, value in part.task.defaults.items()
    ]


def own_batches(found: Mapping[str, Data]) -> list[str]:
    return [
        f"{name}: its own order of images is not used, since photos are drawn for all parts at once (task.mix uses it)"
        for name, made in found.items()
        if made.batches is not None
    ]


def counted(split: str, entries: Sequence[Entry], parts: Sequence[str], one_set: bool) -> str:
    """How many photos, and how many of them each part labels."""
    whole = sum(len(entry) == len(parts) for entry in entries)
    own = ", ".join(f"{part} {sum(part in entry for entry in entries)}" for part in parts)
    if one_set and whole == len(entries):
        return f"{split}: {count(len(entries), 'photo')}, all with the labels of {', '.join(parts)}"
    said = f"{whole} with all labels" if one_set else "of sets of their own"
    return f"{split}: {count(len(entries), 'photo')}, {said} (labeled: {own})"


def sharing(train: Photos) -> tuple[bool, str]:
    """Whether the parts are shown the same pixels of a photo, so that it is one row of the one pass, seen in a few of
    them under several seeds; and what is to be said of it."""
    chosen = [id for id, entry in enumerate(train.entries) if len(entry) > 1][:LOOKED_AT]
    if not chosen:
        return False, "no photo has labels of two parts: each is a row of the pass"
    looks: list[bool] = []
    for id in chosen:
        with suppress(DataError):  # a photo that cannot be read: said, or left out, where the run meets it
            looks += [shared(train[id, seed]) for seed in range(SEEDS)]
    share = sum(looks) / max(1, len(looks))
    if share == 1:
        return True, f"the parts are shown the same pixels of {count(len(chosen), 'photo')} looked at: one row each"
    return False, (
        f"the parts are shown the same pixels in {share:.0%} of {len(looks)} looks at {count(len(chosen), 'photo')}; "
        "each other view costs a row more (docs/multi.md says which settings share them)"
    )


def shared(sample: Mapping[str, Any]) -> bool:
    return all("image" not in part for part in sample["parts"].values())
