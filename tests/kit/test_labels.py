"""Folders that are called after what they show: as a split, or as a label."""

from __future__ import annotations

import pytest

from tests.kit.made import pictures
from visiontl import DataError
from visiontl.kit.folders import Folders
from visiontl.kit.labels import read_labeled


def read(root, *names: str, **keys):
    return read_labeled(Folders(str(pictures(root, names))), **keys)


def test_splits_under_any_of_their_names(tmp_path):
    found = read(tmp_path, "Training/b/0.png", "Training/a/x/1.png", "validation/a/2.png", "testing/a/3.png")
    assert found.parts == {
        "train": {"a": ["Training/a/x/1.png"], "b": ["Training/b/0.png"]},
        "val": {"a": ["validation/a/2.png"]},
        "test": {"a": ["testing/a/3.png"]},
    }
    assert found.labels() == ["a", "b"]
    assert not found.notes


def test_a_folder_of_pictures_alone_is_a_label_whatever_it_is_called(tmp_path):
    found = read(tmp_path, "bus/0.png", "training/1.png", "car/2.png")
    assert found.parts == {"whole": {"bus": ["bus/0.png"], "car": ["car/2.png"], "training": ["training/1.png"]}}
    pictures(tmp_path / "training/steam", ["0.png"])
    with pytest.raises(DataError, match=r"training holds folders and stands beside bus, car: a split or a class\? Say"):
        read(tmp_path, ask=" Say it")
    assert read(tmp_path, layout="labels").labels() == ["bus", "car", "training"]


def test_two_folders_of_pictures_with_names_of_splits_are_asked_about(tmp_path):
    with pytest.raises(DataError, match=r"training, val hold no folders and stand beside bus: splits or classes\? Say"):
        read(tmp_path, "bus/0.png", "training/1.png", "val/2.png", ask=" Say it")
    assert read(tmp_path, layout="labels").labels() == ["bus", "training", "val"]


def test_what_is_passed_over_is_told_once(tmp_path):
    names = ["train/a/0.png", "val/a/1.png", "extra/2.png", "loose.png", "train/3.png", "train/a/.h.png", "test/4.png"]
    found = read(tmp_path, *names)
    assert {split: sum(map(len, part.values())) for split, part in found.parts.items()} == {"train": 1, "val": 1}
    flat, passed = found.notes
    assert "test: 1 file without class folders" in flat
    assert "4 names passed over" in passed
    for words in ("in no split: extra/, loose.png", "in no class folder: train/3.png", "hidden: train/a/.h.png"):
        assert words in passed


@pytest.mark.parametrize(
    ("names", "keys", "words"),
    [
        (["0.png"], {}, "holds 1 picture but no class folders; expected one folder per class"),
        (["0.png"], {"noun": "identity"}, "no identity folders; expected one folder per identity"),
        ([], {}, "holds no class folders"),
        (["train/a/0.png", "val/0.png"], {}, "val: holds 1 picture but no class folders"),
        (["a/0.png"], {"layout": "splits"}, "expects folders named train, val, test; found a"),
        (["val/a/0.png", "valid/a/0.png"], {}, "val and valid both mean val"),
    ],
)
def test_folders_without_labels(tmp_path, names, keys, words):
    with pytest.raises(DataError) as error:
        read(tmp_path, *names, **keys)
    assert words in str(error.value)
