"""Names of splits, and who is held out."""

from __future__ import annotations

import hashlib

import pytest

from visiontl import DataError
from visiontl.kit.splits import hold_out, in_order, split_names, split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "TRAIN", "trn"]),
        ("val", ["val", "valid", "Validation", " val "]),
        ("test", ["test", "testing"]),
        (None, ["trains", "", "dev set", "evaluation"]),
    ],
)
def test_names_of_splits(split, names):
    assert {split_of(name) for name in names} == {split}


def test_two_names_of_one_split_are_refused():
    assert split_names("set", ["testing", "cats", "Training"]) == {"train": "Training", "test": "testing"}
    with pytest.raises(DataError, match="set: val and valid both mean val; keep one"):
        split_names("set", ["val", "train", "valid"])


def test_the_first_by_hash_are_held_out():
    names = [f"{i}.png" for i in range(30)]
    by_hand = sorted(names, key=lambda name: hashlib.sha256(f"7:{name}".encode()).hexdigest())
    parts = hold_out(names[::-1], str, {"val": 0.2, "test": 0.1}, 7)
    assert parts == {"train": sorted(by_hand[9:]), "val": sorted(by_hand[:6]), "test": sorted(by_hand[6:9])}


def test_one_more_leaves_the_others_where_they_were():
    names = [f"{i}.png" for i in range(100)]
    before = hold_out(names, str, {"val": 0.1}, 0)["val"]
    for more in range(20):
        after = hold_out([*names, f"new{more}.png"], str, {"val": 0.1}, 0)["val"]
        assert len(set(before) - set(after)) <= 1
        assert set(after) - set(before) <= {f"new{more}.png"}


def test_strata_each_give_their_share_and_train_goes_first():
    items = [f"{label}{i}" for label, number in {"a": 20, "b": 10, "c": 2, "d": 1}.items() for i in range(number)]
    parts = hold_out(items, str, {"val": 0.2, "test": 0.1}, 0, stratum=lambda item: item[0])
    counts = {split: [sum(item[0] == label for item in part) for label in "abcd"] for split, part in parts.items()}
    assert counts == {"train": [14, 7, 1, 1], "val": [4, 2, 1, 0], "test": [2, 1, 0, 0]}
    assert sorted(item for part in parts.values() for item in part) == sorted(items)


def test_at_least_so_many():
    assert len(hold_out(range(20), str, {"val": 0.01}, 0, least=2)["val"]) == 2
    assert hold_out(["a"], str, {"val": 0.5}, 0) == {"train": ["a"], "val": []}
    assert hold_out(["a", "b"], str, {"val": 0}, 0) == {"train": ["a", "b"]}


def test_odd_names_have_a_place():
    assert len(hold_out(["not\udcffutf8", "a", "b"], str, {"val": 0.3}, 0)["val"]) == 1


def test_splits_come_in_order_and_empty_ones_not_at_all():
    assert list(in_order({"test": [1], "whole": [2], "val": [], "train": [3]})) == ["train", "test"]
