"""Searches, links, odd names and reading of files, the same for every task."""

from __future__ import annotations

import os

import pytest

from tests.kit.made import picture, pictures
from visiontl import DataError
from visiontl.kit.folders import (
    HIDDEN,
    LEADS_UP,
    NO_PICTURE,
    TWICE,
    Folders,
    by_stem,
    find_images,
    named,
    near,
    opened,
    passed_over,
    read_bytes,
    read_lines,
    read_text,
    relative,
)

ODD = ["zero\u200bwidth", "new\nline", "bell\x07", "not\udcffutf8", "\u202egnp", " blank", "日本", "a..\\..\\x"]


def reasons(found) -> dict[str, str]:
    return {one.name: one.why for one in found.passed}


def test_pictures_are_found_in_depth_and_what_is_none_is_named(tmp_path):
    pictures(tmp_path, ["b/2.png", "b/deep/1.JPG.bmp", "a.png", "b-c/0.png", ".thumbnails/x.png", ".x.png"])
    (tmp_path / "b/notes.txt").write_text("x")
    os.mkfifo(tmp_path / "b/pipe.png")
    found = Folders(str(tmp_path)).pictures()
    assert found.pictures == [
        "a.png",
        "b-c/0.png",
        "b/2.png",
        "b/deep/1.JPG.bmp",
        "b/pipe.png",
    ]  # opening a pipe says so
    assert reasons(found) == {
        ".thumbnails/": HIDDEN,
        ".x.png": HIDDEN,
        "b/notes.txt": NO_PICTURE,
    }
    (note,) = passed_over("set", found.passed)
    assert note == "set: 3 names passed over: hidden: .thumbnails/, .x.png; no picture: b/notes.txt"
    assert passed_over("set", ()) == []


def test_links_are_read_unless_they_leave_or_come_back(tmp_path):
    base = pictures(tmp_path / "set", ["a/0.png", "b/1.png", "a/in/2.png", "store/3.png"])
    picture(tmp_path / "outside/4.png")
    for link, target in {
        "a/linked": "../store",
        "a/one.png": "../b/1.png",
        "a/up": "..",
        "a/itself": "../a",
        "a/again": "in",
        "a/out": "../../outside",
        "a/out.png": "../../outside/4.png",
        "a/broken.png": "nothing.png",
        "a/loop": "loop",
    }.items():
        (base / link).symlink_to(target)
    found = Folders(str(base)).pictures("a")
    assert found.pictures == [
        *("a/0.png", "a/broken.png", "a/in/2.png", "a/linked/3.png", "a/one.png", "a/out.png", "a/out/4.png")
    ]
    assert reasons(found) == {
        "a/up/": LEADS_UP,
        "a/itself/": TWICE,
        "a/again/": TWICE,
        "a/loop": NO_PICTURE,
    }


def test_two_links_into_each_other_end(tmp_path):
    pictures(tmp_path, ["a/0.png", "x/1.png", "y/2.png"])
    (tmp_path / "a/x").symlink_to("../x")
    (tmp_path / "x/y").symlink_to("../y")
    (tmp_path / "y/x").symlink_to("../x")
    (tmp_path / "y/a").symlink_to("../a")
    found = Folders(str(tmp_path)).pictures("a")
    assert found.pictures == ["a/0.png", "a/x/1.png", "a/x/y/2.png"]
    assert set(reasons(found)) == {"a/x/y/x/", "a/x/y/a/"}


def test_links_that_lead_out_are_their_owners_doing(tmp_path):
    base = pictures(tmp_path / "set", ["a/0.png"])
    picture(tmp_path / "outside/1.png")
    (base / "out").symlink_to(tmp_path / "outside")
    (base / "out.png").symlink_to(tmp_path / "outside/1.png")
    (base / "broken.png").symlink_to("nothing.png")
    folders = Folders(str(base))
    assert folders.has("out.png")
    assert folders.has("out/1.png")
    assert not folders.has("broken.png")
    assert folders.read("out.png") == (tmp_path / "outside/1.png").read_bytes()
    assert folders.pictures("out").pictures == ["out/1.png"]
    assert folders.folders() == ["a", "out"]
    assert folders.files("", ".png") == ["broken.png", "out.png"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_may_hold_anything_that_the_file_system_takes(tmp_path, name):
    picture(tmp_path / name / f"{name}.png")
    assert relative(f"{name}/{name}.png") == f"{name}/{name}.png"
    assert Folders(str(tmp_path)).pictures().pictures == [f"{name}/{name}.png"]
    assert Folders(str(tmp_path)).has(f"{name}/{name}.png")


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "\ud800.png", "x" * 5000, "/etc/passwd", "../x", "a/../../x", None, 7]
)
def test_a_name_that_no_file_has_or_that_leaves_is_refused(name):
    with pytest.raises(ValueError, match=r"no file|leaves"):
        relative(name)


def test_detours_are_taken_out():
    assert relative("./a//b/../c.png") == "a/c.png"
    assert relative(".") == relative("a/..") == ""


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    pictures(tmp_path, [f"{i}.png" for i in range(20)])
    folders, listed = Folders(str(tmp_path)), []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda place: listed.append(place) or scandir(place))
    assert all(folders.has(f"{i}.png") for i in range(20))
    assert not folders.has("20.png")
    assert len(listed) == 1


def test_files_are_read_within_limits(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffa \r\n\r\nb\u2028c\n".encode())
    assert read_lines(tmp_path / "names.txt") == [(1, "a "), (3, "b\u2028c")]
    with pytest.raises(DataError, match=r"names\.txt: 15 bytes; such a file has at most 14"):
        read_text(tmp_path / "names.txt", 14)
    (tmp_path / "latin.txt").write_bytes(b"K\xe4fer")
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8 text .*at byte 1"):
        read_text(tmp_path / "latin.txt")
    os.mkfifo(tmp_path / "pipe")
    for place, words in (("pipe", "no regular file"), (".", "a folder"), ("none", "no such file"), ("a/b", "no such")):
        with pytest.raises(DataError, match=words):
            read_bytes(tmp_path / place)


def test_what_a_config_names_and_is_not_there_gets_the_nearest(tmp_path):
    pictures(tmp_path, ["photos/train.png", "photos/a.txt.png"])
    (tmp_path / "photos/train.txt").write_text("x")
    with pytest.raises(DataError, match=r"task\.data\.folder: .*foto: no such folder; did you mean 'photos'"):
        opened(str(tmp_path / "foto"))
    with pytest.raises(DataError, match=r"nor is there"):
        opened(str(tmp_path / "no/where"))
    with pytest.raises(DataError, match="is a file; give a folder"):
        opened(str(tmp_path / "photos/train.txt"), instead="give a folder")
    with pytest.raises(DataError, match="no such folder"):
        opened("a\0b")
    assert near("a\0b") == ""
    folders = opened(str(tmp_path / "photos"))
    assert named(folders, "key", "./train.txt") == "train.txt"
    with pytest.raises(DataError, match=r"key: .*tran\.txt: no such file; did you mean 'train\.txt'"):
        named(folders, "key", "tran.txt")
    with pytest.raises(DataError, match=r"key: \.\./x leaves"):
        named(folders, "key", "../x")


def test_stems_pair_what_belongs_together():
    names = ["images/a/1.png", "images/a/1.jpg", "images/2.v2.png"]
    assert by_stem(names, "images") == {"a/1": ["images/a/1.png", "images/a/1.jpg"], "2.v2": ["images/2.v2.png"]}
    assert by_stem(["m/1_ids.png", "m/1_color.png"], "m", "_ids") == {"1": ["m/1_ids.png"]}
    assert by_stem(["1.png"]) == {"1": ["1.png"]}


def test_images_of_files_folders_and_globs(tmp_path):
    root = pictures(tmp_path, ["in/b/1.png", "in/0.png", "loose.png", "x1.png"])
    (root / "in/notes.txt").write_text("x")
    (root / "in/.cache").mkdir()
    (root / "odd.name").write_text("x")
    (root / "in/linked").symlink_to("b")
    found, notes = find_images([root / "odd.name", root / "in", root / "*.png", root / "in/0.png"])
    assert [str(path.relative_to(root)) for path in found] == [
        "odd.name", "in/0.png", "in/b/1.png", "loose.png", "x1.png",
    ]  # fmt: skip
    assert list(found.values()) == ["odd.name", "0.png", "b/1.png", "loose.png", "x1.png"]
    (note,) = notes
    assert "3 names passed over" in note
    for words in (".cache/", "notes.txt", "linked/"):
        assert words in note
    for pattern, words in (
        ("y*.png", "matches no pictures"),
        ("losse.png", "did you mean 'loose.png'"),
        ("in/.cache", "holds no pictures"),
        ("a\0b", "no such file"),
    ):
        with pytest.raises(DataError, match=words):
            find_images([str(root / pattern)], "task.data.photos")
