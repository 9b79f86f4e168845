"""Bad masks and data sets: each is refused in a few words that name the file, or counted and told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from visiontl_segmentation.data import data

from tests.bad_input.outcome import check_words, tree
from tests.segmentation import made
from tests.segmentation.made import SIZE, picture, truth, write
from visiontl import ConfigError, DataError, ImageSpec


@dataclass(frozen=True)
class Bad:
    """spoil: makes a sound set bad. words: all of them stand in the error, or (told) in one note. late: only reading
    that sample tells, as for a damaged photo, which the core may skip."""

    name: str
    kind: str
    spoil: Callable[[Path], Any]
    words: tuple[str, ...]
    told: bool = False
    late: bool = False
    keys: tuple[tuple[str, Any], ...] = ()


A = "masks/train/a.png"


def saved(mask: Any, file: str = A) -> Callable[[Path], None]:
    return lambda root: (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(root / file)


def written(file: str, content: str | bytes) -> Callable[[Path], Any]:
    return lambda root: write(root / file, content)


def floating(value: float) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        (root / A).unlink()
        saved(np.full(SIZE, value, dtype=np.float32), A.replace(".png", ".tif"))(root)

    return spoil


def removed(*files: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        for file in files:
            path = root / file
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def with_value(value: int, pixels: int = 3) -> np.ndarray:
    mask = truth("a")
    mask.ravel()[:pixels] = value
    return mask


def cut(file: str) -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: len(content) // 2])

    return spoil


def jpeg(root: Path) -> None:
    (root / A).unlink()
    Image.fromarray(truth("a") * 40).save(root / A.replace(".png", ".jpg"), quality=30)


FOLDERS = [
    Bad("a value beyond the classes", "index", saved(with_value(3)), ("masks/train/a.png", "3 on 3 pixels", "0 to 2")),
    Bad("many values beyond the classes", "index", saved(with_value(9, 7)), ("a.png", "9 on 7 pixels")),
    Bad("a hundred files with such values", "index",
        lambda root: [saved(with_value(k + 5), f"masks/train/{s}.png")(root) for k, s in enumerate("abc")],
        ("3 errors", "a.png", "b.png", "c.png")),
    Bad("254", "index", saved(with_value(254)), ("a.png", "254 on 3 pixels")),
    Bad("a mask of another size", "index", saved(truth("a", (12, 14))), ("images/train/a.png", "16 x 12", "14 x 12")),
    Bad("a mask turned by a quarter", "index", lambda root: [
        (root / "images/train/a.png").unlink(), picture(root / "images/train/a.jpg"), saved(truth("a").T.copy())(root)],
        ("swapped", "EXIF")),
    Bad("a photo turned by EXIF under an unturned mask", "index", lambda root: [
        (root / "images/train/a.png").unlink(), picture(root / "images/train/a.jpg", orientation=6)],
        ("a.jpg", "12 x 16", "swapped")),
    Bad("a photo turned by EXIF in a PNG", "index", lambda root: picture(root / "images/train/a.png", orientation=6),
        ("a.png", "swapped")),
    Bad("halves", "index", floating(1.5),
        ("a.tif", "whole numbers"), late=True),
    Bad("floating NaN", "index", floating(np.nan), ("a.tif", "whole numbers"), late=True),
    Bad("16 bits beyond 255", "index", saved(np.full(SIZE, 300, dtype=np.uint16)),
        ("a.png", "300", "0 to 255"), late=True),
    Bad("colors in an index set", "index", saved(made.color_mask(truth("a"))),
        ("a.png", "color", "task.data.values"),
        late=True, keys=(("values", "index"),)),
    Bad("a JPEG mask", "index", jpeg, ("a.jpg", "nothing")),
    Bad("a damaged mask", "index", cut(A), ("a.png", "damaged"), late=True),
    Bad("an empty mask file", "index", written(A, b""), ("a.png",), late=True),
    Bad("a text as mask", "index", written(A, "class 1"), ("a.png", "not a picture"), late=True),
    Bad("an HTML page as mask", "index", written(A, "<!DOCTYPE html><html></html>"), ("a.png",), late=True),
    Bad("a damaged photo", "index", cut("images/train/a.png"), ("images/train/a.png", "damaged"), late=True),
    Bad("a folder in place of a mask", "index", lambda root: [(root / A).unlink(), (root / A).mkdir()],
        ("without mask", "a.png")),
    Bad("an image without mask", "index", removed(A), ("train: 1 image without mask", "a.png", "unpaired=skip")),
    Bad("a mask without image", "index", removed("images/train/a.png"), ("1 mask without image", "a.png")),
    Bad("an image without mask, skipped", "index", removed(A), ("1 image without mask", "a.png", "left out"), told=True,
        keys=(("unpaired", "skip"),)),
    Bad("two masks of one stem", "index", saved(truth("a"), "masks/train/a.bmp"), ("one stem, 2 masks", "a.bmp")),
    Bad("two images of one stem", "index", lambda root: picture(root / "images/train/a.bmp"),
        ("one stem, 2 images", "a.bmp")),
    Bad("no pair at all", "index", removed("masks/train/a.png", "masks/train/b.png", "masks/train/c.png"),
        ("3 images without mask",)),
    Bad("a split without pictures", "index", removed("images/val/d.png", "masks/val/d.png"), ("val holds no images",)),
    Bad("no masks", "index", removed("masks"), ("no images with masks found", "images")),
    Bad("names twice", "index", written("classes.txt", "ground\ncat\ncat\n"), ("classes.txt", "cat", "given twice")),
    Bad("no names", "index", written("classes.txt", "\n \n"), ("classes.txt", "no names")),
    Bad("names that are no text", "index", written("classes.txt", b"\xff\xfe\x00"), ("classes.txt", "UTF-8")),
    Bad("fewer names than values", "index", written("classes.txt", "ground\ncat\n"), ("2 on", "0 to 1")),
    Bad("an ignored class that is not there", "index", lambda root: None, ("ignore_index", "bird", "there is no class"),
        keys=(("ignore_index", "bird"),)),
    Bad("an ignored class, mistyped", "index", lambda root: None,
        ("did you mean 'cat'",), keys=(("ignore_index", "cta"),)),
    Bad("an ignored value of 300", "index", lambda root: None, ("ignore_index", "300"), keys=(("ignore_index", 300),)),
    Bad("everything ignored", "index", lambda root: None, ("all classes are ignored",),
        keys=(("ignore_index", [0, 1, 2]),)),
    Bad("a background that is not there", "index", lambda root: None, ("task.data.background", "sky"),
        keys=(("background", "sky"),)),
    Bad("nothing but ignored pixels in train", "index",
        lambda root: [saved(np.full(SIZE, 255, np.uint8), f"masks/train/{s}.png")(root) for s in "abc"],
        ("train has no pixel of any class",)),
    Bad("a class that no pixel has", "index", written("classes.txt", "ground\ncat\ndog\nbird\n"),
        ("train: no pixel of 1 class", "bird"), told=True),
    Bad("a place that is not there", "index", lambda root: None, ("pictures", "no such folder"),
        keys=(("images", "pictures"), ("masks", "masks"))),
    Bad("a place outside", "index", lambda root: None, ("leaves the data set's folder",),
        keys=(("images", "../images"), ("masks", "masks"))),
    Bad("{split} in one place", "index", lambda root: None, ("{split} stands in one",),
        keys=(("images", "images/{split}"), ("masks", "masks"))),
    Bad("color masks without a table", "color", lambda root: None,
        ("color-coded", "task.data.colors", "class_dict.csv")),
    Bad("a color that is not in the table", "color", written("class_dict.csv", "ground,0,0,0\ncat,200,30,30\n"),
        ("a.png", "[30, 30, 200]", "table of colors")),
    Bad("a table with a color twice", "color", written("class_dict.csv", "ground,0,0,0\ncat,0,0,0\n"),
        ("class_dict.csv", "given twice")),
    Bad("a table with 256", "color", written("class_dict.csv", "ground,0,0,0\ncat,256,0,0\n"),
        ("class_dict.csv", "cat")),
    Bad("an empty table", "color", written("class_dict.csv", "name,r,g,b\n"), ("class_dict.csv", "no colors")),
    Bad("a binary mask with gray edges", "binary", saved(np.full(SIZE, 128, np.uint8)), ("a.png", "128 on 192 pixels"),
        keys=(("values", "binary"),)),
    Bad("three names for binary masks", "binary", written("classes.txt", "a\nb\nc\n"), ("two classes", "3 are named"),
        keys=(("values", "binary"),)),
]  # fmt: skip


def changed(change: Callable[[dict], Any], file: str = "annotations/train.json") -> Callable[[Path], None]:
    def spoil(root: Path) -> None:
        content = json.loads((root / file).read_text())
        change(content)
        write(root / file, json.dumps(content))

    return spoil


def segmentation(value: Any, place: int = 0) -> Callable[[Path], None]:
    return changed(lambda content: content["annotations"][place].update(segmentation=value))


def annotation(**keys: Any) -> Callable[[Path], None]:
    return changed(lambda content: content["annotations"][0].update(keys))


COCO = [  # what concerns masks; tests/kit/test_coco.py has the rest
    Bad("JSON that is cut off", "coco", cut("annotations/train.json"), ("train.json", "not valid JSON")),
    Bad("an image without size", "coco", changed(lambda c: c["images"][0].pop("height")),
        ("1 image without width and height", "read from the files"), told=True),
    Bad("an image without size that cannot be read", "coco", lambda root: [
        changed(lambda c: c["images"][0].pop("height"))(root), write(root / "images/a.png", "no picture")],
        ("train.json", "annotation 1", "width and height", "cannot be read")),
    Bad("an image of 10^10 pixels", "coco", changed(lambda c: c["images"][0].update(height=10**5, width=10**5)),
        ("image 7", "more than 89,478,485 pixels")),
    Bad("images nowhere", "coco", removed("images"), ("no folder holds a.png", "put them into one of these")),
    Bad("an image id that is a list", "coco", annotation(image_id=[{}]), ("annotation 1", "no image has the id [{}]")),
    Bad("an image id that is an object", "coco", annotation(image_id={}), ("annotation 1", "no image has the id")),
    Bad("a category id that is a list", "coco", annotation(category_id=[1]), ("annotation 1", "no category has")),
    Bad("an id that is a list", "coco", annotation(id=[1]), ("annotations[0]", "a list")),
    Bad("an object as polygon", "coco", segmentation([{}]), ("annotation 1", "a polygon is")),
    Bad("a number beyond floats", "coco", segmentation([[4, 4, 24, 10**400, 9, 9]]), ("annotation 1", "finite")),
    Bad("a number beyond floats, negative", "coco", segmentation([[4, 4, 24, -(10**400), 9, 9]]), ("finite",)),
    Bad("a run beyond floats", "coco", segmentation({"size": list(SIZE), "counts": [10**400]}), ("do not add up",)),
    Bad("a run that is true", "coco", segmentation({"size": list(SIZE), "counts": [True, 191]}), ("do not add up",)),
    Bad("no segmentation", "coco", changed(lambda c: c["annotations"][0].pop("segmentation")),
        ("annotation 1", "None")),
    Bad("a polygon of two corners", "coco", segmentation([[1, 1, 5, 5]]), ("annotation 1", "a polygon is")),
    Bad("a polygon with text", "coco", segmentation([[1, 1, 5, "5", 3, 3]]), ("a polygon is",)),
    Bad("a polygon with an odd number", "coco", segmentation([[1, 1, 5, 5, 3, 3, 3]]), ("a polygon is",)),
    Bad("a polygon far outside", "coco", segmentation([[1, 1, 1e9, 5, 3, 3]]), ("far outside",)),
    Bad("a polygon to infinity", "coco", segmentation([[1, 1, float("inf"), 5, 3, 3]]), ("finite",)),
    Bad("no polygon", "coco", segmentation([]), ("is empty",)),
    Bad("a code of another size", "coco", segmentation({"size": [5, 5], "counts": "abc"}), ("size", "[12, 16]")),
    Bad("a code that is too short", "coco", segmentation({"size": list(SIZE), "counts": "01"}), ("do not add up",)),
    Bad("a code that is too long", "coco", segmentation({"size": list(SIZE), "counts": "o" * 40}), ("do not add up",)),
    Bad("a code of other letters", "coco", segmentation({"size": list(SIZE), "counts": "\u00e9~~"}), ("neither text",)),
    Bad("runs that are too long", "coco", segmentation({"size": list(SIZE), "counts": [5, 10**9]}), ("do not add up",)),
    Bad("negative runs", "coco", segmentation({"size": list(SIZE), "counts": [200, -8]}), ("do not add up",)),
    Bad("an image of another size than annotated", "coco", lambda root: picture(root / "images/a.png", (14, 20)),
        ("a.png", "20 x 14", "16 x 12")),
    Bad("an image without annotation", "coco", changed(lambda c: c.update(annotations=c["annotations"][2:])),
        ("1 image without annotation",), told=True),
]  # fmt: skip

VOC = [
    Bad("a listed image that is not there", "voc", removed("JPEGImages/a.jpg"), ("train.txt", "a has no image")),
    Bad("a listed mask that is not there", "voc", removed("SegmentationClass/a.png"), ("train.txt", "a has no mask")),
    Bad(
        "a list that leaves the folder", "voc", written("ImageSets/Segmentation/train.txt", "../../a\nb\n"), ("leaves",)
    ),
    Bad("an image in two lists", "voc", written("ImageSets/Segmentation/val.txt", "a\n"), ("in train and in val",)),
    Bad(
        "an image twice in a list", "voc", written("ImageSets/Segmentation/train.txt", "a\na\n"), ("2 times in train",)
    ),
    Bad("an empty list", "voc", written("ImageSets/Segmentation/val.txt", "\n"), ("val holds no images",)),
]

WRITERS: dict[str, Callable[[Path], Path]] = {
    "index": made.folders,
    "color": lambda root: made.folders(root, made.color_mask, names=None),
    "binary": lambda root: made.folders(root, made.binary_mask, names=None),
    "coco": made.coco,
    "voc": made.voc,
}
CASES = [*FOLDERS, *COCO, *VOC]


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: f"{bad.kind}: {bad.name}")
def test_bad_masks(tmp_path, bad):
    root = tmp_path / "set"
    WRITERS[bad.kind](root)
    bad.spoil(root)
    before = tree(tmp_path)
    cfg = made.config(root, {"augment": "none"}, **dict(bad.keys))
    if bad.told:
        notes = [note for note in data(cfg, ImageSpec(size=SIZE)).notes if all(word in note for word in bad.words)]
        assert len(notes) == 1
        check_words(notes[0])
        return
    found = data(cfg, ImageSpec(size=SIZE)) if bad.late else None
    with pytest.raises((ConfigError, DataError)) as raised:
        _ = found.train[0, 0] if found else data(cfg, ImageSpec(size=SIZE))  # type: ignore[index]
    said = str(raised.value)
    check_words(said)
    for word in (*bad.words, "" if "task.data" in said else str(root)):
        assert word in said, (word, said)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", WRITERS)
def test_the_sets_that_are_spoilt_are_sound(tmp_path, kind):
    table = {name: list(color) for name, color in made.COLORS.items()} if kind == "color" else None
    found = data(made.config(WRITERS[kind](tmp_path), {"augment": "none"}, colors=table), ImageSpec(size=SIZE))
    for split in found.splits().values():
        for id in range(len(split)):
            assert set(np.unique(split[id, 0]["truth"])) <= {0, 1, 2, 255}


def test_there_are_enough_cases():
    assert len({(bad.kind, bad.name) for bad in CASES}) == len(CASES) >= 40


def test_a_folder_that_is_not_there(tmp_path):
    made.folders(tmp_path / "photos")
    with pytest.raises(DataError, match=r"photo: no such folder; did you mean 'photos'"):
        data(made.config(tmp_path / "photo"), ImageSpec())
    with pytest.raises(DataError, match=r"is a file"):
        data(made.config(tmp_path / "photos/classes.txt"), ImageSpec())
    with pytest.raises(DataError, match=r"no such folder"):
        data(made.config(Path("a\0b")), ImageSpec())
