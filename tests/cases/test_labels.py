"""Which class is which, and which folder is a class, a split or neither."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from visiontl_classification.config import ClassificationConfig
from visiontl_classification.data import data
from visiontl_detection import yolo
from visiontl_detection.config import DataConfig as Boxes
from visiontl_face.config import FaceConfig
from visiontl_face.data import data as faces
from visiontl_segmentation import layouts
from visiontl_segmentation.config import DataConfig as Masks
from visiontl_style.config import DataConfig as Photos
from visiontl_style.data import split_folders

from visiontl import Data, DataError, ImageSpec
from visiontl.kit.folders import Folders
from visiontl.kit.labels import read_labeled
from visiontl.kit.splits import split_files, split_names, split_of

SPEC = ImageSpec(size=(8, 8))


def draw(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number % 250, np.uint8)).save(root / name)
    return root


def read(source: Any, head: str = "original", **keys: Any) -> Data:
    source = {"folder": str(source), **keys} if isinstance(source, Path) else source
    return data(ClassificationConfig.model_validate({"data": source, "head": head}), SPEC)


# -- the classes of an original head


@pytest.mark.parametrize("form", ["{}", "{:02d}", "{:04d}"])
def test_numbered_folders_are_taken_by_number(tmp_path, form):
    draw(tmp_path, *(f"{form.format(i)}/a.png" for i in (2, 10)))
    for i in range(12):
        (tmp_path / form.format(i)).mkdir(exist_ok=True)
    found = read(tmp_path, format="classes")
    assert found.meta["ids"] == [form.format(i) for i in range(12)]
    test: Any = found.test
    assert test.targets.tolist() == ([2, 10] if form != "{}" else [10, 2])  # files in plain sorted order
    assert [found.meta["ids"][i] for i in test.targets] == [name.split("/")[0] for name in test.names]


def test_a_table_of_numbers_is_taken_by_number(tmp_path):
    draw(tmp_path, *(f"{i}.png" for i in range(11)))
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{i}.png,{i}\n" for i in range(11)))
    found = read({"csv": str(tmp_path / "t.csv")})
    test: Any = found.test
    assert [(name, int(label)) for name, label in zip(test.names, test.targets, strict=True)] == [
        (f"{i}.png", i) for i in range(11)
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["309", "310"], "2 of 2 classes are a number (309, 310), but they are not 0 to 1"),
        (["1", "2", "3"], "not 0 to 2"),
        (["0", "1", "dog"], "2 of 3 classes are a number"),
        (["0", "00", "1"], "not 0 to 2"),
        (["ants", "bees"], "2 classes of no name in ImageNet-1k: ants, bees"),
        (["tench", "my dog"], "1 class of no name in ImageNet-1k: my dog"),
        (["goldfish", "Goldfish"], "nothing says which"),
        (["n01440764", "n99999999"], "no ImageNet-1k class: n99999999"),
    ],
)
def test_names_that_do_not_tell_their_order_are_refused(tmp_path, names, words):
    draw(tmp_path, *(f"{name}/a.png" for name in names))
    with pytest.raises(DataError) as error:
        read(tmp_path, format="classes")
    assert words in str(error.value)
    assert "task.data.class_names" in str(error.value)


def test_a_file_of_names_gives_the_order(tmp_path):
    draw(tmp_path / "set", "309/a.png", "310/a.png")
    (tmp_path / "names.txt").write_text("".join(f"{i} class {i}\n" for i in range(1000)))
    test: Any = read(tmp_path / "set", class_names=str(tmp_path / "names.txt")).test
    assert test.targets.tolist() == [309, 310]


def test_names_of_imagenet_in_words_are_known(tmp_path):
    # classes 1, 0, 3, 264 (a dog) and 474 of ImageNet-1k
    draw(tmp_path, *(f"{name}/a.png" for name in ("goldfish", "Tench", "tiger_shark", "Cardigan", "cardigan")))
    found = read(tmp_path)
    test: Any = found.test
    assert dict(zip(test.names, test.targets.tolist(), strict=True)) == {
        "Tench/a.png": 0, "goldfish/a.png": 1, "tiger_shark/a.png": 3, "Cardigan/a.png": 264, "cardigan/a.png": 474,
    }  # fmt: skip
    assert len(found.meta["classes"]) == len(set(found.meta["classes"])) == 1000


# -- splits


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "training"])
@pytest.mark.parametrize("val", ["val", "Valid", "VALIDATION", "dev"])
@pytest.mark.parametrize("test", ["test", "Testing"])
def test_splits_are_known_by_all_their_names_in_every_task(tmp_path, train, val, test):
    names = {"train": train, "val": val, "test": test}
    assert split_names("x", names.values()) == names
    assert split_files("x", [f"{name}.txt" for name in names.values()], ".txt") == {
        split: f"{name}.txt" for split, name in names.items()
    }
    draw(tmp_path, *(f"{name}/{label}/{i}.png" for name in names.values() for label in "ab" for i in range(2)))
    assert set(read(tmp_path, "linear").splits()) == set(names)
    assert {"train", "val", "test"} <= set(faces(FaceConfig.model_validate({"data": str(tmp_path)}), SPEC).splits())
    masks = tmp_path / "masks"
    for place, photo in itertools.product(names.values(), ("images", "masks")):
        draw(masks / place / photo, "1.png")
    assert list(layouts.read(Masks(folder=str(masks))).parts) == ["train", "val", "test"]
    given = layouts.read(Masks(folder=str(masks), images="{split}/images", masks="{split}/masks"))
    assert list(given.parts) == ["train", "val", "test"]
    boxes = tmp_path / "boxes"
    draw(boxes, *(f"{name}/{i}.png" for i, name in enumerate(names.values())))
    for i, name in enumerate(names.values()):
        (boxes / name / f"{i}.txt").write_text("0 .5 .5 .2 .2\n")
    (boxes / "data.yaml").write_text("".join(f"{name}: {name}\n" for name in names.values()) + "names: [a]\n")
    assert list(yolo.read(Folders(str(boxes)), Boxes(folder=str(boxes))).parts) == ["train", "val", "test"]


def test_a_files_own_name_goes_before_others():
    assert split_files("x", ["valid.txt", "val.txt", "train.txt", "trainval.txt", "val"], ".txt") == {
        "train": "train.txt",
        "val": "val.txt",
    }
    with pytest.raises(DataError, match="both mean val"):
        split_files("x", ["valid.txt", "Validation.txt"], ".txt")
    assert split_of("trains") is None


# -- which folders are the classes


@pytest.mark.parametrize(
    "names",
    [
        ["p1/ants/0.png", "p1/bees/1.png", "p2/ants/2.png", "p2/bees/3.png"],
        ["p1/ants/0.png", "p1/bees/1.png", "p2/ants/2.png", "p3/bees/3.png"],  # not each has all
        ["train/p1/a/0.png", "train/p1/b/1.png", "train/p2/a/2.png", "train/p2/b/3.png", "val/p1/a/4.png"],
        ["set_train/set_train/sea/0.png", "set_train/set_train/ice/1.png", "set/a/sea/2.png", "set/a/ice/3.png"],
        ["training_set/cat/0.png", "training_set/dog/1.png", "test_set/cat/2.png", "test_set/dog/3.png"],
        ["ants/train/0.png", "ants/test/1.png", "bees/train/2.png", "bees/test/3.png"],
    ],
)  # fmt: skip
def test_outer_folders_that_hold_the_same_inner_ones_are_asked_about(tmp_path, names):
    draw(tmp_path, *names)
    for reader in (
        lambda: read(tmp_path, "linear"),
        lambda: faces(FaceConfig.model_validate({"data": str(tmp_path)}), SPEC),
    ):
        with pytest.raises(DataError, match=r"hold folders of the same names .* Say task\.data\.format="):
            reader()
    inner = read_labeled(Folders(str(tmp_path)), "inner")
    assert sorted(name for part in inner.parts.values() for files in part.values() for name in files) == sorted(names)
    assert all(f"/{label}/" in f"/{name}" for part in inner.parts.values() for label in part for name in part[label])
    outer = read_labeled(Folders(str(tmp_path)), "splits" if names[0].startswith("train/") else "labels")
    assert outer.labels() == sorted({name.removeprefix("train/").removeprefix("val/").split("/")[0] for name in names})


@pytest.mark.parametrize(
    "names",
    [
        ["ants/images/0.png", "bees/images/1.png"],  # one name alone, as Tiny ImageNet has it
        ["dogs/pug/0.png", "dogs/husky/1.png", "cats/siam/2.png", "cats/manx/3.png"],
        ["ants/0.png", "ants/more/1.png", "bees/2.png", "bees/more/3.png"],
        ["ants/a/0.png", "ants/b/1.png", "bees/2.png", "bees/3.png"],
    ],
)
def test_classes_with_folders_of_their_own_are_read(tmp_path, names):
    draw(tmp_path, *names, *(name.replace(".png", "b.png") for name in names))
    assert read(tmp_path, "linear").meta["classes"] == sorted({name.split("/")[0] for name in names})


def test_the_inner_folders_can_be_the_classes(tmp_path):
    names = [f"p{who}/{label}/{i}.png" for who in range(3) for label in ("bees", "ants") for i in range(3)]
    draw(tmp_path, *names, "p0/loose.png", "top.png")
    found = read(tmp_path, "linear", format="inner")
    assert found.meta["classes"] == ["ants", "bees"]
    assert sum(map(len, found.splits().values())) == 18
    assert any("in no class folder: p0/loose.png, top.png" in note for note in found.notes)


def test_folders_of_photos_that_are_called_after_splits_are_told_of():
    """Style reads all photos below a folder: the splits of another task are none of its own."""
    named = {"/x/train/1.png": "train/1.png", "/x/Validation/2.png": "Validation/2.png"}
    (note,) = split_folders(Photos(photos=["x"], styles=["s"]), named)
    assert "Validation, train" in note
    assert "task.data.val" in note
    assert split_folders(Photos(photos=["x"], styles=["s"], val=["y"]), named) == []
    assert split_folders(Photos(photos=["x"], styles=["s"]), {"/x/train/1.png": "train/1.png"}) == []
