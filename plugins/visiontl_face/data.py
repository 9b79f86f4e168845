"""From a config to the splits of a data set and the meta that a model is rebuilt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.images import open_image
from visiontl.kit.names import alike_notes, compared
from visiontl.kit.splits import ORDER, WHOLE, hold_out, in_order
from visiontl.kit.words import count, plural, some
from visiontl_face.batches import identity_batches
from visiontl_face.config import FaceConfig
from visiontl_face.listing import Item, Listing, folder_listing, has_people, nameless_listing, table_listing
from visiontl_face.pairs import Pair, read_pairs
from visiontl_face.views import sample, training_view

ALIKE = "each is taken for a person of its own; if they are one, give them one name"
LEAST = 2  # people of a split: fewer cannot be told apart
NOBODY = -1  # the label of an image whose identity the model was not trained on


@dataclass(frozen=True)
class Faces:
    """One split. labels: (N,) class indices, or NOBODY. pairs: name -> the pairs that begin there; None where the
    split has no list of pairs.

    view: (image, seed) -> {"image": (3, H, W) uint8, "size": (H, W) of the photo}.
    """

    root: str
    names: Sequence[str]
    items: Sequence[Item] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    pairs: Mapping[str, Sequence[Pair]] | None = field(repr=False)
    view: Callable[[Image.Image, int], dict[str, Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        number, seed = key
        item = self.items[number]
        pairs = None if self.pairs is None else [(p.second, p.same, p.fold) for p in self.pairs.get(item.name, ())]
        about = {"name": item.name, "identity": item.identity, "group": item.group, "pairs": pairs}
        return {**self.view(self.image(number), seed), "label": int(self.labels[number]), "about": about}

    @property
    def groups(self) -> list[str]:
        """Per image, who it shows: nobody may be on both sides of a cross-validation."""
        return [item.identity or item.name for item in self.items]

    def image(self, number: int) -> Image.Image:
        """The photo itself, RGB, EXIF applied."""
        return open_image(Path(self.root) / self.items[number].name)


@dataclass(frozen=True)
class Still:
    """The evaluation view of an image; takes a seed and does not use it."""

    sample: Callable[[Image.Image], dict[str, Any]]

    def __call__(self, image: Image.Image, seed: int) -> dict[str, Any]:
        return self.sample(image)


def data(cfg: FaceConfig, spec: ImageSpec, meta: Mapping[str, Any] | None = None) -> Data:
    """The splits that cfg.data describes; nobody of val or test is in train where this splits.

    meta: {"identities": training identities in class order}. Given (evaluating elsewhere), a source without splits is
    all test. Raises DataError for sources that cannot be read, and for too few identities.
    """
    listing = _listing(cfg, meta)
    everybody = {item.identity for items in listing.parts.values() for item in items if item.identity}
    notes = [*listing.notes, *alike_notes("identity", everybody, ALIKE)]
    parts = _splits(cfg, listing, meta, notes)
    if meta is None:
        parts["train"] = _learnable(cfg, parts.get("train", []), listing, notes)
        meta = {"identities": sorted({item.identity for item in parts["train"]})}
    index = {identity: label for label, identity in enumerate(meta["identities"])}
    pairs = _pairs(cfg, parts, listing, notes)
    _judge(parts, pairs, listing, notes)
    still = Still(sample(cfg, spec, meta))
    splits: dict[str, Any] = {}
    for name, items in parts.items():
        labels = np.array([index.get(item.identity, NOBODY) for item in items], dtype=np.int64)
        view = training_view(cfg, spec) if name == "train" and cfg.augment != "none" else still
        splits[name] = Faces(str(listing.root), [item.name for item in items], items, labels, pairs.get(name), view)
    if "train" in splits and cfg.augment != "none":
        train = splits["train"]
        splits["still"] = replace(train, view=still)
    if "train" in splits and cfg.by_identity:
        batches = partial(identity_batches, splits["train"].labels, cfg.images_per_identity)
        return Data(**splits, meta=meta, notes=notes, batches=batches)
    return Data(**splits, meta=meta, notes=notes)


def _listing(cfg: FaceConfig, meta: Mapping[str, Any] | None) -> Listing:
    """What the source offers. Who an image shows need not be known where a model that there is already is evaluated
    with a list of pairs: cfg.identities says so, or a folder that holds pictures and no folder of them."""
    source, nameless = cfg.data, not cfg.identities
    if nameless and meta is None:
        raise DataError("task.identities=false: training needs to know who an image shows; this is for evaluating")
    if nameless and cfg.pairs.test is None:
        raise DataError(
            "task.identities=false: give a list of pairs (task.pairs=PAIRS.csv); nothing else can be judged"
        )
    if source.folder is None:
        return table_listing(source.csv or "", source.root, not nameless)
    if nameless:
        return nameless_listing(source.folder)
    if meta is not None and cfg.pairs.test is not None and not has_people(source.folder):
        found = nameless_listing(source.folder)
        said = f"{source.folder}: pictures without folders of people; who they show is not known, but for the list"
        return replace(found, notes=[*found.notes, f"{said} of pairs"])
    return folder_listing(source.folder, source.format)


def _splits(
    cfg: FaceConfig, listing: Listing, meta: Mapping[str, Any] | None, notes: list[str]
) -> dict[str, list[Item]]:
    """Split name -> items, in the order train, val, test; no split is empty."""
    parts = {name: list(items) for name, items in listing.parts.items()}
    for name, items in parts.items():
        if not items:
            raise DataError(f"{listing.where}: {name} holds no pictures; remove it, or put some in")
    if WHOLE in parts:
        if meta is not None:
            return {"test": parts[WHOLE]}
        shares = {"val": cfg.data.val_fraction, "test": cfg.data.test_fraction}
        parts = {"train": parts[WHOLE]}
    elif "val" not in parts and "train" in parts:
        shares = {"val": cfg.data.val_fraction}
    else:
        shares = {}
    if "train" not in parts and meta is None:
        raise DataError(f"{listing.where}: has {' and '.join(parts)} and no train; a model needs people to learn from")
    if not any(shares.values()):
        return {name: list(items) for name, items in in_order(parts).items()}
    people = spellings(item.identity for item in parts["train"])  # one person is not on both sides by a spelling
    held = hold_out(people, str, shares, cfg.data.split_seed, least=LEAST)
    for name in [split for split in shares if split in held]:
        if min(len(held[name]), len(held["train"])) < LEAST:
            wanted = max(LEAST, len(held[name]))
            raise DataError(
                f"{listing.where}: {count(len(people), 'identity')} {plural(len(people), 'is')} too few to hold "
                f"{wanted} of them out for {name}; task.data.{name}_fraction=0 holds nobody out"
            )
    everything = parts["train"]
    for name in ORDER:
        if name not in held:
            continue
        chosen = {spelling for person in held[name] for spelling in people[person]}
        parts[name] = [item for item in everything if item.identity in chosen]
        if name != "train":
            notes.append(
                f"{name}: {count(len(chosen), 'identity')} with {count(len(parts[name]), 'image')} held out of train: "
                f"{some(sorted(chosen))}"
            )
    return {name: list(items) for name, items in in_order(parts).items()}


def spellings(identities: Iterable[str]) -> dict[str, list[str]]:
    """{the first of the names that look alike: all of them}, sorted."""
    forms: dict[str, list[str]] = {}
    for name in sorted(set(identities)):
        forms.setdefault(compared(name), []).append(name)
    return {names[0]: names for names in forms.values()}


def _learnable(cfg: FaceConfig, items: Sequence[Item], listing: Listing, notes: list[str]) -> list[Item]:
    """The training images of identities with min_images or more."""
    number = Counter(item.identity for item in items)
    few = sorted(identity for identity, images in number.items() if images < cfg.min_images)
    kept = [item for item in items if number[item.identity] >= cfg.min_images]
    if few:
        notes.append(
            f"train: {count(len(few), 'identity')} with fewer than task.min_images: {cfg.min_images} images left out "
            f"({count(len(items) - len(kept), 'image')}): {some(few)}"
        )
    left = len(number) - len(few)
    if left < 2:
        which = f" with {cfg.min_images} or more images (task.min_images)" if few else ""
        raise DataError(
            f"{listing.where}: train has {count(left, 'identity')}{which}; at least 2 are needed to tell people apart"
        )
    return kept


def _pairs(
    cfg: FaceConfig, parts: Mapping[str, Sequence[Item]], listing: Listing, notes: list[str]
) -> dict[str, dict[str, list[Pair]]]:
    """Split -> image name -> the pairs of its list that begin there."""
    found: dict[str, dict[str, list[Pair]]] = {}
    for split in ("val", "test"):
        file = getattr(cfg.pairs, split)
        if file is None:
            continue
        if split not in parts:
            raise DataError(f"task.pairs.{split}: {listing.where} has no {split} split that {file} could be about")
        elsewhere = {item.name: other for other, items in parts.items() if other != split for item in items}
        pairs, more = read_pairs(file, parts[split], elsewhere, cfg.pairs.missing, listing.root)
        notes += more
        kinds = {pair.same for pair in pairs}
        if len(kinds) < 2:
            have = "the same person" if True in kinds else "two people"
            raise DataError(f"{file}: all its pairs show {have}; both kinds are needed to judge a model")
        found[split] = {}
        for pair in pairs:
            found[split].setdefault(pair.first, []).append(pair)
    return found


def _judge(parts: Mapping[str, Sequence[Item]], pairs: Mapping[str, Any], listing: Listing, notes: list[str]) -> None:
    """Refuse a split that cannot be judged: without a list, it needs two images of one person and two people."""
    trained = {compared(item.identity) for item in parts.get("train", ())}
    for split, items in parts.items():
        if split == "train":
            continue
        number = Counter(item.identity for item in items if item.identity)
        if split not in pairs and (len(number) < 2 or max(number.values(), default=0) < 2):
            most = count(max(number.values(), default=0), "image")
            raise DataError(
                f"{listing.where}: {split} has {count(len(number), 'identity')} and at most {most} of one; judging "
                "needs two people, and two images of one"
            )
        shared = sorted(name for name in number if compared(name) in trained)
        if shared:
            notes.append(
                f"{split}: {count(len(shared), 'identity')} {plural(len(shared), 'is')} in train too; its scores say "
                f"little about new people: {some(shared)}"
            )


def probe(cfg: FaceConfig, sample: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Who it is, of the whole image; NOBODY where the model is not trained on that person."""
    return {"labels": sample["label"]}
