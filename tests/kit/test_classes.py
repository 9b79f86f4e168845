"""Classes of two data sets by their names."""

from __future__ import annotations

from visiontl.kit.classes import match


def test_equal_names_match_and_others_are_told():
    found = match(["ground", "cat", "dog"], ["dog", "bird", "ground", "dog"])
    assert found.index == {"dog": 2, "ground": 0}
    assert found.missing == ["cat"]
    assert found.surplus == ["bird"]
    assert found.alike == {}
    assert found.unknown().startswith("1 class that the model does not know: bird")


def test_names_that_look_alike_are_no_match_but_told():
    found = match(["Café", "stop_sign", "dog"], ["Cafe\u0301", "Stop sign", "do\u200bg", "frog"])
    assert found.index == {}
    assert found.alike == {"Cafe\u0301": "Café", "Stop sign": "stop_sign", "do\u200bg": "dog"}
    assert found.hint() == "; did you mean 'Café'?"
    assert match(["a"], ["A"]).hint() == "; did you mean 'a'?"


def test_a_second_name_serves_where_the_first_does_not():
    found = match(["n01", "n02"], ["crane", "n01", "bee"], also=["n02", "crane"])
    assert found.index == {"crane": 1, "n01": 0}
    assert found.surplus == ["bee"]
    assert match(["n01", "n02"], ["n02"], also=["n02", "x"]).index == {"n02": 1}


def test_the_nearest_name_is_offered():
    assert match(["ants", "bees"], ["ant", "wasps"]).hint() == "; did you mean 'ants'?"
    assert match(["ants"], ["ants"]).hint() == ""
