"""Folders, tables and lists of pairs: who comes into which split, and in which batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from visiontl_face.batches import identity_batches
from visiontl_face.data import NOBODY, data
from visiontl_face.lfw import key, lfw_pairs

from tests.face import made
from tests.face.made import config, write
from tests.shared import shared
from visiontl import DataError, ImageSpec

SPEC = ImageSpec(size=(32, 32))


def people(split) -> set[str]:
    return {item.identity for item in split.items}


def test_people_held_out_are_in_one_split_alone(tmp_path):
    folder = made.folders(tmp_path / "faces", people=12)
    cfg = config(data={"folder": str(folder), "val_fraction": 0.2, "test_fraction": 0.25})
    found = data(cfg, SPEC)
    train, val, test = people(found.train), people(found.val), people(found.test)
    assert (len(train), len(val), len(test)) == (7, 2, 3)
    assert len(train | val | test) == 12
    assert found.meta == {"identities": sorted(train)}
    again = data(cfg, SPEC)
    assert people(again.val) == val
    other = config(data={"folder": str(folder), "val_fraction": 0.2, "test_fraction": 0.25, "split_seed": 5})
    assert people(data(other, SPEC).val) != val


def test_given_splits_are_kept_and_labels_are_of_training_people(tmp_path):
    found = data(config(data=str(made.splits(tmp_path / "faces"))), SPEC)
    assert found.meta == {"identities": [f"p{i}" for i in range(5)]}
    assert [found.train[i, 0]["label"] for i in range(0, 15, 3)] == [0, 1, 2, 3, 4]
    assert found.val[0, 0]["label"] == NOBODY
    assert found.val[0, 0]["about"] == {"name": "val/p5/0.png", "identity": "p5", "group": "", "pairs": None}


def test_a_missing_val_is_taken_from_train_people(tmp_path):
    folder = made.splits(tmp_path / "faces")
    (folder / "val").rename(tmp_path / "aside")
    found = data(config(data=str(folder)), SPEC)
    assert len(people(found.val)) == 2
    assert not people(found.val) & people(found.train)
    assert any("held out of train" in note for note in found.notes)


def test_people_with_few_images_are_left_out_of_train_and_counted(tmp_path):
    folder = made.splits(tmp_path / "faces")
    made.picture(folder / "train/lonely/0.png", 20, 0)
    found = data(config(data=str(folder)), SPEC)
    assert "lonely" not in people(found.train)
    assert any("1 identity with fewer than task.min_images: 2" in note and "lonely" in note for note in found.notes)
    assert "lonely" in people(data(config(data=str(folder), min_images=1), SPEC).train)


def test_a_table_states_paths_identities_splits_and_groups(tmp_path):
    made.folders(tmp_path)
    lines = ["path;identity;split;group"]
    for person in range(8):
        split = "train" if person < 4 else "val" if person < 6 else "test"
        lines += [f"p{person}/{i}.png;person {person};{split};{'ab'[person % 2]}" for i in range(3)]
    found = data(config(data=str(write(tmp_path / "faces.csv", "\n".join(lines)))), SPEC)
    assert people(found.val) == {"person 4", "person 5"}
    assert {item.group for item in found.test.items} == {"a", "b"}
    assert found.meta["identities"] == [f"person {i}" for i in range(4)]


def test_given_meta_a_source_without_splits_is_all_test(tmp_path):
    folder = made.folders(tmp_path / "faces")
    found = data(config(data=str(folder)), SPEC, {"identities": ["someone", "p3"]})
    assert found.splits().keys() == {"test"}
    assert len(found.test) == 24
    assert {found.test[i, 0]["label"] for i in range(24)} == {NOBODY, 1}


def test_still_is_train_without_augmentation(tmp_path):
    folder = str(made.splits(tmp_path / "faces"))
    found = data(config(data=folder, augment="light"), SPEC)
    plain = data(config(data=folder, augment="none"), SPEC)
    assert plain.still is None
    looks = [found.train[0, seed]["image"] for seed in range(6)]
    assert any(not torch.equal(looks[0], look) for look in looks)
    for seed in (1, 2):
        assert torch.equal(found.still[3, seed]["image"], plain.train[3, 0]["image"])
    assert found.still.names == found.train.names


def test_pairs_of_a_table(tmp_path):
    folder = made.splits(tmp_path / "faces")
    lines = "file_a,file_b,same\ntest/p7/0.png,test/p7/1.png,1\n./test/p7/0.png,test/p8/2.png,false\n"
    found = data(config(data=str(folder), pairs=str(write(tmp_path / "pairs.csv", lines))), SPEC)
    assert found.test[0, 0]["about"]["pairs"] == [("test/p7/1.png", True, -1), ("test/p8/2.png", False, -1)]
    assert found.test[1, 0]["about"]["pairs"] == []
    assert found.val[0, 0]["about"]["pairs"] is None


LFW = "2\t2\nPerson_A\t1\t2\nPerson_B\t1\t3\nPerson_A\t1\tPerson_C\t2\nPerson_D\t1\tPerson_E\t1\n"
LFW += "Person_C\t1\t2\nPerson_D\t2\t3\nPerson_B\t2\tPerson_F\t3\nPerson_C\t3\tPerson_F\t1\n"


def test_lfws_pairs_have_folds_and_find_their_files(tmp_path):
    folder = made.lfw(tmp_path / "lfw")
    cfg = config(data=str(folder), pairs=str(write(tmp_path / "pairs.txt", LFW)))
    found = data(cfg, SPEC, {"identities": []})
    first = {name: i for i, name in enumerate(found.test.names)}["Person_A/Person_A_0001.jpg"]
    assert found.test[first, 0]["about"]["pairs"] == [
        ("Person_A/Person_A_0002.jpg", True, 0),
        ("Person_C/Person_C_0002.jpg", False, 0),
    ]
    folds = [pair.fold for pairs in found.test.pairs.values() for pair in pairs]
    assert sorted(folds) == [0] * 4 + [1] * 4


def test_missing_images_of_lfws_pairs_are_named_or_left_out(tmp_path):
    folder = made.lfw(tmp_path / "lfw")
    (folder / "Person_F/Person_F_0003.jpg").unlink()
    pairs = str(write(tmp_path / "pairs.txt", LFW))
    with pytest.raises(DataError, match=r"1 image of its pairs is not in .*Person_F/Person_F_0003 \(line 8\)"):
        data(config(data=str(folder), pairs=pairs), SPEC, {"identities": []})
    cfg = config(data=str(folder), pairs={"test": pairs, "missing": "skip"})
    found = data(cfg, SPEC, {"identities": []})
    assert sum(len(some) for some in found.test.pairs.values()) == 7
    assert any("1 pair of 8 left out" in note and "Person_F_0003" in note for note in found.notes)


def test_the_official_list_of_lfw_is_read():
    """6,000 pairs: ten folds of 300 of one person and 300 of two."""
    pairs = lfw_pairs(shared("labels/lfw_pairs.txt"))
    assert len(pairs) == 6000
    assert Counter((pair.fold, pair.same) for pair in pairs) == {(f, s): 300 for f in range(10) for s in (True, False)}
    assert all(len(pair.readings) == 1 for pair in pairs)
    assert list(map(key, pairs[0].readings[0])) == ["Abel_Pacheco/Abel_Pacheco_0001", "Abel_Pacheco/Abel_Pacheco_0004"]


@pytest.mark.parametrize(("people", "images"), [(4, 3), (6, 2), (2, 6)])
def test_batches_hold_p_people_with_k_images_each(people, images):
    labels = np.repeat(np.arange(6), 5)
    for epoch in range(3):
        batches = identity_batches(labels, images, "train", 0, epoch, people * images)
        assert len(batches) == max(1, 30 // (people * images))
        for batch in batches:
            assert sorted(Counter(labels[batch]).values()) == [images] * people
    chosen = [i for batch in identity_batches(labels, 2, "train", 0, 0, 4) for i in batch]
    for person in range(6):
        own = [i for i in chosen if labels[i] == person]
        assert len(set(own[:5])) == len(own[:5]), "within a person no image comes again before all did"
    assert identity_batches(labels, 2, "train", 0, 0, 4) == identity_batches(labels, 2, "train", 0, 0, 4)
    assert identity_batches(labels, 2, "train", 0, 0, 4) != identity_batches(labels, 2, "train", 0, 1, 4)


def test_people_come_equally_often():
    labels = np.repeat(np.arange(7), [2, 3, 9, 4, 4, 4, 30])
    counted = Counter(labels[[i for batch in identity_batches(labels, 2, "train", 1, 0, 6) for i in batch]].tolist())
    assert max(counted.values()) - min(counted.values()) <= 2


def test_more_people_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"wants 4 people in a batch, and train has 3; make train.batch_size at most 6"):
        identity_batches(np.repeat(np.arange(3), 4), 2, "train", 0, 0, 8)
