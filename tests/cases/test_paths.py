"""What tables, lists and annotations name: absolute paths, links, other spellings, other machines."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from visiontl_detection import readers
from visiontl_detection.config import DataConfig as Boxes
from visiontl_face.listing import folder_listing
from visiontl_face.pairs import read_pairs
from visiontl_segmentation import layouts
from visiontl_segmentation.config import DataConfig as Masks

from tests.detection import made
from tests.kit.made import pictures
from tests.segmentation import made as masks_made
from visiontl import DataError
from visiontl.kit.absent import instead
from visiontl.kit.folders import Folders, by_stem
from visiontl.kit.tables import Listed, read_listing

NFC = "K\u00e4fer_Gr\u00f6\u00dfe.png"
NFD = unicodedata.normalize("NFD", NFC)


def table(root: Path, *paths: str, base: str | None = None) -> Listed[str]:
    (root / "t.csv").write_text("path,label\n" + "".join(f"{path},x\n" for path in paths))
    return read_listing(str(root / "t.csv"), base, ("label",), (), lambda cells: cells["label"])


def boxes(root: Path, **keys):
    return readers.read(Boxes.model_validate({"folder": str(root), **keys}), False)


def moved(root: Path, place: str) -> None:
    """Puts a file or folder into a store beside the data set, and a link to it in its place."""
    store = root.parent / "store"
    store.mkdir(exist_ok=True)
    shutil.move(root / place, store / place.replace("/", "-"))
    (root / place).symlink_to(store / place.replace("/", "-"))


# -- absolute paths


def test_absolute_paths_into_the_folder_are_taken_however_it_is_reached(tmp_path, monkeypatch):
    root = pictures(tmp_path / "real", ["a/0.png", "a/1.png", "2.png"])
    (tmp_path / "one").symlink_to("real")
    (tmp_path / "two").symlink_to("one")
    (root / "linked").symlink_to("a")
    names = [f"{root}/a/0.png", f"{tmp_path}/one/a/1.png", f"{tmp_path}/two//./2.png"]
    for base in (root, tmp_path / "one", tmp_path / "two"):
        assert list(table(root, *names, base=str(base)).parts["whole"]) == ["a/0.png", "a/1.png", "2.png"]
    monkeypatch.chdir(root)
    assert list(table(Path(), names[0]).parts["whole"]) == ["a/0.png"]
    assert Folders(str(root)).within(f"{tmp_path}/two/linked/0.png") == "linked/0.png"
    assert Folders(str(root)).within(str(root)) == ""


@pytest.mark.parametrize(
    "path", ["{}/outside.png", "{}/set/../outside.png", "/etc/passwd", "{}/set2/0.png", "../set2/0.png"]
)
def test_paths_that_lie_outside_are_refused(tmp_path, path):
    pictures(tmp_path, ["outside.png", "set/0.png", "set2/0.png"])
    with pytest.raises(DataError, match=r"line 2: .*(lies outside of|leaves) the data set's folder"):
        table(tmp_path / "set", path.format(tmp_path))


def test_absolute_paths_of_annotations(tmp_path):
    root = made.coco(tmp_path / "coco")
    for file in root.glob("annotations/*.json"):
        content = json.loads(file.read_text())
        for image in content["images"]:
            image["file_name"] = str(next(root.rglob(image["file_name"])))
        file.write_text(json.dumps(content))
    plain = boxes(made.coco(tmp_path / "plain"))
    assert {split: [one.name for one in part] for split, part in boxes(root).parts.items()} == {
        split: [one.name for one in part] for split, part in plain.parts.items()
    }
    root = made.yolo(tmp_path / "yolo")
    names = sorted(str(one) for one in (root / "images/train").iterdir())
    (root / "train.txt").write_text("\n".join(names))
    (root / "data.yaml").write_text((root / "data.yaml").read_text().replace("images/train", str(root / "train.txt")))
    assert [one.name for one in boxes(root).parts["train"]] == [f"images/train/{Path(name).name}" for name in names]


# -- links into a store


@pytest.mark.parametrize(
    ("make", "places"),
    [
        (made.coco, ["images", "annotations"]),
        (made.coco, ["annotations/train.json"]),
        (made.voc, ["JPEGImages", "Annotations"]),
        (made.voc, ["ImageSets"]),
        (made.yolo, ["images/train", "labels/train"]),
        (made.yolo, ["images", "labels", "data.yaml"]),
    ],
)
def test_linked_data_sets_are_read_as_the_files_themselves(tmp_path, make, places):
    plain, linked = make(tmp_path / "a" / "set"), make(tmp_path / "b" / "set")
    for place in places:
        moved(linked, place)
    first, second = boxes(plain), boxes(linked)
    assert first.classes == second.classes
    for split, part in first.parts.items():
        assert [(one.name, one.boxes.tolist()) for one in part] == [
            (one.name, one.boxes.tolist()) for one in second.parts[split]
        ]


def test_tables_of_links_into_a_store(tmp_path):
    root = pictures(tmp_path / "set", ["imgs/0.png", "imgs/1.png", "more/2.png"])
    moved(root, "imgs/0.png")
    moved(root, "more")
    names = ["imgs/0.png", "imgs/1.png", "more/2.png"]
    assert list(table(root, *names).parts["whole"]) == names
    masks = masks_made.folders(tmp_path / "masks" / "set")
    for place in ("images", "masks"):
        moved(masks, place)
    assert {
        split: len(part) for split, part in layouts.read(Masks.model_validate({"folder": str(masks)})).parts.items()
    }
    (root / "imgs/3.png").symlink_to("nowhere.png")
    with pytest.raises(DataError, match=r"1 file not found below .*imgs/3\.png"):
        table(root, "imgs/3.png")


# -- other Unicode forms


@pytest.mark.parametrize(("written", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_files_are_found_under_another_form_of_their_names(tmp_path, written, stored):
    root = pictures(tmp_path, [f"{stored}.d/{stored}", "a.png"])
    found = table(root, f"{written}.d/{written}", "a.png")
    assert list(found.parts["whole"]) == [f"{stored}.d/{stored}", "a.png"]
    assert "1 file named in another Unicode form" in found.notes[0]
    assert Folders(str(root)).found(f"{stored}.d/{written}") == f"{stored}.d/{stored}"
    assert by_stem([f"m/{stored}"], "m").keys() == by_stem([f"m/{written}"], "m").keys()
    for make in (made.coco, made.voc, made.yolo):
        source = make(tmp_path / make.__name__)
        for file in [one for one in source.rglob("*") if one.is_file()]:
            if one_of(file, "a"):
                file.rename(file.with_name(f"{Path(stored).stem}{file.suffix}"))
            elif file.suffix in (".json", ".txt") and "labels" not in file.parts:
                renamed = Path(written).stem
                text = file.read_text().replace('"a.png"', json.dumps(f"{renamed}.png"))
                file.write_text("".join(f"{renamed}\n" if line == "a" else f"{line}\n" for line in text.splitlines()))
        read = [one for part in boxes(source).parts.values() for one in part]
        assert stored in {Path(one.name).name for one in read}
        assert all(len(one.boxes) for one in read if one_of(Path(one.name), Path(stored).stem))


def one_of(file: Path, stem: str) -> bool:
    return file.stem == stem


def test_two_forms_beside_each_other_are_two_files(tmp_path):
    root = pictures(tmp_path, [NFC, NFD])
    assert list(table(root, NFC, NFD).parts["whole"]) == [NFC, NFD]
    (root / NFC).rename(root / NFC.replace("K", "C"))
    assert list(table(root, NFC, NFD).parts["whole"]) == [NFD]


def test_pairs_of_faces_in_another_form(tmp_path):
    root = pictures(tmp_path, [f"Jose\u0301/{i}.png" for i in range(2)] + ["Anna/0.png"])
    (tmp_path / "p.csv").write_text(
        "file_a,file_b,same\nJos\u00e9/0.png,Jos\u00e9/1.png,1\nAnna/0.png,Jos\u00e9/1.png,0\n"
    )
    items = folder_listing(str(root)).parts["whole"]
    pairs, notes = read_pairs(str(tmp_path / "p.csv"), items, {}, "error", "here")
    assert [pair.second for pair in pairs] == ["Jose\u0301/1.png"] * 2
    assert len(notes) == 1
    assert "2 images found under another spelling" in notes[0]


# -- what a name that is not there may have meant


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train\\ants\\1.png", "train/ants/1.png is there (write / for \\)"),
        (
            "C:\\Users\\bob\\train\\ants\\1.png",
            "train/ants/1.png is there (write / for \\, leave out C:\\Users\\bob\\)",
        ),
        ("/home/bob/set/train/ants/1.png", "train/ants/1.png is there (leave out /home/bob/set/)"),
        ("data/train/ants/1.png", "train/ants/1.png is there (leave out data/)"),
        ("ants/1.png", "train/ants/1.png is there: write the paths so, or name the folder"),
        ("train/ants/1", "train/ants/1.png is there (write the extension too)"),
        ("train/ants/1.PNG", "train/ants/1.png is there ('1.PNG' and '1.png' are two names)"),
        ("train/ants/bee\u200b.png", "'bee\\u200b.png' and 'bee.png' are two names"),
        ("train/ants", "; train/ants is a folder"),
        ("gone.png", "gone.png is a link to ../.git/annex/x, which is not there (a store that was not fetched?)"),
        ("train/ants/beee.png", "did you mean 'train/ants/bee.png'?"),
    ],
)
def test_hints(tmp_path, name, words):
    root = pictures(tmp_path, ["train/ants/1.png", "train/ants/bee.png", "val/x.png"])
    (root / "gone.png").symlink_to("../.git/annex/x")
    assert words in instead(Folders(str(root)), name)


@pytest.mark.parametrize("name", ["", "/", "..", "../..", "\\", "zzz.png", "a/b/c.jpg", "x" * 300, "\udcff"])
def test_no_hint_where_nothing_is_near(tmp_path, name):
    assert instead(Folders(str(pictures(tmp_path, ["train/ants/1.png"]))), name) == ""
