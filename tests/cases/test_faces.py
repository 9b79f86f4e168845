"""Lists of pairs as people write them, pairs of nobody known, and galleries that change or are damaged."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from visiontl_face.config import FaceConfig
from visiontl_face.data import data
from visiontl_face.gallery import (
    Gallery,
    change_gallery,
    joined,
    make_gallery,
    read_gallery,
    without,
    write_gallery,
)
from visiontl_face.identification import gallery_and_probes
from visiontl_face.listing import Item
from visiontl_face.pairs import read_pairs
from visiontl_face.scores import score

from tests.face.made import picture
from visiontl import DataError, ImageSpec

SPEC = ImageSpec(size=(32, 32))


def items_of(*names: str) -> list[Item]:
    return [Item(name, name.split("/")[0]) for name in names]


def lfw_people(*people: str, numbers: int = 3) -> list[Item]:
    return items_of(*(f"{who}/{who}_{n:04d}.jpg" for who in people for n in range(1, numbers + 1)))


def read(tmp_path: Path, text: str, items: list[Item], name: str = "pairs.txt", **more) -> tuple[list, list[str]]:
    path = tmp_path / name
    path.write_text(text)
    return read_pairs(str(path), items, more.get("elsewhere", {}), more.get("missing", "error"), tmp_path)


@pytest.mark.parametrize("gap", [" ", "\t", "  ", " \t"], ids=repr)
@pytest.mark.parametrize("names", [("Anna van Berg", "Bo"), ("Anna", "Bo"), ("J. R. R. Tolkien", "B. van den O")])
def test_names_are_all_that_stands_before_the_numbers(names, gap, tmp_path):
    a, b = names
    text = f"1{gap}1\n{a}{gap}1{gap}2\n{a}{gap}1{gap}{b}{gap}3\n"
    pairs, notes = read(tmp_path, text, lfw_people(a, b))
    assert [(pair.first, pair.second, pair.same) for pair in pairs] == [
        (f"{a}/{a}_0001.jpg", f"{a}/{a}_0002.jpg", True),
        (f"{a}/{a}_0001.jpg", f"{b}/{b}_0003.jpg", False),
    ]
    assert notes == []


def test_numbers_in_names_are_told_from_numbers_of_images_by_what_is_there(tmp_path):
    people = lfw_people("Henry 8", "Louis 2 of France", "Anna")
    text = "1 2\nHenry 8 1 2\nAnna 1 2\nHenry 8 1 Louis 2 of France 3\nAnna 2 Henry 8 3\n"
    pairs, _ = read(tmp_path, text, people)
    assert [pair.second for pair in pairs] == [
        "Henry 8/Henry 8_0002.jpg",
        "Anna/Anna_0002.jpg",
        "Louis 2 of France/Louis 2 of France_0003.jpg",
        "Henry 8/Henry 8_0003.jpg",
    ]
    both = lfw_people("A", "B", "A 1 B", "B 1 B")  # "A 1 B 1 B 2": A and "B 1 B", or "A 1 B" and B
    with pytest.raises(DataError, match=r"line 3: 'A 1 B 1 B 2' can be read in 2 ways.*put tabs"):
        read(tmp_path, "1 1\nA 1 2\nA 1 B 1 B 2\n", both)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A 1 2\nB 1 2\nA 1 B 2\nB 1 A 2\n", "put a line '1 2' before its 4 pairs, or write a .csv"),
        ("A\t1\t2\nA\t1\tB\t2\n", "put a line '1 1' before its 2 pairs"),
        ("Anna van Berg 1 2\nAnna van Berg 1 Bo 2\n", "put a line '1 1' before"),
        ("A 1 2\nB 1 2\nA 1 B 2\n", "here 2 of 3 are of one: write a .csv"),
        ("A 1 B 2\nA 1 2\n", "write a .csv"),
        ("file_a,file_b,same\n", "a .csv with the columns"),
    ],
)
def test_a_list_without_its_first_line_is_told_which_one(text, words, tmp_path):
    with pytest.raises(DataError, match="the first line is") as error:
        read(tmp_path, text, lfw_people("A", "B"))
    assert words in str(error.value)


def test_pictures_are_found_by_number_and_spelling_and_that_is_said(tmp_path):
    decomposed = unicodedata.normalize("NFD", "José")
    items = items_of("Anna/1.png", "Anna/img_02.png", f"{decomposed}/1.png", f"{decomposed}/2.png")
    pairs, notes = read(tmp_path, "1 1\nAnna 1 2\nJosé 2 anna 1\n", items)
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("Anna/1.png", "Anna/img_02.png"),
        (f"{decomposed}/2.png", "Anna/1.png"),
    ]
    assert len(notes) == 1
    assert "4 images found under other names than LFW's" in notes[0]
    with pytest.raises(DataError, match=r"images are called such as Anna/1\.png there"):
        read(tmp_path, "1 1\nAnna 1 2\nAnna 1 Bo 1\n", items)
    with pytest.raises(DataError, match=r"Anna/Anna_0001 can be Anna/1.png, Anna/x1.png; it must be one"):
        read(tmp_path, "1 1\nAnna 1 2\nAnna 2 José 1\n", [*items, *items_of("Anna/x1.png")])


def test_a_name_of_two_spellings_is_the_one_that_is_written(tmp_path):
    pairs, notes = read(tmp_path, "1 1\nanna 1 2\nAnna 1 anna 2\n", lfw_people("Anna", "anna"))
    assert [(pair.first, pair.second) for pair in pairs] == [
        ("anna/anna_0001.jpg", "anna/anna_0002.jpg"),
        ("Anna/Anna_0001.jpg", "anna/anna_0002.jpg"),
    ]
    assert notes == []


@pytest.mark.parametrize("form", ["absolute", "backslash", "spelling"])
def test_paths_of_a_table_are_understood_within_the_folder_alone(form, tmp_path):
    items = items_of("é/1.png", "é/2.png", "b/1.png")
    change = {
        "absolute": lambda name: str(tmp_path / name),
        "backslash": lambda name: name.replace("/", "\\"),
        "spelling": lambda name: unicodedata.normalize("NFD", name.replace("png", "PNG")),
    }[form]
    rows = [("é/1.png", "é/2.png", 1), ("é/1.png", "b/1.png", 0)]
    text = "file_a,file_b,same\n" + "".join(f"{change(a)},{change(b)},{same}\n" for a, b, same in rows)
    pairs, notes = read(tmp_path, text, items, "pairs.csv")
    assert [(pair.first, pair.second, pair.same) for pair in pairs] == [(a, b, bool(same)) for a, b, same in rows]
    assert "3 images found" in notes[0]
    with pytest.raises(DataError, match="not in"):
        read(tmp_path, "file_a,file_b,same\n/etc/1.png,../b/1.png,0\n", items, "pairs.csv")


WORDS = st.sampled_from(["A", "B", "8", "1", "2", "0", "\t", " ", "é", "10 300", "1 1", "\n", "-", "a,b", "\x00", "９"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, max_size=24).map(" ".join))
def test_any_list_is_read_or_refused_in_words(tmp_path, text):
    for name in ("pairs.txt", "pairs.csv"):
        try:
            pairs, _ = read(tmp_path, text, lfw_people("A", "B"), name)
        except DataError:  # nothing else is raised
            continue
        else:
            lines = [line for line in text.split("\n")[1:] if line.strip()]
            assert len(pairs) == len(lines), "no pair is dropped in silence"


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    """ROOT/0.png ..., three pictures of each of two people, and ROOT.csv with their pairs."""
    root = tmp_path_factory.mktemp("flat")
    for number in range(6):
        picture(root / "photos" / f"{number}.png", number % 2, number)
        picture(root / "sides" / ("left" if number < 3 else "right") / f"{number}.png", number % 2, number)
    rows = [(a, b, int(a % 2 == b % 2)) for a in range(6) for b in range(a)]
    head = "file_a,file_b,same\n"
    (root / "photos.csv").write_text(head + "".join(f"{a}.png,{b}.png,{same}\n" for a, b, same in rows))
    places = ["left", "left", "left", "right", "right", "right"]
    (root / "sides.csv").write_text(
        head + "".join(f"{places[a]}/{a}.png,{places[b]}/{b}.png,{same}\n" for a, b, same in rows)
    )
    (root / "table.csv").write_text("path\n" + "".join(f"{n}.png\n" for n in range(6)))
    return root


@pytest.mark.parametrize("layout", ["flat folder", "folders that are no people", "table without identities"])
def test_pairs_of_nobody_known_are_judged(layout, flat):
    source, pairs = {
        "flat folder": ({"folder": str(flat / "photos")}, "photos.csv"),
        "folders that are no people": ({"folder": str(flat / "sides")}, "sides.csv"),
        "table without identities": ({"csv": str(flat / "table.csv"), "root": str(flat / "photos")}, "photos.csv"),
    }[layout]
    keys = {} if layout == "flat folder" else {"identities": False}
    cfg = FaceConfig.model_validate({"data": source, "pairs": str(flat / pairs), **keys})
    found = data(cfg, SPEC, {"identities": ["a", "b"]})
    test = found.splits()["test"]
    rows = []
    for number in range(len(test)):
        sample = test[number, 0]
        assert sample["label"] == -1
        person = int(Path(test.names[number]).stem) % 2
        vector = np.eye(3)[person] + 0.1 * np.eye(3)[2]
        rows.append(dict.fromkeys(("embedding", "pooled", "centered"), vector) | sample["about"])
    scores = score(cfg, rows, {})
    assert scores["auc"] == 1
    assert scores["pairs"] == {"same": 6, "different": 9, "left out": 0}
    assert "rank1" not in scores
    assert "dir_at_far" not in scores
    assert any("not known" in note for note in found.notes) == (layout == "flat folder")


def test_what_nothing_can_judge_is_refused(flat):
    def of(folder: str, meta: dict | None, **keys) -> None:
        data(FaceConfig.model_validate({"data": str(flat / folder), **keys}), SPEC, meta)

    meta = {"identities": ["a", "b"]}
    with pytest.raises(DataError, match="give a list of pairs"):
        of("photos", meta, identities=False)
    with pytest.raises(DataError, match="training needs to know"):
        of("photos", None, identities=False, pairs="x.csv")
    with pytest.raises(DataError, match=r"said to show .*\n?.*task.identities=false"):
        of("sides", meta, pairs=str(flat / "sides.csv"))
    assert [part.tolist() for part in gallery_and_probes(["", "", "a", "a"], list("wxyz"))] == [[2], [3]]


def of_people(**people: int) -> Gallery:
    return make_gallery({who: [np.eye(8, dtype=np.float32)[i]] * 2 for who, i in people.items()}, "m" * 64)


def test_people_are_added_replaced_removed_and_gone_from_the_disk(tmp_path):
    folder = tmp_path / "gallery"
    write_gallery(of_people(bo=0, anna=1), folder)
    (folder / "notes.txt").write_text("mine")
    change_gallery(joined(read_gallery(folder), of_people(cleo=2), replace=False), folder)
    found = read_gallery(folder)
    assert list(found.identities) == ["anna", "bo", "cleo"]
    assert found.embedding.argmax(1).tolist() == [1, 0, 2]
    with pytest.raises(DataError, match="bo is in the gallery already; known=replace"):
        joined(found, of_people(bo=3), replace=False)
    change_gallery(joined(found, of_people(bo=3), replace=True), folder)
    assert read_gallery(folder).embedding.argmax(1).tolist() == [1, 3, 2]
    change_gallery(without(read_gallery(folder), ["Anna", "cleo"]), folder)
    assert (list(read_gallery(folder).identities), list(read_gallery(folder).images)) == (["bo"], [2])
    assert len(list(folder.glob("embeddings*"))) == 1, "no embedding of who was removed stays"
    assert (folder / "notes.txt").read_text() == "mine"
    for people, words in ((["Boo"], "did you mean 'bo'"), (["bo"], "nobody would be left")):
        with pytest.raises(DataError, match=words):
            without(read_gallery(folder), people)


def test_who_was_removed_goes_although_the_change_was_cut_off(tmp_path, monkeypatch):
    folder = tmp_path / "gallery"
    write_gallery(of_people(bo=0, anna=1), folder)

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    rest = without(read_gallery(folder), ["anna"])
    with monkeypatch.context() as patched:
        patched.setattr("visiontl_face.gallery.Path.unlink", cut_off)
        with pytest.raises(KeyboardInterrupt):
            change_gallery(rest, folder)
    assert list(read_gallery(folder).identities) == ["bo"]
    assert len(list(folder.glob("embeddings*"))) == 2
    change_gallery(joined(read_gallery(folder), of_people(cleo=2), replace=False), folder)
    assert len(list(folder.glob("embeddings*"))) == 1


def test_an_interrupted_change_leaves_what_was_there(tmp_path, monkeypatch):
    folder = tmp_path / "gallery"
    write_gallery(of_people(bo=0, anna=1), folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("visiontl_face.gallery.os.replace", full)
    with pytest.raises(DataError, match=r"cannot be changed .No space left"):
        change_gallery(of_people(cleo=2), folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_names_that_mislead_in_a_gallery(tmp_path):
    for name in ("unknown", "Unknown"):
        with pytest.raises(DataError, match=r"is what identify calls a stranger"):
            of_people(**{name: 0})
    both = of_people(**{"Anna": 0, "anna": 1, "bo": 2})
    with pytest.raises(DataError, match="ANNA: the gallery has Anna, anna; name one"):
        without(both, ["ANNA"])
    assert list(without(both, ["anna"]).identities) == ["Anna", "bo"]
    bytes_of_latin1 = "Jos\udce9"
    write_gallery(of_people(**{bytes_of_latin1: 0, "bo": 1}), tmp_path / "gallery")
    assert bytes_of_latin1 in read_gallery(tmp_path / "gallery").identities


ABOUT = {"format": 1, "model": "m", "identities": ["a", "b"], "images": [1, 1]}
DAMAGED = {
    "a file above": {"embeddings": "../embeddings.safetensors"},
    "another file": {"embeddings": "/etc/passwd"},
    "infinite images": {"images": [float("inf"), 1]},
    "no images": {"images": [0, -1]},
    "a number for a name": {"identities": [1, "b"]},
    "half a sign": {"identities": ["\ud800", "b"]},
    "one name twice": {"identities": ["a", "a"]},
    "names in a mapping": {"identities": {"a": 1, "b": 1}},
    "a model that is a list": {"model": [1]},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_galleries_get_words(name, tmp_path):
    save_file({"embedding": np.eye(2, dtype=np.float32)}, tmp_path / "embeddings.safetensors")
    (tmp_path / "gallery.json").write_text(json.dumps(ABOUT))
    assert list(read_gallery(tmp_path).identities) == ["a", "b"]
    (tmp_path / "gallery.json").write_text(json.dumps({**ABOUT, **DAMAGED[name]}))
    with pytest.raises(DataError, match=r"is not what enroll writes"):
        read_gallery(tmp_path)


def header(dtype: str, size: int) -> bytes:
    text = json.dumps({"embedding": {"dtype": dtype, "shape": [2, 2], "data_offsets": [0, 4 * size]}}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(4 * size)


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("I64", 8), ("BOOL", 1), ("X", 1)])
def test_embeddings_of_unusual_numbers_get_words(dtype, size, tmp_path):
    (tmp_path / "gallery.json").write_text(json.dumps(ABOUT))
    (tmp_path / "embeddings.safetensors").write_bytes(header(dtype, size))
    with pytest.raises(DataError):
        read_gallery(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ABOUT)), inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, st.sampled_from([*ABOUT, "all"]))
def test_any_description_of_a_gallery_is_read_or_refused_in_words(tmp_path, value, place):
    save_file({"embedding": np.eye(2, dtype=np.float32)}, tmp_path / "embeddings.safetensors")
    text = json.dumps(value if place == "all" else {**ABOUT, place: value})
    (tmp_path / "gallery.json").write_text(text)
    with contextlib.suppress(DataError):  # nothing else is raised
        assert len(read_gallery(tmp_path).identities) == 2
    (tmp_path / "gallery.json").write_text("[" * 20_000)
    with pytest.raises(DataError, match="not what enroll writes"):
        read_gallery(tmp_path)
