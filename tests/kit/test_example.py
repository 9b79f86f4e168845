"""Example data sets: made once, whole or not at all, whoever else makes them at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from visiontl.kit.example import once


def two_files(place: Path) -> None:
    (place / "a").mkdir()
    (place / "a/1.txt").write_text("one")
    (place / "2.txt").write_text("two")


def listed(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_it_is_made_where_it_is_missing_and_kept_where_it_is(tmp_path):
    assert once(tmp_path / "deep/set", two_files) == tmp_path / "deep/set"
    assert listed(tmp_path / "deep") == ["set", "set/2.txt", "set/a", "set/a/1.txt"]
    assert (tmp_path / "deep/set").stat().st_mode & 0o777 == 0o755
    (tmp_path / "deep/set/2.txt").write_text("mine")
    once(str(tmp_path / "deep/set"), lambda _: pytest.fail("made again"))
    assert (tmp_path / "deep/set/2.txt").read_text() == "mine"


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyboardInterrupt])
def test_what_make_raises_is_passed_on_and_nothing_stays(tmp_path, error):
    def breaks(place: Path) -> None:
        two_files(place)
        raise error("half way")

    with pytest.raises(error, match="half way"):
        once(tmp_path / "set", breaks)
    assert listed(tmp_path) == []


def test_what_was_left_unfinished_is_made_anew(tmp_path):
    (tmp_path / "set").mkdir()  # empty
    (tmp_path / ".set-dead").mkdir()  # of a process that was killed
    (tmp_path / ".set-dead/2.txt").write_text("tw")
    once(tmp_path / "set", two_files)
    assert listed(tmp_path / "set") == ["2.txt", "a", "a/1.txt"]
    assert (tmp_path / "set/2.txt").read_text() == "two"


def test_of_two_at_once_one_is_first_and_both_get_the_whole(tmp_path):
    """Each has written all before any may take the name."""
    both_wrote, seen = threading.Barrier(2, timeout=20), []

    def slow(place: Path) -> None:
        two_files(place)
        both_wrote.wait()

    def one() -> None:
        seen.append(listed(once(tmp_path / "set", slow)))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [["2.txt", "a", "a/1.txt"]] * 2
    assert listed(tmp_path) == ["set", "set/2.txt", "set/a", "set/a/1.txt"]


def test_a_file_in_its_place_is_an_error(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(OSError, match="set"):
        once(tmp_path / "set", two_files)
    assert listed(tmp_path) == ["set"]
