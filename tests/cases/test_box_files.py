"""Boxes in the files that other people's tools write, and as other machines wrote them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from visiontl_detection.data import data
from visiontl_detection.readers import read

from tests.detection import made
from tests.detection.made import Photo, Splits, config, picture, source, voc_xml, write, yolo_lines
from visiontl import DataError, ImageSpec

TWO: Splits = {"train": {"a": Photo(), "b": Photo((40, 80), (("dog", 0, 0, 40, 80),))}, "val": {"c": Photo()}}


def boxes(root: Path, **keys: Any) -> dict[str, Any]:
    """{name without extension: its boxes, with the class} of all splits."""
    found = read(source(root, **keys))
    return {
        Path(image.name).stem: [
            [*box, found.classes[label]] for box, label in zip(image.boxes.round(6).tolist(), image.labels, strict=True)
        ]
        for images in found.parts.values()
        for image in images
    }


WANTED = {
    name: [[*map(float, box[1:]), box[0]] for box in photo.boxes]
    for part in TWO.values()
    for name, photo in part.items()
}


def labels(root: Path, place: str, line=yolo_lines) -> None:
    for split, photos in TWO.items():
        for name, photo in photos.items():
            write(root / place.format(split=split) / f"{name}.txt", line(photo))


# ------------------------------------------------------------------------------------------------------------- layouts


def voc_beside(root: Path) -> None:
    made.pictures(root, TWO, "")
    for name, photo in {**TWO["train"], **TWO["val"]}.items():
        write(root / f"{name}.xml", voc_xml(name, photo))


def voc_roboflow(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        for name, photo in TWO[split].items():
            picture(root / folder / f"{name}.png", photo.size)
            write(root / folder / f"{name}.xml", voc_xml(name, photo))


def voc_small_letters(root: Path) -> None:
    made.pictures(root, TWO, "images")
    for name, photo in {**TWO["train"], **TWO["val"]}.items():
        write(root / f"annotations/{name}.xml", voc_xml(name, photo))


def yolo_beside(root: Path) -> None:
    made.pictures(root, TWO, "")
    labels(root, "")
    write(root / "classes.txt", "cat\ndog\n")


def yolo_label_studio(root: Path) -> None:
    made.pictures(root, TWO, "images")
    labels(root, "labels")
    write(root / "classes.txt", "cat\r\ndog\r\n")
    write(root / "notes.json", "{}")


def yolo_roboflow_darknet(root: Path) -> None:
    made.pictures(root, TWO, "{split}")
    labels(root, "{split}")
    for split in TWO:
        write(root / split / "_darknet.labels", "cat\ndog")


def darknet(root: Path) -> None:
    made.pictures(root, TWO, "obj_{split}_data")
    labels(root, "obj_{split}_data")
    write(root / "obj.names", "cat\ndog\n")
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/val.txt\nnames = data/obj.names\n")
    for split, photos in TWO.items():
        write(root / f"{split}.txt", "".join(f"data/obj_{split}_data/{name}.png\n" for name in photos))


def label_studio(root: Path) -> None:
    made.pictures(root, TWO, "images")
    content = made.coco_content({**TWO["train"], **TWO["val"]}, {"cat": 0, "dog": 1})
    for image in content["images"]:
        image["file_name"] = f"images\\{image['file_name']}"
    write(root / "result.json", json.dumps(content))


def coco_of_another_machine(root: Path) -> None:
    made.coco(root, TWO)
    for split, before in (("train", "/home/someone/set/images/"), ("val", "C:\\Users\\me\\set\\images\\")):
        path = root / f"annotations/{split}.json"
        content = json.loads(path.read_text())
        for image in content["images"]:
            image["file_name"] = before + image["file_name"]
        write(path, json.dumps(content))


def yolo_list_of(before: str):
    def write_set(root: Path) -> None:
        made.yolo(root, TWO, "train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
        for split, photos in TWO.items():
            lines = (f"{before}images/{split}/{name}.png\n" for name in photos)
            write(root / f"{split}.txt", "".join(lines).replace("/", "\\") if "\\" in before else "".join(lines))

    return write_set


LAYOUTS = {
    "XML beside photos": voc_beside, "Roboflow's VOC": voc_roboflow, "annotations/ and images/": voc_small_letters,
    "text beside photos": yolo_beside, "Label Studio's YOLO": yolo_label_studio,
    "Roboflow's Darknet": yolo_roboflow_darknet, "CVAT's Darknet": darknet, "Label Studio's COCO": label_studio,
    "COCO of another machine": coco_of_another_machine, "a list of another machine": yolo_list_of("/home/x/set/"),
    "a list with folders in front": yolo_list_of("datasets/mine/"), "a list with backslashes": yolo_list_of(".\\"),
    "a list of another Windows": yolo_list_of("D:\\set\\"),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_boxes_that_were_written(tmp_path, layout):
    root = tmp_path / "set"
    LAYOUTS[layout](root)
    assert boxes(root) == WANTED
    assert read(source(root)).classes == ["cat", "dog"]
    splits = {split: len(part) for split, part in read(source(root)).parts.items()}
    assert splits in ({"train": 2, "val": 1}, {"train": 3})  # of three a share of 0.15 is none


def test_what_was_found_in_another_way_is_told(tmp_path):
    for name, said in (
        ("COCO of another machine", ["2 names with folders in front", "1 name with folders in front", "backslashes"]),
        ("a list with backslashes", ["2 names with backslashes", "1 name with backslashes"]),
        ("CVAT's Darknet", ["2 names with folders in front that are not here, found by the rest"]),
    ):
        LAYOUTS[name](tmp_path / name)
        notes = "\n".join(read(source(tmp_path / name)).notes)
        assert all(one in notes for one in said), notes


def test_a_label_file_may_be_named_in_another_unicode_form(tmp_path):
    made.yolo(tmp_path, {"train": {"Ka\u0308fer": Photo(), "b": Photo()}})
    (tmp_path / "labels/train/Ka\u0308fer.txt").rename(tmp_path / "labels/train/K\u00e4fer.txt")
    found = read(source(tmp_path))
    assert sum(len(image.boxes) for part in found.parts.values() for image in part) == 4
    assert not any("without a label file" in note for note in found.notes)


def test_a_path_that_leads_nowhere_here_is_still_refused(tmp_path):
    made.yolo(tmp_path, TWO, "train: train.txt\nnames: [cat, dog]\n")
    for line, word in (("/etc/passwd", "outside"), ("../a.png", "leaves"), ("C:\\x\\z.png", "outside")):
        write(tmp_path / "train.txt", f"images/train/a.png\n{line}\n")
        with pytest.raises(DataError, match=rf"train\.txt: line 2: .*{word}"):
            read(source(tmp_path))
    write(tmp_path / "train.txt", "images/train/a.png\nelsewhere/b.png\n")  # b.png is there, but this is another one
    with pytest.raises(DataError, match="1 of 2 images not found"):
        read(source(tmp_path))
    write(tmp_path / "train.txt", "/x/images/train/a.png\n/y/images/train/a.png\n")
    with pytest.raises(DataError, match=r"/x/images/train/a\.png and /y/images/train/a\.png both mean .*a\.png"):
        read(source(tmp_path))


def test_names_in_a_list_may_end_in_a_number(tmp_path):
    photos = {f"frame {i}": Photo() for i in range(2)}
    made.voc(tmp_path / "set", {"train": photos, "val": {"other": Photo()}})
    assert [image.name for image in read(source(tmp_path / "set")).parts["train"]] == [
        "JPEGImages/frame 0.png", "JPEGImages/frame 1.png",
    ]  # fmt: skip
    write(tmp_path / "set/ImageSets/Main/val.txt", "other 1\n")
    with pytest.raises(DataError, match="line 1: other 1 is of a class's own list"):
        read(source(tmp_path / "set"))


def test_xml_that_is_not_utf_8_says_so(tmp_path):
    made.voc(tmp_path)
    path = tmp_path / "Annotations/a.xml"
    text = path.read_text().replace("cat", "Käfer")
    path.write_bytes(text.encode("cp1252"))
    with pytest.raises(DataError, match=r"a\.xml: not UTF-8 text .*Käfer in Windows-1252.*encoding=\"windows-1252\""):
        read(source(tmp_path))
    path.write_bytes(b'<?xml version="1.0" encoding="windows-1252"?>' + text.encode("cp1252"))
    assert "Käfer" in read(source(tmp_path)).classes


def test_linked_images_are_read(tmp_path):
    for write_set, inner in ((made.coco, "images"), (made.voc, "JPEGImages"), (made.yolo, "images")):
        root = tmp_path / write_set.__name__ / "set"
        write_set(root, TWO)
        shutil.move(root / inner, root.parent / "store")
        (root / inner).symlink_to(root.parent / "store")
        assert boxes(root) == WANTED


# --------------------------------------------------------------------------------------------------------------- poses


def pose_line(points: int, each: int):
    def line(photo: Photo) -> str:
        rows = []
        for row in yolo_lines(photo).splitlines():
            one = ["0.1", "0.9", "2"][:each]
            rows.append(" ".join([row, *one * points]))
        return "".join(f"{row}\n" for row in rows)

    return line


@pytest.mark.parametrize(("points", "each"), [(2, 3), (17, 3), (4, 2), (1, 2)])
def test_a_pose_is_its_box(tmp_path, points, each):
    made.yolo(
        tmp_path, TWO, f"train: images/train\nval: images/val\nnames: [cat, dog]\nkpt_shape: [{points}, {each}]\n"
    )
    labels(tmp_path, "labels/{split}", pose_line(points, each))
    assert boxes(tmp_path) == WANTED
    assert f"train: 3 poses of {points} point" in " ".join(read(source(tmp_path)).notes)
    write(tmp_path / "labels/train/a.txt", "0 .5 .5 .2 .2 .1 .1\n")
    if (points, each) != (1, 2):
        with pytest.raises(DataError, match=r"line 1: 7 values; expected .*kpt_shape"):
            read(source(tmp_path))


def test_poses_are_no_polygons_even_where_nothing_says_so(tmp_path):
    made.yolo(tmp_path, TWO)
    labels(tmp_path, "labels/{split}", pose_line(2, 3))
    with pytest.raises(
        DataError, match=r"data\.yaml: train: all 3 lines with more than 5 values look like poses.*kpt_s"
    ):
        read(source(tmp_path))
    write(tmp_path / "data.yaml", "train: images/train\nnames: [cat, dog]\nkpt_shape: 17\n")
    with pytest.raises(DataError, match=r"kpt_shape is 17; expected \[points, 2\]"):
        read(source(tmp_path))


def test_polygons_stay_polygons(tmp_path):
    made.yolo(tmp_path, TWO)
    write(tmp_path / "labels/train/a.txt", "0 .1 .2 .3 .2 .3 .6 .1 .6 .2 .7\n1 .5 .5 .75 .5 .75 1\n")  # 5 and 3 points
    found = read(source(tmp_path))
    assert found.parts["train"][0].boxes.round(3).tolist() == [[6.4, 9.6, 19.2, 33.6], [32, 24, 48, 48]]
    assert any("2 polygons" in note for note in found.notes)


# ----------------------------------------------------------------------------------------------------- bad annotations


def test_what_cannot_be_used_is_left_out_where_the_config_says_so(tmp_path):
    write_bad = {
        "voc": lambda root: write(
            root / "Annotations/a.xml", (root / "Annotations/a.xml").read_text().replace(">4<", ">four<")
        ),
        "yolo": lambda root: write(root / "labels/train/a.txt", "0 .1 .1 .x .1\n" + yolo_lines(Photo())),
        "coco": lambda root: write(
            root / "annotations/train.json",
            (root / "annotations/train.json").read_text().replace("[4, 8, 16, 16]", "[]"),
        ),
    }
    for name, spoil in write_bad.items():
        root = tmp_path / name
        getattr(made, name)(root, TWO)
        spoil(root)
        with pytest.raises(DataError, match=r"task\.data\.on_bad_annotation=skip"):
            read(source(root))
        with pytest.raises(DataError, match=r"train: 1 annotation of \d cannot be used, more than .*=0.1"):
            read(source(root, on_bad_annotation="skip", max_bad_annotations=0.1))
        found = read(source(root, on_bad_annotation="skip", max_bad_annotations=0.5))
        number = 3 if name == "yolo" else 2
        assert sum(len(image.boxes) for image in found.parts["train"]) == number
        note = next(note for note in found.notes if "cannot be used" in note)
        assert note.startswith(f"train: 1 annotation of {4 if name == 'yolo' else 3} cannot be used, left out")
        assert {"voc": "a.xml: object 1", "yolo": "a.txt: line 1", "coco": "annotation 1"}[name] in note


# ------------------------------------------------------------------------------------------------------------- classes

FEW: Splits = {
    "train": {"a": Photo(), "b": Photo()},
    "val": {"c": Photo(boxes=(("cat", 1, 1, 9, 9), ("eel", 2, 2, 9, 9)))},
}
NAMES = ("ant", "cat", "cow", "dog", "eel")


def subset(root: Path, kind: str) -> Path:
    """A set of five names, of which train has two boxes' worth and val one more, in three forms."""
    if kind == "coco":
        return made.coco(root, FEW, categories={name: 10 * i for i, name in enumerate(NAMES, start=1)})
    made.pictures(root, FEW, "images/{split}")
    write(root / "data.yaml", f"train: images/train\nval: images/val\nnames: {list(NAMES)}\n")
    for split, photos in FEW.items():
        for name, photo in photos.items():
            write(root / f"labels/{split}/{name}.txt", yolo_lines(photo, NAMES))
    if kind == "original":  # as coco128: train and val are one folder
        write(root / "data.yaml", f"train: images/train\nval: images/train\nnames: {list(NAMES)}\n")
    return root


@pytest.mark.parametrize("kind", ["coco", "yolo", "original"])
def test_classes_that_train_lacks_are_left_out_where_the_config_says_so(tmp_path, kind):
    root = subset(tmp_path / "set", kind)
    eel = "eel" if kind == "original" else r"eel \(only in val\)"
    with pytest.raises(DataError, match=rf"no training box of 3 classes: ant, cow, {eel}; .*leave_out=absent"):
        data(config(root), ImageSpec())
    cfg = config(root, classes={"leave_out": "absent"})
    found = data(cfg, ImageSpec())
    assert found.meta["classes"] == ["cat", "dog"]
    assert found.meta["categories"] == ([20, 40] if kind == "coco" else None)
    assert found.meta["left_out"] == ["ant", "cow", "eel"]
    notes = "\n".join(found.notes)
    assert "3 classes left out (task.classes.leave_out): ant, cow, eel" in notes
    assert ("val: 1 box of classes that are left out" in notes) == (kind != "original")
    assert ("2 images in train and in val, as it says" in notes) == (kind == "original")
    again: Any = data(cfg, ImageSpec(), found.meta).val  # as evaluate does
    val: Any = found.val
    assert [one.labels.tolist() for one in again.annotated] == [one.labels.tolist() for one in val.annotated]
    named = data(config(root, classes={"leave_out": ["eel", "cow", "ant"]}), ImageSpec())
    assert named.meta == found.meta


def test_what_cannot_be_left_out(tmp_path):
    root = subset(tmp_path / "set", "yolo")
    with pytest.raises(DataError, match=r"bat is no class of .*did you mean 'cat'"):
        data(config(root, classes={"leave_out": "bat"}), ImageSpec())
    with pytest.raises(DataError, match="leaves out all 5 classes"):
        data(config(root, classes={"leave_out": list(NAMES)}), ImageSpec())
    assert "left_out" not in data(config(made.coco(tmp_path / "whole")), ImageSpec()).meta


# -------------------------------------------------------------------------------------------------------------- turned


def test_boxes_of_a_photo_before_it_was_turned_are_suspected(tmp_path):
    lying = Photo((64, 48), (("cat", 40, 4, 62, 40), ("dog", 2, 2, 20, 20)))
    for name, turned in (("turned", 6), ("saved", None)):
        root = made.coco(tmp_path / name, {"train": {"a": lying, "b": Photo()}, "val": {"c": Photo()}})
        picture(root / "images/a.png", (64, 48) if turned else (48, 64), orientation=turned)
        path = root / "annotations/train.json"
        content = json.loads(path.read_text())
        content["images"][0].update(width=48, height=64)  # of the upright photo
        write(path, json.dumps(content))
        note = next(note for note in read(source(root)).notes if "swapped" in note)
        assert "train: 1 photo whose boxes fit only a photo of swapped width and height" in note
        assert ("1 of them turned by EXIF" in note) == (turned is not None)
    assert not any("swapped" in note for note in read(source(made.coco(tmp_path / "sound"))).notes)


def test_shares_of_turned_photos_are_told(tmp_path):
    root = made.yolo(tmp_path, TWO)
    picture(root / "images/train/a.png", (48, 64), orientation=8)
    notes = [note for note in read(source(root)).notes if "EXIF" in note]
    assert len(notes) == 1
    assert "train: 1 photo with boxes is turned upright by EXIF: images/train/a.png" in notes[0]


# ----------------------------------------------------------------------------------------------------------- way out


def test_a_folder_that_is_nearly_a_data_set_says_what_it_lacks(tmp_path):
    made.yolo(tmp_path / "yolo", TWO)
    (tmp_path / "yolo/data.yaml").unlink()
    with pytest.raises(DataError, match=r"labels/ holds text.*write a data\.yaml"):
        read(source(tmp_path / "yolo"))
    made.voc(tmp_path / "above/deep", TWO)
    with pytest.raises(DataError, match=r"deep/ looks like one: task\.data\.folder=.*deep"):
        read(source(tmp_path / "above", format="yolo"))
    made.coco(tmp_path / "coco", {"train": TWO["train"]}, "mine.json")
    with pytest.raises(DataError, match=r"if mine\.json holds COCO annotations: task\.data\.format=coco"):
        read(source(tmp_path / "coco"))
    assert set(boxes(tmp_path / "coco", format="coco")) == {"a", "b"}


# ---------------------------------------------------------------------------------------------------------------- fuzz

TEXT = st.text(st.sampled_from("0123456789. -\n\tenainfcat/\\é\u0301"), max_size=40)
NUMBER = st.one_of(st.integers(-2, 3), st.floats(allow_nan=True), st.text(max_size=3), st.none(), st.booleans())


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    TEXT, st.sampled_from(["labels/train/a.txt", "train.txt", "classes.txt", "obj.data", "data.yaml"]), st.booleans()
)
def test_no_text_ends_in_anything_but_words(tmp_path, text, file, skip):
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    made.yolo(root, TWO, "train: train.txt\nval: images/val\nnames: [cat, dog]\n")
    write(root / "train.txt", "images/train/a.png\nimages/train/b.png\n")
    if file in ("classes.txt", "obj.data"):
        (root / "data.yaml").unlink()
    write(root / file, text)
    keys = {"on_bad_annotation": "skip", "max_bad_annotations": 1.0} if skip else {}
    found, words = None, ""
    try:
        found = read(source(root, **keys))
    except DataError as error:
        words = str(error)
    if found is None:
        assert str(root) in words
        return
    assert all(np.isfinite(image.boxes).all() for part in found.parts.values() for image in part)
    if file == "labels/train/a.txt":
        lines = sum(bool(line.strip()) for line in text.split("\n"))
        kept = len(found.parts["train"][0].boxes)
        told = " ".join(found.notes)
        assert kept == lines or "left out" in told


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["id", "image_id", "category_id", "bbox", "iscrowd", "area"]), NUMBER), max_size=3
    )
)
def test_no_annotation_ends_in_anything_but_words(tmp_path, changes):
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    made.coco(root, TWO)
    path = root / "annotations/train.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(changes)
    write(path, json.dumps(content))
    found, words = None, ""
    try:
        found = read(source(root, on_bad_annotation="skip", max_bad_annotations=1.0))
    except DataError as error:
        words = str(error)
    if found is None:
        assert str(root) in words
        return
    kept = sum(len(image.boxes) for image in found.parts["train"])
    assert found.classes == ["cat", "dog"]
    assert kept == 3 or "left out" in " ".join(found.notes) or dict(changes).get("image_id") == 101


def test_more_objects_than_are_ever_detected_are_told(tmp_path):
    many = Photo(boxes=[("cat", i, 1, i + 2, 9) for i in range(60)])
    root = made.coco(
        tmp_path, {"train": {"a": Photo(), "b": many}, "val": {"c": Photo()}}, categories={"cat": 1, "dog": 2}
    )
    said = "train: 1 image with more boxes than task.detections=50, 60 at most"
    assert any(note.startswith(said) for note in data(config(root, detections=50), ImageSpec()).notes)
    assert not any("task.detections" in note for note in data(config(root), ImageSpec()).notes)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 nan 0.4 0.2 0.3", "2 boxes with a coordinate that is no finite number, left out: images/train/a.png"),
        ("0 0.5 0.4 0.0 0.3", "2 boxes without width or height, left out: images/train/a.png"),
    ],
)
def test_a_class_whose_boxes_were_all_left_out_is_not_called_unannotated(tmp_path, line, words):
    root = made.yolo(tmp_path, TWO)
    for name in ("a", "b"):
        write(root / f"labels/train/{name}.txt", f"{line}\n1 0.7 0.6 0.2 0.2\n")
    with pytest.raises(DataError) as raised:
        data(config(root), ImageSpec())
    assert "no training box of 1 class: cat (only in val); train: " in str(raised.value)
    assert words in str(raised.value)
    assert "mend those or annotate some" in str(raised.value)


def test_two_guesses_that_meet_in_one_folder_are_no_overlap_that_the_file_states(tmp_path):
    root = made.yolo(tmp_path, TWO)
    shutil.move(root / "images/train", root / "all")
    shutil.rmtree(root / "images")
    shutil.move(root / "all", root / "images")
    for split in ("train", "val"):
        for label in (root / f"labels/{split}").iterdir():
            shutil.move(label, root / "labels" / label.name)
    keys = "train: /kaggle/x/train/images\nval: /kaggle/x/valid/images\n"
    write(root / "data.yaml", f"{keys}names: [cat, dog]\n")
    with pytest.raises(DataError, match="is in train and in val; an image belongs to one split"):
        read(source(root))
    write(root / "data.yaml", "train: /kaggle/x/images\nval: /kaggle/x/images\nnames: [cat, dog]\n")
    assert any("as it says" in note for note in read(source(root)).notes)


@pytest.mark.parametrize("key", ["train", "val", "test"])
def test_lists_beside_folders_that_are_the_splits_are_refused(tmp_path, key):
    voc_roboflow(tmp_path)
    with pytest.raises(DataError, match=rf"folders train, val are the splits, and .*task.data.{key} would name"):
        read(source(tmp_path, **{"format": "voc", "train": "a.txt", key: "a.txt"}))


def test_a_box_that_fits_neither_way_accuses_no_photo(tmp_path):
    photos: Splits = {
        "train": {"a": Photo((40, 80), (("cat", 0, 0, 400, 800), ("dog", 0, 0, 40, 80)))},
        "val": {"c": Photo()},
    }
    root = made.coco(tmp_path, photos)
    notes = " ".join(data(config(root), ImageSpec()).notes)
    assert "turn" not in notes
