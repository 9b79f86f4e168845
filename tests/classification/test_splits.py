from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from visiontl_classification.listing import Item
from visiontl_classification.splits import stratified

from tests.classification.helpers import folders, read
from visiontl import DataError


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    val=st.floats(0.01, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 99),
)
def test_every_class_is_in_every_split_in_proportion(counts, val, test, seed):
    items = [Item(f"{label}/{i}.jpg", (str(label),)) for label, count in enumerate(counts) for i in range(count)]
    split = stratified(items, {"val": val, "test": test}, seed)
    assert sorted(item.name for part in split.values() for item in part) == sorted(item.name for item in items)
    assert ("test" in split) == (test > 0)
    share = {"val": val, "test": test, "train": 1 - val - test}
    for label, count in enumerate(counts):
        for name, part in split.items():
            here = sum(item.classes == (str(label),) for item in part)
            if count >= 3:
                assert here >= 1
            assert abs(here - share[name] * count) <= 2  # rounding of each, and one each guaranteed
        assert any(item.classes == (str(label),) for item in split["train"])


def test_the_split_is_a_function_of_seed_and_names_alone():
    items = [Item(f"a/{i}", ("a",)) for i in range(50)]
    first = stratified(items, {"val": 0.2}, 0)
    assert stratified(items[::-1], {"val": 0.2}, 0) == first
    assert stratified(items, {"val": 0.2}, 1) != first
    with_more = stratified([*items, Item("b/0", ("b",))], {"val": 0.2}, 0)
    assert [item for item in with_more["val"] if item.classes == ("a",)] == first["val"]


def test_images_with_several_labels_are_split_by_the_rarest():
    items = [Item(str(i), ("common", "rare") if i < 10 else ("common",)) for i in range(100)]
    split = stratified(items, {"val": 0.2}, 3)
    assert Counter("rare" in item.classes for item in split["val"]) == {True: 2, False: 18}


def test_a_bare_folder_is_split_and_the_split_said(tmp_path):
    folders(tmp_path, {"a": 20, "b": 10})
    data = read({"folder": str(tmp_path), "val_fraction": 0.2, "test_fraction": 0.1, "split_seed": 5})
    counts = {name: Counter(split.targets.tolist()) for name, split in data.splits().items()}
    assert counts == {"train": {0: 14, 1: 7}, "val": {0: 4, 1: 2}, "test": {0: 2, 1: 1}}
    assert any("seed 5 into 21 train, 6 val, 3 test" in note for note in data.notes)
    assert set(read({"folder": str(tmp_path), "split": "none"}, data.meta).splits()) == {"test"}


def write_lists(folder, splits):
    folder.mkdir(exist_ok=True)
    for name, split in splits.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in split.names))


def test_saved_lists_give_the_same_split_again(tmp_path):
    source = folders(tmp_path / "photos", {"a": 9, "b": 12})
    first = read({"folder": str(source), "split_seed": 7})
    write_lists(tmp_path / "lists", first.splits())
    again = read({"folder": str(source), "lists": str(tmp_path / "lists")})
    assert {name: list(split.names) for name, split in again.splits().items()} == {
        name: list(split.names) for name, split in first.splits().items()
    }
    assert again.val.targets.tolist() == first.val.targets.tolist()
    folders(source, {"b": 13})
    more = read({"folder": str(source), "lists": str(tmp_path / "lists")})
    assert len(more.train) == len(first.train)
    assert any("1 image not listed" in note and "b/12.png" in note for note in more.notes)


def test_lists_that_do_not_fit(tmp_path):
    source = folders(tmp_path / "photos", {"a": 3, "b": 3})
    lists = tmp_path / "lists"
    lists.mkdir()
    with pytest.raises(DataError, match=r"holds no train\.txt, val\.txt or test\.txt"):
        read({"folder": str(source), "lists": str(lists)})
    (lists / "train.txt").write_text("a/0.png\nb/0.pgn\n")
    with pytest.raises(DataError, match=r"1 name not in .*: b/0\.pgn; did you mean 'b/0\.png'"):
        read({"folder": str(source), "lists": str(lists)})
    (lists / "train.txt").write_text("a/0.png\nb/0.png\n")
    (lists / "val.txt").write_text("b/0.png\n")
    with pytest.raises(DataError, match=r"already in train\.txt"):
        read({"folder": str(source), "lists": str(lists)})
