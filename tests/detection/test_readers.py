"""Each format and layout, read back and compared with the boxes that the test wrote."""

from __future__ import annotations

import json
import pickle
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from pycocotools.coco import COCO
from visiontl_detection.data import data
from visiontl_detection.listing import Annotated
from visiontl_detection.readers import read

from tests.detection import made
from tests.detection.made import SPLITS, Photo, config, picture, source, write
from tests.shared import shared
from visiontl import DataError, ImageSpec


def stem(name: str) -> str:
    return PurePosixPath(name).stem


def boxes(listing, images: list[Annotated]) -> dict[str, list[tuple]]:
    """image -> [(class, x1, y1, x2, y2)], rounded to a millionth of a pixel."""
    return {
        stem(image.name): [
            (listing.classes[label], *(round(side, 6) for side in box))
            for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)
        ]
        for image in images
    }


def check_same(listing, splits=SPLITS) -> None:
    assert list(listing.parts) == [split for split in ("train", "val", "test") if split in splits]
    assert list(listing.classes) == ["cat", "dog"]
    for split, photos in splits.items():
        wanted = {name: [tuple(box) for box in photo.boxes] for name, photo in photos.items()}
        assert boxes(listing, listing.parts[split]) == wanted
        for image in listing.parts[split]:
            photo = photos[stem(image.name)]
            assert image.size == photo.size[::-1]
            assert Path(listing.base, image.name).is_file()
            np.testing.assert_allclose(image.area, [(x2 - x1) * (y2 - y1) for _, x1, y1, x2, y2 in photo.boxes])
            assert not image.ignored.any()


COCO_LAYOUTS = {
    "annotations and images": ("annotations/{split}.json", "images"),
    "images by split": ("annotations/{split}.json", "images/{split}"),
    "as COCO": ("annotations/instances_{split}2017.json", "{split}2017"),
    "as COCO below images": ("annotations/instances_{split}2014.json", "images/{split}2014"),
    "beside VOC's images": ("annotations_coco/{split}.json", "JPEGImages"),
    "as Roboflow": ("{split}/_annotations.coco.json", "{split}"),
    "beside split folders": ("{split}.json", "{split}"),
    "everything in one folder": ("annotations/{split}.json", "annotations"),
}


@pytest.mark.parametrize("layout", COCO_LAYOUTS)
def test_layouts_of_coco(tmp_path, layout):
    file, place = COCO_LAYOUTS[layout]
    made.coco(tmp_path, file=file, place=place)
    if layout == "as Roboflow":
        (tmp_path / "val").rename(tmp_path / "valid")
    listing = read(source(tmp_path))
    check_same(listing)
    assert listing.categories == [1, 2]


def test_annotations_of_coco_in_any_order(tmp_path):
    """Those of one image need not follow each other, and keep their order."""
    made.coco(tmp_path)
    file = tmp_path / "annotations/train.json"
    content = json.loads(file.read_text())
    content["annotations"] = [content["annotations"][i] for i in (2, 0, 3, 1)]
    for annotation, area in zip(content["annotations"], (5, 6, 7, 8), strict=True):
        annotation["area"] = area
    file.write_text(json.dumps(content))
    listing = read(source(tmp_path))
    wanted = {name: [tuple(box) for box in photo.boxes] for name, photo in SPLITS["train"].items()}
    assert boxes(listing, listing.parts["train"]) == wanted
    assert [image.area.tolist() for image in listing.parts["train"]] == [[6, 8], [5, 7], []]
    assert [list(image.ids) for image in listing.parts["train"]] == [
        ["annotation 1", "annotation 2"],
        ["annotation 3", "annotation 4"],
        [],
    ]


def test_named_files_of_coco(tmp_path):
    made.coco(tmp_path, file="labels/my_{split}.json", place="pictures/{split}")
    names = {split: f"labels/my_{split}.json" for split in SPLITS}
    check_same(read(source(tmp_path, images="pictures", **names)))
    only = read(source(tmp_path, images="pictures/train", train=names["train"], val_fraction=0))
    check_same(only, {"train": SPLITS["train"]})


def test_a_single_coco_file_is_split_by_names(tmp_path):
    everything = {name: photo for photos in SPLITS.values() for name, photo in photos.items()}
    made.coco(tmp_path, {"all": everything})
    listing = read(source(tmp_path, val_fraction=0.4))
    assert {split: len(images) for split, images in listing.parts.items()} == {"train": 3, "val": 2}
    for split, images in listing.parts.items():
        assert boxes(listing, images) == {
            stem(image.name): [tuple(box) for box in everything[stem(image.name)].boxes] for image in images
        }, split
    assert [note for note in listing.notes if "2 images of train became val" in note]
    again = read(source(tmp_path, val_fraction=0.4))
    assert [image.name for image in again.parts["val"]] == [image.name for image in listing.parts["val"]]
    others = [[image.name for image in read(source(tmp_path, val_fraction=0.4, split_seed=s)).parts["val"]]
              for s in range(6)]  # fmt: skip
    assert len({tuple(names) for names in others}) > 1
    evaluated = read(source(tmp_path), evaluation=True)
    assert {split: len(images) for split, images in evaluated.parts.items()} == {"test": 5}


def test_layouts_of_voc(tmp_path):
    check_same(read(source(made.voc(tmp_path / "flat"))))
    check_same(read(source(made.voc(tmp_path / "kit/VOC2007").parent)))
    check_same(read(source(made.voc(tmp_path / "above/VOCdevkit/VOC2012").parent.parent)))
    named = made.voc(tmp_path / "named")
    check_same(read(source(named, train="train.txt", val="ImageSets/Main/val.txt", test="test.txt")))


def test_voc_without_lists_is_split_by_names(tmp_path):
    listing = read(source(made.voc(tmp_path, lists=False)))
    assert {split: len(images) for split, images in listing.parts.items()} == {"train": 4, "val": 1}
    assert listing.categories is None


def test_trainval_serves_as_train_where_there_is_no_other(tmp_path):
    made.voc(tmp_path)
    write(tmp_path / "ImageSets/Main/trainval.txt", "a\nb\nc\nd\n")
    listing = read(source(tmp_path))
    check_same(listing)
    assert [note for note in listing.notes if "trainval.txt is not used" in note]
    (tmp_path / "ImageSets/Main/train.txt").unlink()
    (tmp_path / "ImageSets/Main/val.txt").unlink()
    listing = read(source(tmp_path, val_fraction=0.25))
    assert {split: len(images) for split, images in listing.parts.items()} == {"train": 3, "val": 1, "test": 1}


def test_difficult_objects_of_voc(tmp_path):
    made.voc(tmp_path, difficult=1)
    for treated, ignored in (("use", False), ("ignore", True)):
        listing = read(source(tmp_path, difficult=treated))
        assert all((image.ignored == ignored).all() for image in listing.parts["train"])
        assert [note for note in listing.notes if note.startswith("train: 4 boxes marked difficult")]


YAMLS = {
    "folders": "train: images/train\nval: images/val\ntest: images/test\nnames: [cat, dog]\nnc: 2\n",
    "names by number": "train: images/train\nval: images/val\ntest: images/test\nnames: {0: cat, 1: dog}\n",
    "a path": "path: .\ntrain: ./images/train/\nvalid: images/val\ntest: images/test\nnames:\n  1: dog\n  0: cat\n",
    "lists of folders": "train: [images/train]\nval: [images/val]\ntest: [images/test]\nnames: [cat, dog]\n",
    "as Roboflow": "train: ../images/train\nval: ../images/val\ntest: ../images/test\nnames: ['cat', 'dog']\nnc: 2\n",
    "of another machine": "path: /data/elsewhere\ntrain: images/train\nval: images/val\ntest: images/test\n"
    "names: [cat, dog]\n",
    "list files": "train: train.txt\nval: lists/val.txt\ntest: [test.txt]\nnames: [cat, dog]\n",
}


@pytest.mark.parametrize("settings", YAMLS)
def test_layouts_of_yolo(tmp_path, settings):
    made.yolo(tmp_path, settings=YAMLS[settings])
    write(tmp_path / "train.txt", "./images/train/a.png\nimages/train/b.png\n\nimages/train/c.png\n")
    write(tmp_path / "lists/val.txt", "images/val/d.png\n")
    write(tmp_path / "test.txt", "images/test/e.png")
    check_same(read(source(tmp_path)))


def test_images_in_the_split_folders_of_yolo(tmp_path):
    """train/images, train/labels; a folder named images above them must stay as it is."""
    root = tmp_path / "images" / "set"
    made.yolo(root, settings="train: train/images\nval: val/images\ntest: test/images\nnames: [cat, dog]\n")
    for split in SPLITS:
        (root / split).mkdir()
        (root / "images" / split).rename(root / split / "images")
        (root / "labels" / split).rename(root / split / "labels")
    check_same(read(source(root)))


def test_polygons_become_the_boxes_around_them(tmp_path):
    made.yolo(tmp_path)
    write(tmp_path / "labels/train/a.txt", "1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75\n0 0.5 0.5 0.5 0.5\n")
    listing = read(source(tmp_path))
    assert boxes(listing, listing.parts["train"])["a"] == [("dog", 16, 12, 48, 36), ("cat", 16, 12, 48, 36)]
    assert [note for note in listing.notes if note.startswith("train: 1 polygon,")]


def test_a_missing_label_file_is_an_image_without_boxes(tmp_path):
    made.yolo(tmp_path)
    (tmp_path / "labels/train/c.txt").unlink()
    listing = read(source(tmp_path))
    check_same(listing)
    assert [note for note in listing.notes if "train: 1 image without a label file" in note and "c.txt" in note]


def test_sizes_of_yolo_are_those_of_the_upright_photo(tmp_path):
    """Every EXIF orientation, and a TIFF, which Pillow turns by itself."""
    upright = Photo((60, 40), (("cat", 6, 4, 30, 20), ("dog", 3, 2, 48, 32)))
    turned = {f"t{number}": number for number in range(1, 9)}
    splits = {"train": dict.fromkeys([*turned, "tiff"], upright), "val": {"v": Photo()}}
    made.yolo(tmp_path, splits)
    for name, orientation in turned.items():
        (tmp_path / f"images/train/{name}.png").unlink()
        stored = (40, 60) if orientation >= 5 else (60, 40)
        picture(tmp_path / f"images/train/{name}.jpg", stored, orientation=orientation)
    (tmp_path / "images/train/tiff.png").unlink()
    picture(tmp_path / "images/train/tiff.tif", (40, 60), orientation=6)
    made_data = data(config(tmp_path), ImageSpec())
    assert made_data.train is not None
    assert len(made_data.train) == 9
    for i in range(9):
        sample = made_data.train[i, 0]
        assert tuple(sample["size"]) == (40, 60), made_data.train.names[i]
        np.testing.assert_allclose(sample["truth"]["boxes"], [[6, 4, 30, 20], [3, 2, 48, 32]])


def test_sizes_that_are_not_stated_are_read(tmp_path):
    root = made.coco(tmp_path / "coco")
    file = root / "annotations/train.json"
    content = json.loads(file.read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    file.write_text(json.dumps(content))
    listing = read(source(root))
    check_same(listing)
    assert [note for note in listing.notes if "train: 3 images without width and height" in note]
    root = made.voc(tmp_path / "voc")
    file = root / "Annotations/a.xml"
    file.write_text(file.read_text().replace("<width>64</width>", "<width>0</width>"))
    check_same(read(source(root)))


def test_category_ids_with_gaps_are_kept(tmp_path):
    made.coco(tmp_path, categories={"dog": 90, "cat": 7})
    listing = read(source(tmp_path))
    check_same(listing)  # classes in order of ids
    assert listing.categories == [7, 90]
    assert [note for note in listing.notes if "7 cat, 90 dog" in note]
    assert data(config(tmp_path), ImageSpec()).meta["categories"] == [7, 90]


def test_a_heading_of_categories_is_left_out(tmp_path):
    """As Roboflow writes it. A category without boxes that heads no others is an error."""
    made.coco(tmp_path, file="{split}/_annotations.coco.json", place="{split}")
    for split in SPLITS:
        file = tmp_path / split / "_annotations.coco.json"
        content = json.loads(file.read_text())
        for category in content["categories"]:
            category["supercategory"] = "pets"
        content["categories"].insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
        file.write_text(json.dumps(content))
    listing = read(source(tmp_path))
    check_same(listing)
    assert [note for note in listing.notes if "left out: pets" in note]
    for split in SPLITS:
        file = tmp_path / split / "_annotations.coco.json"
        file.write_text(file.read_text().replace('"supercategory": "pets"', '"supercategory": "none"'))
    with pytest.raises(DataError, match="no training box of 1 class: pets"):
        data(config(tmp_path), ImageSpec())


def test_crowds_are_ignored(tmp_path):
    made.coco(tmp_path)
    file = tmp_path / "annotations/train.json"
    content = json.loads(file.read_text())
    content["annotations"][1]["iscrowd"] = 1
    content["annotations"][1]["area"] = 17.5
    file.write_text(json.dumps(content))
    listing = read(source(tmp_path))
    assert listing.parts["train"][0].ignored.tolist() == [False, True]
    assert listing.parts["train"][0].area.tolist() == [256, 17.5]
    made_data = data(config(tmp_path, augment="none"), ImageSpec())
    assert made_data.train is not None
    assert made_data.meta["counts"] == [2, 1]
    sample = made_data.train[0, 0]
    assert len(sample["boxes"]) == 1
    assert sample["truth"]["ignored"].tolist() == [False, True]


def test_the_three_formats_say_the_same(tmp_path):
    made.coco(tmp_path / "coco")
    made.voc(tmp_path / "voc")
    made.yolo(tmp_path / "yolo")
    listings = [read(source(tmp_path / name)) for name in ("coco", "voc", "yolo")]
    for listing in listings:
        check_same(listing)


def test_what_looks_like_two_formats_has_to_be_named(tmp_path):
    made.voc(tmp_path)
    made.coco(tmp_path, place="JPEGImages", file="annotations_coco/{split}.json")
    with pytest.raises(DataError, match=r"task.data.format=coco or task.data.format=voc"):
        read(source(tmp_path))
    for name in ("voc", "coco"):
        check_same(read(source(tmp_path, format=name)))


RULES = [  # box as written on a photo of 64 x 48, what becomes of it, words of the note
    ((4, 4, 20, 20), (4, 4, 20, 20), None),
    ((20, 4, 4, 20), None, "1 box of negative width or height"),
    ((4, 20, 20, 4), None, "1 box of negative width or height"),
    ((-20, 4, -4, 20), None, "1 box wholly outside"),
    ((64, 4, 80, 20), None, "1 box wholly outside"),
    ((4, 48, 20, 60), None, "1 box wholly outside"),
    ((-4, -6, 20, 20), (0, 0, 20, 20), "1 box partly outside"),
    ((30, 30, 80, 90), (30, 30, 64, 48), "1 box partly outside"),
    ((4, 4, 4, 20), None, "1 box without width or height"),
    ((4, 20, 20, 20), None, "1 box without width or height"),
    ((30, 30, 64.005, 48), (30, 30, 64, 48), None),
    (("nan", 4, 20, 20), None, "1 box with a coordinate that is no finite number"),
    ((4, 4, "inf", 20), None, "1 box with a coordinate that is no finite number"),
    ((40, 40, 50, 47), None, "1 box that the same image has already"),
]


@pytest.mark.parametrize(("written", "kept", "words"), RULES)
def test_rules_for_boxes(tmp_path, written, kept, words):
    photo = Photo((64, 48), (("cat", 40, 40, 50, 47), ("dog", *written), ("dog", 40, 40, 50, 47)))
    if words == "1 box that the same image has already":
        photo = Photo((64, 48), (("cat", 40, 40, 50, 47), ("cat", *written), ("dog", 40, 40, 50, 47)))
    made.voc(tmp_path, {**SPLITS, "train": {**SPLITS["train"], "a": photo}})
    listing = read(source(tmp_path))
    wanted = [("cat", 40, 40, 50, 47), *([("dog", *kept)] if kept else []), ("dog", 40, 40, 50, 47)]
    image = listing.parts["train"][0]
    assert boxes(listing, [image])["a"] == wanted
    np.testing.assert_allclose(image.area, [(x2 - x1) * (y2 - y1) for _, x1, y1, x2, y2 in wanted])
    assert image.ids == ["object 1", *(["object 2"] if kept else []), "object 3"]
    told = [note for note in listing.notes if "JPEGImages/a.png (object 2)" in note]
    assert len(told) == (words is not None)
    assert words is None or words in told[0]


def test_agrees_with_pycocotools(tmp_path):
    made.coco(tmp_path, categories={"dog": 90, "cat": 7})
    for folder, names in ((tmp_path, ("train", "val", "test")), (shared("data/detection/pennfudan"), ("train", "val"))):
        listing = read(source(folder))
        for split in names:
            compare(listing, split, COCO(folder / f"annotations/{split}.json"))


def compare(listing, split, theirs) -> None:
    assert listing.categories == sorted(theirs.getCatIds())
    assert list(listing.classes) == [theirs.cats[number]["name"] for number in listing.categories]
    by_name = {PurePosixPath(image.name).name: image for image in listing.parts[split]}
    assert set(by_name) == {image["file_name"] for image in theirs.imgs.values()}
    for number, image in theirs.imgs.items():
        annotations = theirs.imgToAnns[number]
        own = by_name[image["file_name"]]
        assert own.size == (image["height"], image["width"])
        wanted = np.array([one["bbox"] for one in annotations], dtype=np.float64).reshape(-1, 4)
        wanted[:, 2:] += wanted[:, :2]
        np.testing.assert_allclose(own.boxes, wanted, atol=1e-9)
        assert [listing.categories[label] for label in own.labels] == [one["category_id"] for one in annotations]
        np.testing.assert_allclose(own.area, [one["area"] for one in annotations])
        assert own.ignored.tolist() == [bool(one["iscrowd"]) for one in annotations]


def test_blood_cells_in_both_formats():
    folder = shared("data/detection/bccd")
    voc, coco = read(source(folder, format="voc")), read(source(folder, format="coco"))
    assert {split: len(images) for split, images in voc.parts.items()} == {"train": 205, "val": 87, "test": 72}
    assert voc.classes == coco.classes == ["Platelets", "RBC", "WBC"]
    for split in voc.parts:
        left = {stem(image.name): image for image in voc.parts[split]}
        right = {stem(image.name): image for image in coco.parts[split]}
        assert left.keys() == right.keys()
        for name, image in left.items():
            assert sorted(map(tuple, image.boxes.tolist())) == sorted(map(tuple, right[name].boxes.tolist()))
            assert sorted(image.labels.tolist()) == sorted(right[name].labels.tolist())
    told = " ".join(voc.notes)
    assert "JPEGImages/BloodImage_00338.jpg (object" in told
    assert "JPEGImages/BloodImage_00343.jpg (object" in told
    assert sum(len(names) for changes in voc.changes.values() for names in changes.get("empty", ())) > 0
    total = {split: sum(len(image.boxes) for image in images) for split, images in voc.parts.items()}
    assert total == {"train": 2804, "val": 1137, "test": 945}  # as the set's SOURCE.md counts the JSON


def test_samples_meta_and_pickling(tmp_path):
    made.coco(tmp_path)
    cfg = config(tmp_path, augment="none", size={"short": 48, "long": 200})
    found = pickle.loads(pickle.dumps(data(cfg, ImageSpec())))
    assert found.meta["classes"] == ["cat", "dog"]
    assert found.meta["counts"] == [2, 2]
    assert found.meta["size"]["short"] == [48]
    sample = found.train[1, 0]  # (40, 80) as (width, height): the shorter side becomes 48
    assert sample["image"].shape == (3, 96, 48)
    np.testing.assert_allclose(sample["boxes"], np.array([[0, 0, 40, 80], [10.5, 20.25, 30, 36.75]]) * 1.2, rtol=1e-6)
    assert sample["labels"].tolist() == [1, 0]
    assert found.train[2, 0]["boxes"].shape == (0, 4)
    assert found.train.image(1).size == (40, 80)


def test_upright_and_wide_images_do_not_share_batches(tmp_path):
    splits = {"train": {f"{i}": Photo((32, 64) if i % 3 else (64, 32)) for i in range(9)}, "val": {"v": Photo()}}
    made.coco(tmp_path, splits)
    found = data(config(tmp_path), ImageSpec())
    assert found.batches is not None
    batches = found.batches("train", 0, 0, 3)
    assert sorted(id for batch in batches for id in batch) == list(range(9))
    assert all(len({id % 3 == 0 for id in batch}) == 1 for batch in batches)
    assert data(config(tmp_path, group_by_aspect=False), ImageSpec()).batches is None


def test_fitted_anchors_are_kept_and_told(tmp_path):
    made.coco(tmp_path, {"train": {f"{i}": Photo() for i in range(8)}, "val": {"v": Photo()}})
    found = data(config(tmp_path, anchors="fitted"), ImageSpec())
    assert len(found.meta["anchors"]) == 5
    assert [note for note in found.notes if "anchors fitted to 16 boxes" in note]


def test_evaluating_elsewhere_takes_classes_by_name(tmp_path):
    meta = {**data(config(made.coco(tmp_path / "a")), ImageSpec()).meta, "classes": ["bird", "dog", "cat"]}
    found = data(config(made.voc(tmp_path / "b", lists=False)), ImageSpec(), meta)
    assert list(found.splits()) == ["test"]
    assert found.meta == meta
    photos = dict(zip(map(stem, found.test.names), range(5), strict=True))
    assert found.test[photos["a"], 0]["labels"].tolist() == [2, 1]
    assert [note for note in found.notes if note == "test: no box of 1 class: bird"]
    with pytest.raises(DataError, match="1 class that the model does not know: dog; did you mean 'dogs'") as raised:
        data(config(tmp_path / "b"), ImageSpec(), {**meta, "classes": ["dogs", "cat"]})
    assert str(tmp_path / "b") in str(raised.value)


def test_a_photo_of_another_size_is_refused_when_it_is_opened(tmp_path):
    made.coco(tmp_path)
    picture(tmp_path / "images/a.png", (48, 64))
    picture(tmp_path / "images/b.png", (41, 80))
    found = data(config(tmp_path), ImageSpec())
    with pytest.raises(DataError, match=r"a\.png: annotated as 64 x 48 .* has 48 x 64.* swapped, as when .*EXIF"):
        found.train[0, 0]
    with pytest.raises(DataError, match=r"b\.png: annotated as 40 x 80 .* has 41 x 80"):
        found.train[1, 0]
    assert found.train[2, 0]["size"] == (48, 64)
