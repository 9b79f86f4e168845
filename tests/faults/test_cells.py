"""What a table holds is text to a spreadsheet, and the same text to whoever reads it back."""

from __future__ import annotations

import csv

import pytest
from hypothesis import given, settings, strategies

from visiontl.kit.cells import marked, unmarked
from visiontl.kit.tables import read_table
from visiontl.runs.images import read_images, write_images
from visiontl.runtime.written import write_csv

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1", "=cmd|' /C calc'!A0"]
OTHERS = ["", "a", "'a", "a=1", "1-1", "'", "photos/=1.png"]


@given(strategies.text(alphabet="'=+-@\t\ra1", max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_cell_reads_back_equal_and_begins_as_no_formula(text):
    assert unmarked(marked(text)) == text
    assert not marked(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unmarked(text) == text or text[0] == "'"


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_marked(text):
    assert marked(text) == f"'{text}"


@pytest.mark.parametrize("text", OTHERS)
def test_other_text_is_left_alone(text):
    assert marked(text) == unmarked(text) == text


def test_predictions_hold_no_formula_and_a_table_of_them_reads_back(tmp_path):
    names = [name for name in FORMULAS if name.strip() == name]
    write_csv(tmp_path / "p.csv", [{"path": name, "label": f"@{name}", "score": -0.5} for name in names])
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert all(cell[0] == "'" for row in rows for cell in row[:2])
    assert {row[2] for row in rows} == {"-0.5"}
    records = [cells for _, cells in read_table(tmp_path / "p.csv", ["path", "label"]).records]
    assert [(one["path"], one["label"]) for one in records] == [(name, f"@{name}") for name in names]


def test_images_of_a_split_read_back(tmp_path):
    names = [name for name in FORMULAS if "\r" not in name]
    write_images(tmp_path, "val", names, [{"right": True}] * len(names))
    assert "\n=" not in (tmp_path / "images-val.csv").read_text()
    found = read_images(tmp_path, "val")
    assert found is not None
    assert found.files == names
