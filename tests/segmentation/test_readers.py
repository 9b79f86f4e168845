"""Every kind of mask and every layout gives the class indices that were written, with the right names."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from visiontl_segmentation.data import data

from tests.segmentation import made
from tests.segmentation.made import config, truth
from visiontl import DataError, ImageSpec

SPEC = ImageSpec(size=made.SIZE)


def masks(found, split: str = "train") -> dict[str, np.ndarray]:
    part = getattr(found, split)
    stems = [name.rpartition("/")[2].partition(".")[0] for name in part.names]
    return {stem: part[i, 0]["truth"].numpy() for i, stem in enumerate(stems)}


def still(folder, **keys):
    return config(folder, {"augment": "none"}, **keys)


@pytest.mark.parametrize("kind", [made.index_mask, made.palette_mask], ids=["gray", "palette"])
@pytest.mark.parametrize("place", ["{kind}/{split}", "{split}/{kind}"])
def test_indices(tmp_path, kind, place):
    found = data(still(made.folders(tmp_path, kind, place)), SPEC)
    assert found.meta["classes"] == ["ground", "cat", "dog"]
    assert {split: len(part) for split, part in found.splits().items()} == {"train": 3, "val": 1, "test": 1}
    for stem, mask in {**masks(found), **masks(found, "val")}.items():
        assert np.array_equal(mask, truth(stem))
    pixels = np.concatenate([truth(stem).ravel() for stem in "abc"])
    assert found.meta["counts"] == [int((pixels == k).sum()) for k in range(3)]


def test_the_same_in_16_bits_and_as_gray_rgb(tmp_path):
    made.folders(tmp_path)
    for split, stems in made.SPLITS.items():
        for stem in stems:
            file = tmp_path / f"masks/{split}/{stem}.png"
            wide = truth(stem).astype(np.uint16)
            if stem in "ad":
                Image.fromarray(wide).save(file)
            else:
                Image.fromarray(np.stack([truth(stem)] * 3, -1)).save(file)
    found = data(still(tmp_path, values="index"), SPEC)
    assert all(np.array_equal(mask, truth(stem)) for stem, mask in masks(found).items())


def test_colors(tmp_path):
    made.folders(tmp_path, made.color_mask, names=None)
    table = {name: list(color) for name, color in made.COLORS.items()}
    found = data(still(tmp_path, colors=table), SPEC)
    assert found.meta["classes"] == ["ground", "cat", "dog"]
    assert found.meta["colors"] == [list(color) for color in made.COLORS.values()]
    for stem, mask in masks(found).items():
        assert np.array_equal(mask, np.where(truth(stem) == 255, 0, truth(stem)))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_dict.csv", "name,r,g,b\nground,0,0,0\ncat,200,30,30\ndog,30,30,200\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nground:0,0,0::\ncat:200,30,30::\ndog:30,30,200::\n"),
    ],
)
def test_tables_of_colors_beside_the_data(tmp_path, file, text):
    made.folders(tmp_path, made.color_mask, names=None)
    made.write(tmp_path / file, text)
    found = data(still(tmp_path), SPEC)  # told by the masks themselves
    assert found.meta["classes"] == ["ground", "cat", "dog"]
    assert masks(found)["a"].max() == 2


def test_a_color_may_be_ignored(tmp_path):
    made.folders(tmp_path, made.color_mask, names=None)
    table = {name: list(color) for name, color in made.COLORS.items()}
    found = data(still(tmp_path, colors=table, ignore_index="cat"), SPEC)
    assert found.meta["classes"] == ["ground", "dog"]
    assert np.array_equal(masks(found)["a"] == 255, truth("a") == 1)


def test_binary(tmp_path):
    found = data(still(made.folders(tmp_path, made.binary_mask, names=None)), SPEC)
    assert found.meta["classes"] == ["background", "foreground"]
    assert found.meta["background"] == 0
    assert any("0 and 255" in note for note in found.notes)
    for stem, mask in masks(found).items():
        assert np.array_equal(mask, np.isin(truth(stem), (1, 2)))
    named = data(still(tmp_path, classes=["road", "not road"]), SPEC)
    assert named.meta["classes"] == ["road", "not road"]


def test_voc(tmp_path):
    found = data(still(made.voc(tmp_path), classes=["ground", "cat", "dog"]), SPEC)
    assert sorted(masks(found)) == ["a", "b", "c"]
    assert np.array_equal(masks(found)["b"], truth("b"))


def test_voc_without_lists_is_split_by_names(tmp_path):
    made.voc(tmp_path / "VOCdevkit/VOC2012", lists=False)
    found = data(still(tmp_path, val_fraction=0.4), SPEC)
    assert len(found.val) == 2
    assert any("ImageSets" in note for note in found.notes)
    assert any("class 0" in note for note in found.notes)
    again = data(still(tmp_path, val_fraction=0.4), SPEC)
    assert found.val.names == again.val.names


def test_coco_polygons_and_codes(tmp_path):
    found = data(still(made.coco(tmp_path)), SPEC)
    assert found.meta["classes"] == ["background", "cat", "dog"]
    masks_found = masks(found)
    polygons = masks_found["a"]
    assert set(np.unique(polygons)) == {0, 1, 2}
    assert polygons[4, 5] == 1, "the smaller region lies on top of the larger one"
    assert polygons[2, 3] == 2
    assert polygons[10, 14] == 0
    coded = masks_found["b"]
    column = np.zeros(made.SIZE, dtype=bool).T.copy().ravel()
    column[3:8] = True
    runs = column.reshape(made.SIZE[::-1]).T  # codes go down the columns
    assert np.array_equal(coded == 1, runs)
    assert np.array_equal(coded == 2, (truth("b") == 1) & ~runs)


def test_coco_background_can_be_left_out(tmp_path):
    made.coco(tmp_path)
    found = data(still(tmp_path, background="background", background_policy="ignore"), SPEC)
    assert found.meta["classes"] == ["cat", "dog"]
    assert masks(found)["a"][10, 14] == 255


def test_numbers_and_names_are_ignored_alike(tmp_path):
    made.folders(tmp_path)
    by_number = data(still(tmp_path, ignore_index=[255, 1]), SPEC)
    by_name = data(still(tmp_path, ignore_index=[255, "cat"]), SPEC)
    for found in (by_number, by_name):
        assert found.meta["classes"] == ["ground", "dog"]
        expected = np.where(truth("a") == 1, 255, np.where(truth("a") == 2, 1, truth("a")))
        assert np.array_equal(masks(found)["a"], expected)


def test_suffixes_and_folders_inside(tmp_path):
    made.folders(tmp_path, place="{kind}/{split}/town", suffix="_ids")
    made.color_mask(truth("a")).save(tmp_path / "masks/train/town/a_color.png")
    found = data(still(tmp_path, mask_suffix="_ids"), SPEC)
    assert found.train.names == ["images/train/town/a.png", "images/train/town/b.png", "images/train/town/c.png"]


def test_unpaired_files_may_be_skipped(tmp_path):
    made.folders(tmp_path)
    made.picture(tmp_path / "images/train/lonely.png")
    made.index_mask(truth("a")).save(tmp_path / "masks/train/orphan.png")
    found = data(still(tmp_path, unpaired="skip"), SPEC)
    assert len(found.train) == 3
    notes = " ".join(found.notes)
    assert "1 image without mask" in notes
    assert "lonely.png" in notes
    assert "orphan.png" in notes


def test_a_mask_of_nothing_but_ignored_pixels_is_used_and_told(tmp_path):
    made.folders(tmp_path)
    Image.fromarray(np.full(made.SIZE, 255, dtype=np.uint8)).save(tmp_path / "masks/train/a.png")
    found = data(still(tmp_path), SPEC)
    assert "train: 1 mask with nothing but ignored pixels" in found.notes


def test_the_photo_is_turned_as_its_mask_was_drawn(tmp_path):
    made.folders(tmp_path)
    made.picture(tmp_path / "images/train/f.jpg", made.SIZE[::-1], orientation=6)
    made.index_mask(truth("f")).save(tmp_path / "masks/train/f.png")
    found = data(still(tmp_path), SPEC)
    assert np.array_equal(masks(found)["f"], truth("f"))


def test_a_trained_models_classes_are_matched_by_name(tmp_path):
    meta = data(still(made.folders(tmp_path / "own")), SPEC).meta
    made.folders(tmp_path / "other", names="dog\nground\ncat\n")
    found = data(still(tmp_path / "other"), SPEC, meta)
    expected = np.array([2, 0, 1], dtype=np.uint8)  # their dog is our 2 ...
    given = truth("e")
    assert np.array_equal(masks(found, "test")["e"], np.where(given == 255, 255, expected[np.minimum(given, 2)]))


def test_unnamed_values_mean_what_they_meant_in_training(tmp_path):
    meta = data(still(made.folders(tmp_path / "own"), ignore_index=[255, "cat"]), SPEC).meta
    found = data(still(made.folders(tmp_path / "other", names=None)), SPEC, meta)
    assert any("in training" in note for note in found.notes)
    assert np.array_equal(masks(found, "test")["e"] == 1, truth("e") == 2)


def test_a_class_that_the_model_does_not_know_is_refused(tmp_path):
    meta = data(still(made.folders(tmp_path / "own")), SPEC).meta
    made.folders(tmp_path / "other", names="ground\ncat\nbird\n")
    with pytest.raises(DataError, match=r"masks/test/e\.png: 2 on"):
        data(still(tmp_path / "other"), SPEC, meta)
