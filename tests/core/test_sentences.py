"""Counts, names and mistakes in words."""

from __future__ import annotations

import pytest

from visiontl import DataError
from visiontl.kit.words import count, plural, refusal, some, told


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "box", "1 box"),
        (2, "box", "2 boxes"),
        (1200, "class", "1,200 classes"),
        (3, "category", "3 categories"),
        (3, "identity", "3 identities"),
        (8, "process", "8 processes"),
        (2, "repeated line", "2 repeated lines"),
    ],
)
def test_counts_have_their_plural(number, noun, text):
    assert count(number, noun) == text


def test_words_around_a_count_follow_it():
    assert [plural(1, word) for word in ("is", "has", "its")] == ["is", "has", "its"]
    assert [plural(2, word) for word in ("is", "has", "its")] == ["are", "have", "their"]


def test_a_quoted_name_is_one_short_line_whatever_is_in_it():
    assert told("Größe 漢") == "Größe 漢"
    assert told("two\nlines\x1b") == r"'two\nlines\x1b'"
    assert told("") == "''"
    assert told(7) == "7"
    assert told("a" * 120) == "a" * 120
    long = told("begins" + "x" * 1000 + "ends")
    assert len(long) <= 120
    assert long.startswith("begins")
    assert " ... " in long
    assert long.endswith("ends")


def test_of_many_names_a_few_are_told():
    assert some(["a", "b"]) == "a, b"
    assert some("abcde") == "a, b, c, d, e"
    assert some(range(1010)) == "0, 1, 2, 3, 4 and 1,005 more"
    assert some(["a", "b\n", "c"], 2) == r"a, 'b\n' and 1 more"


def test_all_mistakes_of_a_file_are_one_error():
    assert isinstance(refusal("list.csv", ["line 1"]), DataError)
    assert str(refusal("list.csv", ["line 1"])) == "list.csv: line 1"
    assert str(refusal("list.csv", ["line 1", "line 2"])) == "list.csv: 2 errors\n  - line 1\n  - line 2"
    lines = str(refusal("list.csv", [f"line {i}" for i in range(2000)])).splitlines()
    assert lines[0] == "list.csv: 2,000 errors"
    assert lines[1:9] == [f"  - line {i}" for i in range(8)]
    assert lines[9:] == ["  - and 1,992 more"]
