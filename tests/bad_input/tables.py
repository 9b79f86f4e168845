"""Tables of labels and lists of files, as spreadsheets and scripts write them."""

from __future__ import annotations

from dataclasses import dataclass

ROWS = "train/a/0.png,a,train\ntrain/a/1.png,a,train\ntrain/b/0.png,b,train\ntrain/b/1.png,b,train\nval/a/0.png,a,val\n"
HEAD = "path,label,split\n"
GOOD = HEAD + ROWS


@dataclass(frozen=True)
class Table:
    """content: of photos/table.csv. words: what the error says; None: it trains."""

    name: str
    content: str | bytes
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Lists:
    """content: of train.txt; val.txt names one picture. words: what the error says; None: it trains."""

    name: str
    content: str | bytes | None
    words: tuple[str, ...] | None = None


TABLES = [
    Table("plain", GOOD),
    Table("a byte order mark", b"\xef\xbb\xbf" + GOOD.encode()),
    Table("lines of Windows", GOOD.replace("\n", "\r\n")),
    Table("semicolons", GOOD.replace(",", ";")),
    Table("blank lines", GOOD.replace("\n", "\n\n")),
    Table("capital columns", GOOD.replace(HEAD, "Path,LABEL,Split\n")),
    Table("columns beside", "id,path,label,split\n" + "".join(f"7,{row}\n" for row in ROWS.splitlines())),
    Table("labels that are markup", GOOD.replace(",b,", ",<script>alert(1)</script>,")),
    Table("labels that are paths", GOOD.replace(",b,", ",../../etc/passwd,")),
    Table("labels with newlines", GOOD.replace(",b,", ',"b\nb",')),
    Table("labels with quotes", GOOD.replace(",b,", ',"b""b",')),
    Table("labels that are formulas", GOOD.replace(",b,", ",=cmd|' /C calc'!A0,")),
    Table("labels that are numbers", GOOD.replace(",a,", ",0,").replace(",b,", ",1e-3,")),
    Table("repeated lines", GOOD + "train/a/0.png,a,train\n"),
    Table("empty", "", ("table.csv", "no column 'path'")),
    Table("a header alone", HEAD, ("has a header and no rows",)),
    Table("no header", ROWS, ("no column 'path'", "train/a/0.png")),
    Table("a column missing", GOOD.replace("label", "labl"), ("no column 'label'", "did you mean 'labl'")),
    Table("a cell too few", GOOD + "val/b/0.png,b\n", ("line 7 has 2 cells, the header 3",)),
    Table("a cell too many", GOOD + "val/b/0.png,b,val,x\n", ("line 7 has 4 cells",)),
    Table("no label", GOOD + "val/b/0.png,,val\n", ("line 7: no label for val/b/0.png",)),
    Table("no path", GOOD + ",b,val\n", ("line 7: no path",)),
    Table("an unknown split", GOOD + "val/b/0.png,b,tset\n", ("line 7: split 'tset'",)),
    Table("a label twice", GOOD + "train/a/0.png,b,train\n", ("line 7: train/a/0.png stands on line 2",)),
    Table("a picture in train and val", GOOD + "train/a/0.png,a,val\n", ("line 7: train/a/0.png stands on line 2",)),
    Table(
        "a path that leads out", GOOD + "../secret.png,b,val\n", ("line 7: ../secret.png leaves the data set's folder",)
    ),
    Table("a path that leads out and in", GOOD + "../photos/../../x.png,b,val\n", ("leaves the data set's folder",)),
    Table("an absolute path", GOOD + "/etc/passwd,b,val\n", ("line 7: /etc/passwd lies outside of",)),
    Table("a link that leads out", GOOD + "out.png,b,val\n"),
    Table(
        "another machine's path", GOOD + "/home/x/val/a/0.png,b,val\n", ("val/a/0.png is there (leave out /home/x/)",)
    ),
    Table("a path of Windows", GOOD + "val\\a\\0.png,b,val\n", ("val/a/0.png is there (write / for \\)",)),
    Table("a column twice", GOOD.replace("split\n", "label\n"), ("has the column 'label' twice",)),
    Table("files that are absent", GOOD + "gone.png,b,val\n", ("1 file not found", "gone.png (line 7)")),
    Table("a folder for a file", GOOD + "train/a,a,val\n", ("train/a (line 7)",)),
    Table("a pipe for a file", GOOD + "pipe.png,a,val\n", ("pipe.png",)),
    Table("a NUL in a path", (GOOD + "va\0l.png,b,val\n").encode(), ("table.csv",)),
    Table("a name of 5,000 characters", GOOD + "x" * 5000 + ".png,b,val\n", ("table.csv",)),
    Table("a field of 200,000 characters", GOOD + "x" * 200_000 + ",b,val\n", ("not a readable table",)),
    Table("a quote left open", GOOD + '"val/b/0.png,b,val\n', ("not a readable table",)),
    Table("UTF-16", GOOD.encode("utf-16"), ("table.csv: not UTF-8 text",)),
    Table("Latin-1", GOOD.replace(",b,", ",blüte,").encode("latin-1"), ("table.csv: not UTF-8 text",)),
    Table("a picture", b"\x89PNG\r\n\x1a\n\0\xff", ("table.csv: not UTF-8 text",)),
    Table("an HTML page", "<!DOCTYPE html>\n<html></html>\n", ("no column 'path'",)),
    Table("one class", GOOD.replace(",b,", ",a,"), ("has 1 class (a)",)),
    Table("a class only in val", GOOD + "val/b/0.png,c,val\n", ("no training image of 1 class: c (only in val)",)),
    Table(
        "mistakes in all lines", HEAD + "".join(f"gone{i}.png,,x{i}\n/abs{i},a,val\n" for i in range(50)), ("errors",)
    ),
]

NAMED = "train/a/0.png\ntrain/a/1.png\ntrain/b/0.png\ntrain/b/1.png\n"
LISTS = [
    Lists("plain", NAMED),
    Lists("a byte order mark", b"\xef\xbb\xbf" + NAMED.encode()),
    Lists("lines of Windows", NAMED.replace("\n", "\r\n").encode()),
    Lists("names in quotes", '"train/a/0.png"\n"train/b/0.png"\n'),
    Lists("absent", None, ("has no train.txt",)),
    Lists("empty", "", ("has no train.txt",)),
    Lists("unknown names", NAMED + "train/a/O.png\n", ("train.txt: 1 name not in photos", "did you mean")),
    Lists("a path that leads out", NAMED + "../../secret.png\n", ("1 name not in photos: ../../secret.png",)),
    Lists("an absolute path", NAMED + "/etc/passwd\n", ("1 name not in photos: /etc/passwd",)),
    Lists("a name twice", NAMED + "train/a/0.png\n", ("train/a/0.png is already in train.txt",)),
    Lists("a picture of val", NAMED + "val/a/0.png\n", ("val/a/0.png is already in train.txt",)),
    Lists("a quote left open", NAMED + '"train/a/0.png\n', ("1 name not in photos",)),
    Lists("UTF-16", NAMED.encode("utf-16"), ("train.txt: not UTF-8 text",)),
    Lists("NUL bytes", b"\0\0\0\n", ("train.txt: 1 name not in photos",)),
    Lists("one class", "train/a/0.png\n", ("no training image of 1 class: b",)),
]
