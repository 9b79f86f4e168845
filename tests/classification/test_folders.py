from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from visiontl_classification import TASK

from tests.classification.helpers import SPEC, config, folders, picture, read
from tests.shared import shared
from visiontl import DataError


def test_given_splits(tmp_path):
    folders(tmp_path, {"train/bees": 3, "train/ants": 2, "valid/ants": 1, "valid/bees": 1, "test/bees": 2})
    data = read(tmp_path)
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 5, "val": 2, "test": 2}
    assert data.meta["classes"] == ["ants", "bees"]
    assert data.meta["counts"] == [2, 3]
    assert list(data.val.names) == ["valid/ants/0.png", "valid/bees/0.png"]
    assert data.train.targets.tolist() == [0, 0, 1, 1, 1]
    assert any("test: no image of 1 class: ants" in note for note in data.notes)


def test_class_folders_are_sorted_by_code_point_and_read_with_their_subfolders(tmp_path):
    folders(tmp_path, {"10": 3, "9": 3, "Zebra": 3, "ant/deep/er": 3})
    data = read(tmp_path)
    assert data.meta["classes"] == ["10", "9", "Zebra", "ant"]
    names = [name for split in data.splits().values() for name in split.names]
    assert "ant/deep/er/0.png" in names
    assert len(names) == len(set(names)) == 12


def test_what_is_skipped_is_counted_and_named(tmp_path):
    folders(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    (tmp_path / "train/a/notes.txt").write_text("x")
    (tmp_path / "train/b/.hidden.png").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "extra").mkdir()
    notes = " ".join(read(tmp_path).notes)
    for name in ("train/a/notes.txt", "train/b/.hidden.png", "README.md", "extra/"):
        assert name in notes
    assert "4 names" in notes


def test_links_that_turn_in_circles_end(tmp_path):
    folders(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a/again").symlink_to(tmp_path / "a")
    assert sum(len(split) for split in read(tmp_path).splits().values()) == 6


def test_flat_test_folder_is_named_and_flat_val_folder_refused(tmp_path):
    folders(tmp_path, {"train/a": 3, "train/b": 3, "test": 4})
    data = read(tmp_path)
    assert any("4 files without class folders" in note for note in data.notes)
    folders(tmp_path, {"val": 2})
    with pytest.raises(DataError, match=r"val: holds 2 pictures but no class folders; expected one folder per class"):
        read(tmp_path)


def test_a_class_called_train(tmp_path):
    folders(tmp_path, {"bus": 4, "car": 4, "train": 4})
    assert read(tmp_path).meta["classes"] == ["bus", "car", "train"]
    folders(tmp_path, {"train/steam": 2})
    with pytest.raises(DataError, match="a split or a class"):
        read(tmp_path)
    assert read({"folder": str(tmp_path), "format": "classes"}).meta["classes"] == ["bus", "car", "train"]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            {"train/a": 2, "train/b": 2, "val/a": 1, "val/c": 1},
            "no training image of 1 class: c (only in val)",
        ),
        ({"train/a": 2, "train/b": 0, "val/a": 1}, "no training image of 1 class: b (the folder is empty)"),
        ({"a": 3, "b": 0}, "no training image of 1 class: b (the folder is empty)"),
        ({"train/a": 2, "val/a": 2}, "has 1 class (a); classification needs two"),
        ({"val/a": 2, "val/b": 2, "test/a": 1}, "has val, test and no train"),
        ({"train/a": 2, "train/b": 2, "val/a": 0, "val/b": 0}, "val holds no pictures"),
        ({"val/a": 2, "valid/a": 2, "train/a": 2}, "val and valid both mean val"),
        ({"a": 0, "b": 0}, "no pictures found"),
        ({"": 3}, "holds 3 pictures but no class folders"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, counts, words):
    folders(tmp_path, counts)
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_missing_folder_names_the_nearest(tmp_path):
    folders(tmp_path, {"flowers/a": 1})
    with pytest.raises(DataError, match="did you mean 'flowers'"):
        read(tmp_path / "flower")


def test_classes_with_one_image_are_noted(tmp_path):
    folders(tmp_path, {"train/a": 2, "train/rare": 1, "val/a": 1})
    assert any("one image only of 1 class: rare" in note for note in read(tmp_path).notes)


def test_validation_split_off_train_where_none_is_given(tmp_path):
    folders(tmp_path, {"train/a": 20, "train/b": 10, "test/a": 2, "test/b": 2})
    data = read({"folder": str(tmp_path), "val_fraction": 0.2})
    assert Counter(data.val.targets.tolist()) == {0: 4, 1: 2}
    assert len(data.train) == 24
    assert len(data.test) == 4
    assert data.meta["counts"] == [16, 8]
    data = read({"folder": str(tmp_path), "val_from": "test"})
    assert (len(data.train), len(data.val), data.test) == (30, 4, None)
    assert any("chosen on it" in note for note in data.notes)


def test_an_unreadable_picture_stops(tmp_path):
    folders(tmp_path, {"train/a": 3, "train/b": 3, "val/a": 1, "val/b": 1})
    (tmp_path / "train/a/broken.jpg").write_text("<html>not found</html>")
    data = read(tmp_path)
    with pytest.raises(DataError, match=r"broken\.jpg: not a picture.*HTML"):
        [data.train[i, 0] for i in range(len(data.train))]


def test_a_validation_sample_is_what_predict_sees_bit_for_bit(tmp_path):
    folders(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1, "val/b": 1})
    turned = Image.open(picture(tmp_path / "plain.png", 5, (50, 37)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    turned.save(tmp_path / "val/a/turned.jpg", exif=exif)
    Image.new("L", (20, 60), 77).save(tmp_path / "val/b/gray.png")
    data = read(tmp_path)
    view = TASK.sample(config(tmp_path), SPEC, data.meta)
    for i in range(len(data.val)):
        theirs, ours = data.val[i, i], view(data.val.image(i))
        assert torch.equal(theirs["image"], ours["image"])
        assert theirs["size"] == ours["size"]
        assert ours["image"].shape == (3, 32, 32)
        assert ours["image"].dtype == torch.uint8
    sizes = {name: data.val[i, 0]["size"] for i, name in enumerate(data.val.names)}
    assert sizes["val/a/turned.jpg"] == (50, 37)  # (H, W) of the picture as people see it
    assert sizes["val/b/gray.png"] == (60, 20)


@pytest.mark.parametrize("augment", ["none", "light", "standard", "trivialaugment", "randaugment"])
def test_augmentation_is_a_function_of_the_seed(tmp_path, augment):
    folders(tmp_path, {"train/a": 2, "train/b": 2, "val/a": 1})
    data = read(tmp_path, augment=augment)
    torch.manual_seed(1)
    first = data.train[0, 11]["image"]
    torch.rand(3), np.random.rand(3)
    state = torch.get_rng_state()
    again = data.train[0, 11]["image"]
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    assert torch.equal(first, again)
    assert first.shape == (3, 32, 32)
    assert first.dtype == torch.uint8
    views = {data.train[0, seed]["image"].numpy().tobytes() for seed in range(8)}
    assert (len(views) == 1) == (augment == "none")
    if augment == "none":
        plain = TASK.sample(config(tmp_path), SPEC, data.meta)(data.train.image(0))
        assert torch.equal(first, plain["image"])
    else:
        clone = pickle.loads(pickle.dumps(data.train))
        assert torch.equal(clone[0, 11]["image"], first)


def test_no_mirror_where_it_is_not_wanted(tmp_path):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:, 16:] = 255  # dark left, bright right
    for place in ("train/a", "train/b", "val/a"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / place / "0.png")

    def bright_left(flip: bool) -> int:
        train = read(tmp_path, augment="light", flip=flip).train
        views = [train[0, seed]["image"].float() for seed in range(20)]
        return sum(bool(view[..., 0].mean() > view[..., -1].mean()) for view in views)

    assert bright_left(False) == 0
    assert 3 <= bright_left(True) <= 17


def test_splits_and_functions_pickle(tmp_path):
    folders(tmp_path, {"a": 4, "b": 4})
    data = read(tmp_path)
    for split in data.splits().values():
        clone = pickle.loads(pickle.dumps(split))
        assert torch.equal(clone[0, 3]["image"], split[0, 3]["image"])
        assert list(clone.names) == list(split.names)
    assert pickle.loads(pickle.dumps(TASK.collate)) == TASK.collate
    pickle.dumps(TASK.sample(config(tmp_path), SPEC, data.meta))


def test_evaluating_elsewhere_keeps_the_class_order(tmp_path):
    meta = read(folders(tmp_path / "home", {"ants": 3, "bees": 3, "wasps": 3})).meta
    data = read(folders(tmp_path / "away", {"wasps": 2, "ants": 1}), meta)
    assert set(data.splits()) == {"test"}
    assert dict(zip(data.test.names, data.test.targets.tolist(), strict=True)) == {
        "ants/0.png": 0,
        "wasps/0.png": 2,
        "wasps/1.png": 2,
    }
    assert data.meta["classes"] == ["ants", "bees", "wasps"]
    assert any("no image of 1 class: bees" in note for note in data.notes)
    with pytest.raises(DataError, match=r"2 classes that the model does not know: ant, hornets; did you mean 'ants'"):
        read(folders(tmp_path / "strange", {"ant": 2, "hornets": 1, "bees": 1}), meta)
    (tmp_path / "away/unknown_but_empty").mkdir()
    assert len(read(tmp_path / "away", meta).test) == 3


def test_evaluating_elsewhere_with_given_splits_and_empty_classes(tmp_path):
    meta = read(folders(tmp_path / "home", {"a": 3, "b": 3})).meta
    data = read(folders(tmp_path / "away", {"train/a": 1, "train/b": 0, "val/b": 1}), meta)
    assert {name: split.targets.tolist() for name, split in data.splits().items()} == {
        "train": [0],
        "val": [1],
    }


def test_hymenoptera():
    folder = shared("data/classification/hymenoptera")
    data = read(folder)
    assert {name: len(split) for name, split in data.splits().items()} == {"train": 244, "val": 153}
    assert data.meta["classes"] == ["ants", "bees"]
    assert data.meta["counts"] == [123, 121]
    by_hand = sum(1 for _ in (folder / "val/bees").glob("*.jpg"))
    assert int((data.val.targets == 1).sum()) == by_hand == 83
    assert data.val[0, 0]["image"].shape == (3, 32, 32)


def test_cifar10_jpg():
    folder = shared("data/classification/cifar10_jpg")
    data = read(folder)
    assert (len(data.train), len(data.val)) == (5000, 1500)
    assert data.meta["counts"] == [500] * 10
    assert data.val[7, 0]["size"] == (32, 32)
