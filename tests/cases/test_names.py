"""Names that a person reads as one and a program as two."""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from visiontl_face.config import FaceConfig
from visiontl_face.data import data, spellings

from visiontl import ImageSpec
from visiontl.kit.names import ALIKE, alike, alike_findings, alike_notes, compared, told_apart

NFC, NFD = "Jos\u00e9", "Jose\u0301"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NFC, NFD),
        ("Anna", "anna"),
        ("Stra\u00dfe", "STRASSE"),
        ("do\u200bg", "dog"),  # of no width
        ("\ufeffdog", "dog\u200f"),
        ("e\u200d\u0301", "\u00c9"),  # what has no width keeps the two from being composed
        ("Anna\u00a0B.", "anna b."),  # a blank that does not break
        ("Anna\u202fB.", "Anna  B. "),
        ("e\u2011bike", "E-Bike"),
        ("\u1112\u1161\u11ab", "\ud55c"),  # Hangul in letters and in one sign
        ("\u2764\ufe0f", "\u2764"),  # the variant in color
    ],
)
def test_names_that_look_alike_have_one_form(one, other):
    assert compared(one) == compared(other)
    assert alike(["x", one, other, one]) == [sorted([one, other])]


@pytest.mark.parametrize(
    ("one", "other"),
    [("Jose", NFC), ("stop sign", "stop_sign"), ("a1", "a2"), ("m2", "m\u00b2"), ("C", "C++"), ("1.5", "15")],
)
def test_other_names_keep_their_forms(one, other):
    assert compared(one) != compared(other)


def test_a_suggestion_looks_beyond_blanks_and_dashes():
    assert compared("stop sign", loose=True) == compared("Stop_Sign", loose=True) == compared("stop\u2013sign", True)
    assert compared("\uff21nna", loose=True) == "anna"  # full width
    assert compared("C", loose=True) != compared("C++", loose=True)
    assert compared("\u0915\u093f", loose=True) != compared("\u0915\u0940", loose=True)  # ki, kii: vowels are signs too


@given(st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_form_is_stable_whatever_the_name(name):
    form = compared(name)
    assert compared(form) == form
    assert compared(unicodedata.normalize("NFD", name)) == compared(f"\u200b{name} ") == form
    compared(name, loose=True)


def test_they_are_told_so_that_the_difference_is_seen():
    assert told_apart(["Anna", "anna"]) == "'Anna' and 'anna'"
    assert told_apart([NFD, NFC]) == "'Jose\\u0301' and 'Jos\\xe9'"
    assert told_apart(["do\u200bg", "dog"]) == "'do\\u200bg' and 'dog'"
    assert told_apart(["a-b", "a\u2011b"]) == "'a-b' and 'a\\u2011b'"
    assert "\n" not in told_apart(["a\nb", "a b"])
    (found,) = alike_findings("class", ["Anna", "b", "anna", NFC, NFD], ALIKE)
    assert (found.level, found.what) == ("warning", "4 classes whose names look alike")
    assert list(found.names) == ["'Anna' and 'anna'", "'Jose\\u0301' and 'Jos\\xe9'"]
    (note,) = alike_notes("class", ["Anna", "anna"], ALIKE)
    assert note.startswith(f"{alike_findings('class', ['Anna', 'anna'], ALIKE)[0].what} ('Anna' and 'anna')")
    assert alike_findings("class", ["a", "b", "a"], ALIKE) == alike_notes("class", ["a"], ALIKE) == []


def faces(root, people):
    for place, person in enumerate(people):
        (root / person).mkdir(parents=True)
        for number in range(2):
            pixels = np.full((8, 8, 3), 20 * place + number, np.uint8)
            Image.fromarray(pixels).save(root / person / f"{number}.png")


def test_one_person_is_never_on_both_sides_of_a_split_by_a_spelling(tmp_path):
    people = ["Anna", "anna", NFC, NFD, "Bo b", "Bo\u00a0b", "Cleo", "Dora"]
    faces(tmp_path, people)
    spec = ImageSpec(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    for seed in range(6):
        source = {"folder": str(tmp_path), "val_fraction": 0.4, "test_fraction": 0, "split_seed": seed}
        found = data(FaceConfig.model_validate({"data": source}), spec)
        splits: Any = found.splits()
        sides = [{item.identity for item in splits[name].items} for name in ("train", "val")]
        assert set.union(*sides) == set(people)
        assert not {compared(name) for name in sides[0]} & {compared(name) for name in sides[1]}
        assert any("6 identities whose names look alike" in note for note in found.notes)


def test_people_of_given_splits_are_known_by_any_spelling(tmp_path):
    faces(tmp_path / "train", [NFC, "Anna", "Bert"])
    faces(tmp_path / "val", [NFD, "anna", "Cleo"])
    spec = ImageSpec(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    found = data(FaceConfig.model_validate({"data": str(tmp_path)}), spec)
    assert any(note.startswith("val: 2 identities are in train too") for note in found.notes)


def test_people_that_differ_stay_as_they_were():
    assert spellings(["b", "a", "b"]) == {"a": ["a"], "b": ["b"]}
    assert spellings(["anna", "Anna", "c"]) == {"Anna": ["Anna", "anna"], "c": ["c"]}
