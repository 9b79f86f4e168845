"""Tables as spreadsheets write them."""

from __future__ import annotations

import pytest

from tests.kit.made import pictures
from visiontl import DataError
from visiontl.kit.tables import read_listing, read_rows, read_table, repeated_lines


def write(folder, content: str | bytes):
    path = folder / "table.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_columns_in_any_order(tmp_path, delimiter, end):
    rows = [["Note", "B ", "a"], ["x", " 2", f'"1{delimiter}""z"""'], [""], ["y", "4", '"3\n5"']]
    path = write(tmp_path, "\ufeff" + end.join(delimiter.join(row) for row in rows))
    table = read_table(path, ("a", "b"), ("c",))
    assert list(table.columns) == ["a", "b"]
    assert [cells for _, cells in table.records] == [{"a": f'1{delimiter}"z"', "b": "2"}, {"a": "3\n5", "b": "4"}]
    assert [line for line, _ in table.records] == [2, 5]
    assert not table.problems


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no column 'path'; expected path,label[,split], found nothing"),
        ("path,lable\n", "no column 'label'; expected path,label[,split], found path, lable; did you mean 'lable'"),
        (b"\xff\xfea\0", "not UTF-8 text"),
        ('path,label\n"a,b\n', "not a readable table (line 2"),
        ("path,label\n" + "x" * 200_000, "not a readable table (line 2"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, words):
    with pytest.raises(DataError) as error:
        read_table(write(tmp_path, content), ("path", "label"), ("split",))
    assert words in str(error.value)
    assert "table.csv" in str(error.value)


def test_rows_of_another_length_are_told_with_their_lines(tmp_path):
    table = read_table(write(tmp_path, "a,b\n1\n2,3\n\n4,5,6\n"), ("a", "b"))
    assert table.records == [(3, {"a": "2", "b": "3"})]
    assert [problem.partition(";")[0] for problem in table.problems] == [
        "line 2 has 1 cell, the header 2",
        "line 5 has 3 cells, the header 2",
    ]


def test_rows_without_a_header(tmp_path):
    assert read_rows(write(tmp_path, "cat, 1\n\n dog ,2\n")) == [(1, ["cat", "1"]), (3, ["dog", "2"])]


def label(cells):
    if not cells["label"]:
        raise ValueError("no label")
    return cells["label"]


def test_a_table_of_files(tmp_path):
    pictures(tmp_path, ["a/0.png", "1.png", "zero\u200bwidth.png"])
    path = write(
        tmp_path,
        "label,path,split\nx,./a/0.png,Training\ny,1.png,valid\nz,zero\u200bwidth.png,train\nx,a/0.png,train\n",
    )
    listed = read_listing(str(path), None, ("label",), (), label)
    assert listed.parts == {"train": {"a/0.png": "x", "zero\u200bwidth.png": "z"}, "val": {"1.png": "y"}}
    assert repeated_lines(str(path), listed.repeated) == [f"{path}: 1 repeated line left out: a/0.png"]
    assert repeated_lines(str(path), []) == []
    elsewhere = (tmp_path / "lists").resolve()
    elsewhere.mkdir()
    table = write(elsewhere, "path,label\n0.png,x\n")
    assert read_listing(str(table), str(tmp_path / "a"), ("label",), (), label).parts == {"whole": {"0.png": "x"}}


def test_all_mistakes_of_a_table_of_files_are_told_at_once(tmp_path):
    pictures(tmp_path / "set", ["0.png", "1.png"])
    pictures(tmp_path, ["outside.png"])
    (tmp_path / "set/link.png").symlink_to(tmp_path / "outside.png")
    rows = ["0.png,x,train", ",x,train", "../outside.png,x,val", "link.png,x,val", "gone.png,x,val", "1.png,,val"]
    rows += ["0.png,y,train"]
    path = write(tmp_path / "set", "path,label,split\n" + "\n".join(rows) + "\n1.png,x\n")
    with pytest.raises(DataError) as error:
        read_listing(str(path), None, ("label",), (), label)
    for words in (
        "6 errors",
        "line 9 has 2 cells",
        "line 3: no path",
        "line 4: ../outside.png leaves",
        "1 file not found below",
        "gone.png (line 6)",
        "line 7: no label",
        "line 8: 0.png stands on line 2 already",
    ):
        assert words in str(error.value)
    with pytest.raises(DataError, match=r"line 2: split 'tset' is none of train, val, test"):
        read_listing(str(write(tmp_path / "set", "path,label,split\n0.png,x,tset\n")), None, ("label",), (), label)
