"""COCO JSON as every task reads it: an index by id, and mistakes in words that name the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from visiontl import DataError
from visiontl.kit.bad_annotations import BadAnnotations
from visiontl.kit.coco import Coco, Options, as_float, is_crowd, is_number, is_whole, read_files
from visiontl.kit.folders import Folders

TRAIN = "annotations/train.json"


def content() -> dict[str, Any]:
    """Three images and categories with gaps in their ids; annotations in no order."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 6, "width": 8} for n in (9, 4, 7)],
        "categories": [{"id": 30, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 30, "value": 5},
            {"id": 2, "image_id": 9, "category_id": 2, "value": 6},
            {"id": "three", "image_id": 7, "category_id": 2, "value": 7},
        ],
    }


def written(root: Path, change: Callable[[dict[str, Any]], Any] = lambda c: None, file: str = TRAIN) -> Folders:
    made = content()
    change(made)
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(json.dumps(made))
    (root / "images").mkdir(exist_ok=True)
    for number in (9, 4, 7):
        Image.new("RGB", (8, 6)).save(root / f"images/{number}.png")
    return Folders(str(root))


def own(record: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[Any, tuple[int, int] | None]:
    if not is_whole(record.get("value")):
        raise ValueError("it has no value")
    return record["value"], size


def read(folders: Folders, **more: str) -> Coco[Any]:
    return read_files(folders, {"train": TRAIN, **more}, own)


def test_images_categories_and_annotations_are_found_by_id(tmp_path):
    found = read(written(tmp_path))
    part = found.parts["train"]
    assert found.categories == {30: "dog", 2: "cat"}
    assert part.names == ["images/9.png", "images/4.png", "images/7.png"]
    assert [(part.names[o], c, v) for o, c, (v, _) in zip(part.owner, part.category, part.own, strict=True)] == [
        ("images/7.png", 30, 5), ("images/9.png", 2, 6), ("images/7.png", 2, 7),
    ]  # fmt: skip
    assert [size for _, size in part.own] == [(6, 8)] * 3
    assert part.called == ["annotation 1", "annotation 2", "annotation three"]
    assert found.notes == []


def test_sizes_that_are_not_stated_come_from_the_pictures(tmp_path):
    folders = written(tmp_path, lambda c: c["images"][2].pop("width"))
    Image.new("RGB", (5, 3)).save(tmp_path / "images/7.png")
    found = read(folders)
    assert found.parts["train"].sizes == [(6, 8), (6, 8), (3, 5)]
    assert [size for _, size in found.parts["train"].own] == [(3, 5), (6, 8), (3, 5)]
    assert found.notes == ["train: 1 image without width and height; read from the files"]


def test_a_test_without_annotations_is_left_out_unless_it_was_asked_for(tmp_path):
    written(tmp_path, lambda c: c.pop("annotations"), "annotations/test.json")
    folders, files = written(tmp_path), {"test": "annotations/test.json", "train": TRAIN}
    found = read_files(folders, files, own)
    assert list(found.parts) == ["train"]
    assert "has no annotations; not used" in found.notes[0]
    with pytest.raises(DataError, match="'annotations'"):
        read_files(folders, files, own, Options(test_counts=True))


def test_the_supercategory_of_all_that_nothing_has_is_left_out(tmp_path):
    def roboflow(c: dict[str, Any]) -> None:
        c["categories"] = [{"id": 0, "name": "pets"}, *({**one, "supercategory": "pets"} for one in c["categories"])]

    found = read(written(tmp_path, roboflow))
    assert found.categories == {30: "dog", 2: "cat"}
    assert "supercategory of others left out: pets" in found.notes[0]


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c.pop("images"), ("'images'",)),
    (lambda c: c.update(categories=[]), ("categories is empty",)),
    (lambda c: c.update(images={}), ("images is an object",)),
    (lambda c: c["annotations"].append([1]), ("annotations[3] is a list",)),
    (lambda c: c["categories"][0].pop("name"), ("categories[0]", "name None")),
    (lambda c: c["categories"][0].update(id=[30]), ("categories[0]", "[30]")),
    (lambda c: c["categories"][0].update(id=True), ("categories[0]", "True")),
    (lambda c: c["categories"][0].update(id=10**30), ("categories[0]",)),
    (lambda c: c["categories"][1].update(id=30), ("category id 30 stands twice, for dog and cat",)),
    (lambda c: c["categories"][1].update(name="dog"), ("category dog has the ids 30 and 2",)),
    (lambda c: c["images"][0].update(id={}), ("images[0]", "an object")),
    (lambda c: c["images"][0].update(id=4), ("image id 4 stands twice",)),
    (lambda c: c["images"][0].update(file_name="4.png"), ("4.png is listed twice, as image 9 and 4",)),
    (lambda c: c["images"][0].update(file_name="../9.png"), ("image 9", "leaves the data set's folder")),
    (lambda c: c["images"][0].update(file_name=["9.png"]), ("image 9", "is no file name")),
    (lambda c: c["images"][0].update(height="6"), ("image 9", 'height "6"')),
    (lambda c: c["images"][0].update(height=float("nan")), ("image 9", "height NaN")),
    (lambda c: c["images"][0].update(height=10**400), ("image 9",)),
    (lambda c: c["images"][0].update(height=10**5, width=10**5), ("image 9", "more than 89,478,485 pixels")),
    (lambda c: c["images"].append({"id": 1, "file_name": "1.png"}), ("1 of 4 images not found", "images/1.png")),
    (lambda c: c["annotations"][0].update(id=[1]), ("annotations[0]", "a list")),
    (lambda c: c["annotations"][0].update(id=2), ("annotation 2 stands twice",)),
    (lambda c: c["annotations"][0].update(image_id=[7]), ("annotation 1: no image has the id [7]",)),
    (lambda c: c["annotations"][0].update(image_id=7.0), ("annotation 1: no image has the id 7.0",)),
    (lambda c: c["annotations"][0].update(category_id={}), ("annotation 1: no category has the id {}", "30, 2")),
    (lambda c: c["annotations"][0].pop("value"), ("annotation 1 (image images/7.png): it has no value",)),
    (lambda c: [one.pop("value") for one in c["annotations"]], ("3 errors", "annotation 1", "annotation three")),
])  # fmt: skip
def test_mistakes_are_told_in_words(tmp_path, change, words):
    with pytest.raises(DataError) as raised:
        read(written(tmp_path, change))
    for word in (*words, "train.json"):
        assert word in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "[" * 200_000, '{"images": ' + "1" * 10_000 + "}", "\xff"])
def test_what_is_no_object_of_json_is_told_in_words(tmp_path, text):
    folders = written(tmp_path)
    (tmp_path / TRAIN).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"train\.json: (not valid JSON|holds|nested too deeply|not UTF-8)"):
        read(folders)


def test_splits_must_agree_on_their_categories(tmp_path):
    written(tmp_path, lambda c: c["categories"][0].update(name="wolf"), "annotations/val.json")
    with pytest.raises(DataError, match=r"val\.json: category id 30 is wolf here and dog in another split"):
        read(written(tmp_path), val="annotations/val.json")


def test_pictures_that_are_nowhere(tmp_path):
    folders = written(tmp_path)
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"no folder holds 9\.png; elsewhere/9\.png is there.*; looked in .*; say where"
    ):
        read_files(folders, {"train": TRAIN}, own, Options(hint="say where"))
    assert read_files(folders, {"train": TRAIN}, own, Options("elsewhere")).parts["train"].names[0] == "elsewhere/9.png"
    with pytest.raises(DataError, match="did you mean 'elsewhere'"):
        read_files(folders, {"train": TRAIN}, own, Options("elsewere"))


def test_numbers():
    assert [is_number(one) for one in (1, 1.5, True, "1", None, [1])] == [True, True, False, False, False, False]
    assert [is_whole(one, 0) for one in (0, -1, 2**53, True, 1.0)] == [True, False, False, False, False]
    assert [as_float(one) for one in (3, 10**400, -(10**400))] == [3.0, float("inf"), float("-inf")]
    assert [is_crowd({"iscrowd": one}) for one in (0, 1, True)] == [False, True, True]
    assert not is_crowd({})
    for wrong in (2, "1", [1], None, 0.0):
        with pytest.raises(ValueError, match="iscrowd is"):
            is_crowd({"iscrowd": wrong})


def test_annotations_that_cannot_be_used_end_the_reading_or_are_left_out_and_counted(tmp_path):
    folders = written(tmp_path, lambda c: [c["annotations"][0].pop("value"), c["annotations"][1].update(image_id=5)])
    with pytest.raises(DataError, match=r"(?s)2 errors.*annotation 1 \(.*annotation 2: no image.*=skip"):
        read(folders)
    found = read_files(folders, {"train": TRAIN}, own, Options(bad=BadAnnotations("skip", 0.7)))
    assert found.parts["train"].called == ["annotation three"]
    assert found.notes == [
        "train: 2 annotations of 3 cannot be used, left out (task.data.on_bad_annotation): annotation 1 "
        "(image images/7.png): it has no value, annotation 2: no image has the id 5"
    ]
    with pytest.raises(DataError, match=r"train: 2 annotations of 3 cannot be used, more than .*max_bad_annotations=0"):
        read_files(folders, {"train": TRAIN}, own, Options(bad=BadAnnotations("skip", 0.5)))


def test_two_annotations_of_one_id_are_an_error_whatever_is_left_out(tmp_path):
    folders = written(tmp_path, lambda c: c["annotations"][1].update(id=1))
    with pytest.raises(DataError, match="annotation 1 stands twice"):
        read_files(folders, {"train": TRAIN}, own, Options(bad=BadAnnotations("skip", 1)))
