"""Every format of the sample data, read back and compared with the world that it was drawn from; the command that
writes them."""

from __future__ import annotations

import importlib
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image
from visiontl_detection.readers import read as read_boxes
from visiontl_face.alignment import read_landmarks

from visiontl import ImageSpec, cli, plugins
from visiontl.config.resolve import resolve, with_task_data
from visiontl.kit import world
from visiontl.kit.world import KINDS

SPEC = ImageSpec(size=(96, 96))
FEW = {"train": 3, "val": 1, "test": 2}
PEOPLE = {"train": range(3), "val": range(3, 5), "test": range(5, 8)}
PARTS = {"mask": "segmentation", "label": "classification"}  # what quick starts have
FORMATS = [(task, form) for task, one in sorted(plugins.tasks().items()) for form in one.samples]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Small sets: what is compared is how they are written."""
    for task in ("classification", "detection", "segmentation"):
        monkeypatch.setattr(f"visiontl_{task}.samples.IMAGES", FEW)
    monkeypatch.setattr("visiontl_classification.samples.SEVERAL", {"train": 9, "val": 3, "test": 3})
    monkeypatch.setattr("visiontl_classification.samples.NEW", 1)
    monkeypatch.setattr("visiontl_detection.samples.NEW", 1)
    monkeypatch.setattr("visiontl_segmentation.samples.NEW", 1)
    monkeypatch.setattr("visiontl_face.samples.PEOPLE", PEOPLE)
    monkeypatch.setattr("visiontl_face.samples.KNOWN", range(50, 51))
    monkeypatch.setattr("visiontl_style.samples.PHOTOS", 4)
    monkeypatch.setattr("visiontl_style.samples.HELD_OUT", 2)
    monkeypatch.setattr("visiontl_style.samples.NEW", 1)
    yield
    for name in ("one_each", "several"):
        getattr(importlib.import_module("visiontl_classification.samples"), name).cache_clear()


def several(monkeypatch):
    """Pictures enough that each kind is the largest in one of train."""
    monkeypatch.setattr("visiontl_segmentation.samples.IMAGES", {**FEW, "train": 10})
    return {"tasks": PARTS}


def written(task: str, form: str, folder: Path, **more):
    """(the validated section, its data)"""
    section = dict(plugins.task(task).samples[form](folder))
    run = resolve({"task": {"name": task, "data": "samples", **more}, "backbone": {"name": "visiontl/tiny"}})
    assert run.made == "samples"
    cfg = with_task_data(run, section.pop("data"), section).cfg
    return cfg, plugins.task(task).data(cfg, SPEC, None)


def alike(a: Image.Image, b: Image.Image) -> bool:
    """Whether a JPEG file shows this picture."""
    return a.size == b.size and np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean() < 6


@pytest.mark.parametrize(("task", "form"), FORMATS)
def test_every_format_is_read_without_a_word_and_the_rest_is_for_predict(task, form, tmp_path, monkeypatch):
    _, data = written(task, form, tmp_path / "x", **(several(monkeypatch) if task == "multi" else {}))
    expected = ("taken as background and foreground", "no image of", "one image only", "no box of", "no pixel of")
    expected += ("all with the labels of", "shown the same pixels")  # what several tasks say of any set
    said = [note for note in data.notes if not any(words in note for words in expected)]  # the sets are tiny here
    assert not said
    assert sorted(data.splits()) == (["train", "val"] if task == "style" else ["test", "train", "val"])
    new = sorted((tmp_path / "x/new").iterdir())
    assert new
    shown = {Path(name).name for split in data.splits().values() for name in split.names}
    assert all(Image.open(file).mode == "RGB" for file in new)
    photos = [split.image(id).tobytes() for split in data.splits().values() for id in range(len(split))]
    assert len(shown) > 1
    assert len(set(photos)) == len(photos), "one picture twice"
    assert not {Image.open(file).tobytes() for file in new} & set(photos)


@pytest.mark.parametrize("form", ["folders", "table"])
def test_classes_are_those_that_were_drawn(form, tmp_path):
    _, data = written("classification", form, tmp_path / "x")
    assert data.meta["classes"] == list(KINDS)
    for part, split in enumerate(data.splits().values(), 1):
        count = len(split) // len(KINDS)
        labels = [int(split[id, 0]["label"]) for id in range(len(split))]
        assert sorted(labels) == sorted(list(range(len(KINDS))) * count)
        for id in range(0, len(split), 5):
            drawn = [world.scene([part, labels[id], number], [KINDS[labels[id]]]).image for number in range(count)]
            assert sum(alike(split.image(id), one) for one in drawn) == 1


@pytest.mark.parametrize("form", ["multi", "columns"])
def test_several_classes_of_one_picture(form, tmp_path):
    cfg, data = written("classification", form, tmp_path / "x")
    assert cfg.labels == "multi"
    assert data.meta["classes"] == list(KINDS)
    train = data.train
    targets = np.array([np.asarray(train[id, 0]["label"]) for id in range(len(train))])
    assert set(targets.sum(1)) <= {1, 2, 3}
    assert len(set(targets.sum(1))) > 1


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_boxes_are_those_of_the_masks(form, tmp_path):
    cfg, data = written("detection", form, tmp_path / "x")
    found = read_boxes(cfg.data)
    assert list(found.classes) == list(KINDS)
    for part, (split, images) in enumerate(found.parts.items()):
        assert len(images) == FEW[split] == len(data.splits()[split])
        for number, image in enumerate(sorted(images, key=lambda image: image.name)):
            scene = world.crowd(part, number)
            truth = []
            for thing in scene.things:
                rows, columns = np.nonzero(thing.mask)
                truth.append([KINDS.index(thing.kind), columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            got = [[label, *box] for label, box in zip(image.labels.tolist(), image.boxes.tolist(), strict=True)]
            np.testing.assert_allclose(sorted(got), sorted(truth), atol=1e-4)
            assert alike(Image.open(Path(found.base, image.name)), scene.image)


@pytest.mark.parametrize("form", ["index", "palette", "color", "binary", "coco", "voc"])
def test_masks_are_those_that_were_drawn(form, tmp_path):
    _, data = written("segmentation", form, tmp_path / "x", augment="none", resize="original")
    names = ["background", "foreground"] if form == "binary" else ["ground", *KINDS]
    assert data.meta["classes"] == names
    for part, (split, photos) in enumerate(data.splits().items()):
        assert len(photos) == FEW[split]
        if split == "train":
            continue  # crops
        for number in range(len(photos)):
            scene = world.crowd(part, number, 3)
            wanted = np.zeros((192, 256), int)
            for thing in scene.things:
                wanted[thing.mask] = 1 if form == "binary" else 1 + KINDS.index(thing.kind)
            assert np.array_equal(np.asarray(photos[number, 0]["truth"]), wanted)
            assert alike(photos.image(number), scene.image)


def test_masks_and_labels_of_several_tasks_are_those_that_were_drawn(tmp_path, monkeypatch):
    _, data = written("multi", "largest", tmp_path / "x", views={"label": "mask"}, **several(monkeypatch))
    classes = data.meta["parts"]["label"]["meta"]["classes"]
    assert data.meta["shared"]
    for part, (split, photos) in enumerate(data.splits().items()):
        assert len(photos) == {**FEW, "train": 10}[split]
        for number in range(len(photos)):
            pixels: dict[str, int] = {}
            for thing in world.crowd(part, number, 3).things:
                pixels[thing.kind] = pixels.get(thing.kind, 0) + int(thing.mask.sum())
            label = classes[int(photos[number, 0]["parts"]["label"]["label"])]
            assert pixels[label] == max(pixels.values())


@pytest.mark.parametrize("form", ["folders", "table", "pairs", "lfw"])
def test_creatures_are_held_out_as_a_whole(form, tmp_path):
    cfg, data = written("face", form, tmp_path / "x")
    people: dict[str, set[str]] = {}
    for split, photos in data.splits().items():
        parts = [PurePosixPath(name) for name in photos.names]
        people[split] = {part.name.split("_")[0] if form == "table" else part.parent.name for part in parts}
        assert people[split] == {world.name(person) for person in PEOPLE[split]}
        assert len(photos) == 8 * len(PEOPLE[split])
    known = {path.name for path in (tmp_path / "x/known").iterdir()}
    assert not known & set().union(*people.values())
    assert known < {path.stem for path in (tmp_path / "x/new").iterdir()}
    if form in ("pairs", "lfw"):
        assert cfg.pairs.test
    if form == "table":
        marks = read_landmarks(tmp_path / "x/landmarks.csv")
        drawn = world.portrait(3, 4, 128)
        np.testing.assert_allclose(marks[f"{world.name(3)}_4.jpg"], drawn.landmarks, atol=0.01)
        assert alike(Image.open(tmp_path / f"x/faces/{world.name(3)}_4.jpg"), drawn.image)


def test_as_many_pairs_of_one_creature_as_of_two():
    from visiontl_face.samples import judged

    pairs = judged()
    assert len(pairs) == len(set(pairs)) == 2 * 3 * 28
    assert sum(a[0] == b[0] for a, b in pairs) == 3 * 28


def test_landscapes_and_paintings(tmp_path):
    cfg, data = written("style", "folders", tmp_path / "x")
    assert (len(data.train), len(data.val)) == (4, 2)
    assert alike(data.train.image(0), world.photo(0))
    assert sorted(file.stem for file in Path(cfg.data.styles[0]).iterdir()) == ["shards", "strokes", "waves"]
    cfg, _ = written("style", "adain", tmp_path / "x")
    assert cfg.way == "adain"
    assert [file.stem for file in Path(cfg.data.val_styles[0]).iterdir()] == ["dots"]


# ---- the command


def test_the_command_writes_all_and_says_what_reads_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["samples", "practice"]) == 0
    out = capsys.readouterr().out
    for task, form in FORMATS:
        assert (tmp_path / "practice" / task / form / "new").is_dir()
    assert "task.data=practice/detection/yolo/scenes" in out
    assert "task.labels=multi" in out
    assert "visiontl train classification/quickstart task.data=practice/classification/folders/photos" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["practice"]


def test_one_format_lies_in_the_folder_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes").mkdir()
    assert cli.main(["samples", "boxes", "--task", "detection", "--format", "voc"]) == 0
    assert (tmp_path / "boxes/scenes/JPEGImages").is_dir()
    out = capsys.readouterr().out
    assert "visiontl train detection/quickstart task.data=boxes/scenes" in out
    assert "boxes/new" in out
    assert cli.main(["samples", "boxes", "--task", "detection"]) == 2
    error = capsys.readouterr().err
    assert "boxes is not empty (it holds new)" in error
    assert "name a new folder" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "detecton"], "did you mean 'detection'?"),
        (["--task", "detection", "--format", "coca"], "did you mean 'coco'?"),
        (["--format", "yolov8"], "did you mean 'yolo'?"),
        (["--format", "nix"], "no format 'nix' of any task; choose from adain, binary, coco"),
    ],
)
def test_what_is_not_there_is_answered_with_the_nearest_name(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["samples", "x", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_place_for_samples(tmp_path, capsys):
    (tmp_path / "x").write_text("mine")
    assert cli.main(["samples", str(tmp_path / "x")]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert (tmp_path / "x").read_text() == "mine"
