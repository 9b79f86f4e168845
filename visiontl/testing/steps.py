"""What the data, samples and batches of a task promise, one clause a check."""

from __future__ import annotations

import builtins
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image
from torch import Tensor

from visiontl import plugins
from visiontl.config.guarded import openers
from visiontl.engine import loader
from visiontl.engine.prepare import Run
from visiontl.errors import DataError, VisionTLError
from visiontl.task import SampleDataset
from visiontl.testing.case import Case
from visiontl.testing.equality import difference

COUNT = 4  # images of a batch
ORIENTATION = 0x0112  # the EXIF tag
TURNED = 6  # stored a quarter turn to the left of how it is shown
FORMATS = {".png": {}, ".jpg": {"quality": 100, "subsampling": 0}, ".jpeg": {"quality": 100, "subsampling": 0}}
ELSEWHERE = "/nowhere/at/all"
LOOKS = {  # (owner, name) of what a validator could look at the disk with
    os: ("stat", "lstat", "listdir", "scandir", "open", "access"),
    os.path: ("exists", "isfile", "isdir", "getsize"),
    builtins: ("open",),
    io: ("open",),
    Path: ("exists", "is_file", "is_dir", "stat", "iterdir", "glob", "rglob", "open", "read_text", "read_bytes"),
}


def judged(run: Run) -> tuple[SampleDataset, str]:
    """A split that is judged, and its name."""
    for name in ("val", "test"):
        if name in run.data.splits():
            return run.data.splits()[name], name
    raise AssertionError("data: the example data has neither val nor test")


def batch_of(run: Run, split: SampleDataset, ids: list[int], training: bool = False) -> dict[str, Any]:
    """The batch that the engine would make of these images."""
    task, cfg = run.resolved.task, run.resolved.cfg
    made = loader.Batches(split, task.collate, cfg, run.built.meta, seed=0, training=training)[tuple(ids), 0, 0]
    if isinstance(made, loader.Failure):
        raise made.error
    return made


def validates_without_the_disk(case: Case) -> None:
    """config: validators of the `task:` section touch no disk, so a config can be checked on another machine."""
    section = case.resolved().cfg.model_dump()
    section["data"] = ELSEWHERE if isinstance(section.get("data"), str) else section.get("data")
    looked: list[str] = []

    def watched(name: str, original: Any) -> Any:
        def look(*given: Any, **more: Any) -> Any:
            if any(ELSEWHERE in str(one) for one in given):
                looked.append(name)
            return original(*given, **more)

        return look

    with _patched(watched):
        try:
            plugins.task(case.task).config.model_validate(section)
        except ValueError as error:
            looked.append(f"it said {str(error).splitlines()[-1].strip()[:100]!r}")
    told = f"config: a validator looks at the disk for `data: {ELSEWHERE}`"
    assert not looked, f"{told} ({looked[0]}); leave that to the step `data`"


@contextmanager
def _patched(watched: Any) -> Iterator[None]:
    patches = [
        mock.patch.object(owner, name, watched(name, getattr(owner, name)))
        for owner, names in LOOKS.items()
        for name in names
    ]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def names_each_image_once(case: Case) -> None:
    """data: an image stands in one split, once, under one name, and `image` shows it as an RGB PIL image."""
    elsewhere: dict[bytes, str] = {}
    for split, images in case.run().data.splits().items():
        assert len(images.names) == len(images), f"data: {split} has {len(images)} images and {len(images.names)} names"
        twice = [name for name, times in Counter(images.names).items() if times > 1]
        assert not twice, f"data: {split} names {twice[0]!r} twice, so it counts twice"
        photos = [images.image(id) for id in range(len(images))]
        strange = [photo for photo in photos if getattr(photo, "mode", None) != "RGB"]
        assert not strange, f"data: {split}.image gives a {_kind(strange[0])}; expected an RGB PIL image"
        own = {photo.tobytes(): f"{images.names[id]!r} of {split}" for id, photo in enumerate(photos)}
        for content, name in own.items():
            assert content not in elsewhere, f"data: {name} is {elsewhere[content]} too"
        elsewhere |= own


def _kind(value: Any) -> str:
    return f"{value.mode} picture" if isinstance(value, Image.Image) else type(value).__name__


def opens_files_as_its_splits_show_them(case: Case) -> None:
    """opens: a file of the example, opened by its suffix, is the picture that a split shows of it; prediction and
    training see the same."""
    run = case.run()
    opens, split = openers(run.resolved.task, run.resolved.cfg), judged(run)[0]
    for suffix, open_file in opens.items():
        assert suffix == f".{suffix[1:].lower()}", f"opens: {suffix!r}; expected such as '.wav'"
        files = [file for file in sorted(case.folder.rglob("*")) if file.suffix.lower() == suffix and file.is_file()]
        assert files, f"opens: the example has no file with the suffix {suffix}, by which it could be tried"
        photo = split.image(0)
        opened = (open_file(run.resolved.cfg, file) for file in files)
        alike = any(one.size == photo.size and one.tobytes() == photo.tobytes() for one in opened)
        assert alike, f"opens: no {suffix} file of the example opens as the picture that the split shows as image(0)"
    strange = next(iter(opens), None)
    if strange is not None:
        empty = case.folder / f"empty{strange}"
        empty.write_bytes(b"")
        try:
            opens[strange](run.resolved.cfg, empty)
        except DataError:
            return
        except Exception as error:  # a stranger's function
            raise AssertionError(f"opens: {type(error).__name__} for an empty file; expected a DataError") from None
        raise AssertionError(f"opens: an empty {strange} file is opened; expected a DataError that names it")


def serves_every_image_of_train(case: Case) -> None:
    """data: `batches`, where there is one, names ids of the split alone, as many lists in each epoch, and in the long
    run every image."""
    run = case.run()
    order, split = run.data.batches, run.data.train
    assert split is not None, "data: the example has no train split"
    if order is None:
        return
    counts, seen = set(), set()
    for epoch in range(20):
        lists = order("train", 0, epoch, COUNT)
        counts.add(len(lists))
        seen.update(id for ids in lists for id in ids)
    assert len(counts) == 1, f"data: batches gives {sorted(counts)} lists in different epochs; one number was expected"
    foreign = sorted(seen - set(range(len(split))))
    assert not foreign, f"data: batches names ids {foreign[:3]}, and train has 0 to {len(split) - 1}"
    never = sorted(set(range(len(split))) - seen)
    assert not never, f"data: batches never names {len(never)} of {len(split)} images in 20 epochs, such as {never[:3]}"


def keeps_its_meta_through_json(case: Case) -> None:
    """data: `meta` means the same after a trip through JSON: keys are texts, values JSON's."""
    resolved = case.resolved()
    meta = resolved.task.data(resolved.cfg, case.run().built.backbone.spec, None).meta
    try:
        back = json.loads(json.dumps(meta, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"data: meta is no JSON: {error}") from None
    changed = difference(_listed(meta), back)
    assert not changed, f"data: meta{changed} after a trip through JSON; use texts as keys and lists as values"


def _listed(value: Any) -> Any:
    """Tuples as lists, which nobody can tell apart after the trip."""
    if isinstance(value, Mapping):
        return {key: _listed(one) for key, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, list | tuple) else value


def turns_photos_by_exif(case: Case) -> None:
    """data: `image` and the samples show a photo as its EXIF orientation says."""
    split, name = judged(case.run())
    photo, size = split.image(0), split[0, 0].get("size", ())
    file = _file_of(case.folder, photo)
    if file is None:
        return  # drawn on the fly, or kept in a file of many
    kept = file.read_bytes()
    exif = Image.Exif()
    exif[ORIENTATION] = TURNED
    try:
        with Image.open(file) as stored:
            stored.load()
        stored.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif, **FORMATS[file.suffix.lower()])
        found, _ = judged(case.run())
        shown, given = found.image(0), found[0, 0].get("size", ())
    except VisionTLError as error:
        raise AssertionError(f"data: a photo whose EXIF says that it is turned is refused: {error}") from None
    finally:
        file.write_bytes(kept)
    mend = "open photos with visiontl.kit.images.open_image"
    assert _alike(shown, photo), f"data: {name}.image(0) ignores the EXIF orientation of {file.name}; {mend}"
    assert tuple(given) == tuple(size), f"data: {name}[0, 0] ignores the EXIF orientation of {file.name}; {mend}"


def _file_of(folder: Path, photo: Image.Image) -> Path | None:
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in FORMATS:
            with Image.open(file) as stored:
                if stored.size == photo.size and _alike(stored.convert("RGB"), photo):
                    return file
    return None


def _alike(a: Image.Image, b: Image.Image) -> bool:
    """Equal but for what JPEG loses when a file is written again."""
    if a.size != b.size:
        return False
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()) < 4


def states_height_before_width(case: Case) -> None:
    """sample: `size` is the photo's own (height, width) in pixels, of wide and of tall photos."""
    run = case.run()
    task = run.resolved.task
    prepare = task.sample(run.resolved.cfg, run.built.backbone.spec, run.built.meta)
    photo = judged(run)[0].image(0)
    for width, height in ((96, 64), (64, 96)):
        made = prepare(photo.resize((width, height)))
        assert "size" in made, "sample: it carries no `size`; expected the photo's own (height, width)"
        given = tuple(int(side) for side in made["size"])
        assert given == (height, width), (
            f"sample: `size` of a photo {width} pixels wide and {height} high is {given}; expected (height, width)"
        )


def gives_pixels_as_they_are(case: Case) -> None:
    """sample, collate: `image` is uint8, or floats of 0 to 1, not yet normalized: a black photo is 0, a white one 1."""
    run = case.run()
    task, meta = run.resolved.task, run.built.meta
    prepare = task.sample(run.resolved.cfg, run.built.backbone.spec, meta)
    size = judged(run)[0].image(0).size
    for color, expected in (("black", 0.0), ("white", 1.0)):
        photo = Image.new("RGB", size, color)
        try:
            images = task.collate(run.resolved.cfg, [prepare(photo)], None, meta)["image"]
        except VisionTLError:
            return  # a task that refuses a photo without content
        image = images[0]
        value = _share(image, f"a {color} photo")
        assert abs(value - expected) < 0.02, (
            f"sample: the middle of a {color} photo is {value:.3g} in `image`; expected {expected:g}: the backbone "
            "normalizes, so a sample must not"
        )
    for name, split in run.data.splits().items():
        for image in batch_of(run, split, list(range(min(COUNT, len(split)))), training=name == "train")["image"]:
            _share(image, name)


def _share(image: Tensor, of: str) -> float:
    """The middle pixel, 0 to 1."""
    assert image.ndim == 3, f"collate: `image` of {of} has items of shape {tuple(image.shape)}; expected (3, H, W)"
    low, high = float(image.min()), float(image.max())
    if image.is_floating_point():
        assert high <= 1.001, f"collate: float `image` of {of} goes up to {high:.4g}; floats are 0 to 1, uint8 0 to 255"
        assert low >= -0.001, f"collate: `image` of {of} goes down to {low:.3g}: it is normalized, and will be again"
    middle = float(image[:, image.shape[1] // 2, image.shape[2] // 2].double().mean())
    return middle if image.is_floating_point() else middle / 255


def says_what_features_should_tell(case: Case) -> None:
    """probe, where there is one: the labels of a sample without augmentation are whole numbers: of the image, of boxes
    that lie in it, or of each of its pixels; some of the images have one."""
    run = case.run()
    task, cfg, meta = run.resolved.task, run.resolved.cfg, run.built.meta
    if task.probe is None:
        return
    split = run.data.still or run.data.train
    assert split is not None
    labeled = 0
    for id in range(min(len(split), 2 * COUNT)):
        sample = split[id, 0]
        found = task.probe(cfg, sample, meta)
        assert isinstance(found, Mapping), f"probe: gave a {type(found).__name__}; expected {{'labels': ...}}"
        assert "labels" in found, f"probe: gave {', '.join(map(str, found)) or 'nothing'} and no labels"
        labels, (height, width) = np.asarray(found["labels"]), sample["image"].shape[-2:]
        assert labels.dtype.kind in "iub", f"probe: labels are {labels.dtype}; expected whole numbers"
        if found.get("boxes") is not None:
            boxes = np.asarray(found["boxes"])
            assert boxes.shape == (*labels.shape, 4), f"probe: boxes are {boxes.shape} for labels {labels.shape}"
            outside = (boxes < -1).any() or (boxes > np.array([width, height, width, height]) + 1).any()
            assert not outside, f"probe: a box of {split.names[id]} lies outside of its image, {width} x {height}"
        elif labels.ndim == 2:
            assert labels.shape == (height, width), f"probe: labels are {labels.shape}; the image is {(height, width)}"
        else:
            assert labels.ndim <= 1, f"probe: labels are {labels.shape}; expected (), (K,), (n,) with boxes, or (H, W)"
        labeled += bool((labels >= 0).any())
    assert labeled, "probe: no image of the example has a label"


CHECKS = [
    validates_without_the_disk,
    keeps_its_meta_through_json,
    names_each_image_once,
    serves_every_image_of_train,
    opens_files_as_its_splits_show_them,
    turns_photos_by_exif,
    states_height_before_width,
    gives_pixels_as_they_are,
    says_what_features_should_tell,
]
