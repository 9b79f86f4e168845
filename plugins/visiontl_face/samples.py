"""The sample world for faces: portraits of creatures that nobody has met, in every format that the task reads."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from visiontl.kit.example import once
from visiontl.kit.world import Portrait, name, portrait
from visiontl.kit.written import jpeg, put, put_table

PEOPLE = {"train": range(30), "val": range(30, 40), "test": range(40, 50)}
VIEWS = 8  # of each
KNOWN, STRANGERS = range(50, 56), range(56, 58)  # in no split: to enroll, and to be told from those
SIDE = 128  # pixels


def folders(folder: Path) -> dict[str, Any]:
    """FOLDER/faces/{train,val,test}/NAME/0.jpg: 30, 10 and 10 creatures in 8 pictures of 128 px each. FOLDER/known
    has two pictures each of six others, to enroll; FOLDER/new another one of them, and two strangers."""

    def make(place: Path) -> None:
        for split, person, view in everybody():
            put(place / f"faces/{split}/{name(person)}/{view}.jpg", content(person, view))
        write_new(place)

    return {"data": str(once(folder, make) / "faces")}


def table(folder: Path) -> dict[str, Any]:
    """FOLDER/faces.csv with path, identity and split, and FOLDER/landmarks.csv with file,x1,y1,...,x5,y5 of the
    pictures in FOLDER/faces, as `visiontl face align` reads it."""

    def make(place: Path) -> None:
        rows: list[list[str]] = []
        points: list[list[object]] = []
        for split, person, view in everybody():
            file = f"{name(person)}_{view}.jpg"
            put(place / "faces" / file, content(person, view))
            rows.append([f"faces/{file}", name(person), split])
            points.append([file, *(round(value, 2) for point in drawn(person, view).landmarks for value in point)])
        put_table(place / "faces.csv", ["path", "identity", "split"], rows)
        put_table(place / "landmarks.csv", ["file", *(f"{axis}{i}" for i in range(1, 6) for axis in "xy")], points)
        write_new(place)

    return {"data": str(once(folder, make) / "faces.csv")}


def pairs(folder: Path) -> dict[str, Any]:
    """As folders, with FOLDER/pairs.csv of file_a, file_b and same for test: as many of one creature as of two."""

    def make(place: Path) -> None:
        for split, person, view in everybody():
            put(place / f"faces/{split}/{name(person)}/{view}.jpg", content(person, view))
        rows = [(f"test/{name(a)}/{i}.jpg", f"test/{name(b)}/{j}.jpg", int(a == b)) for (a, i), (b, j) in judged()]
        put_table(place / "pairs.csv", ["file_a", "file_b", "same"], rows)
        write_new(place)

    made = once(folder, make)
    return {"data": str(made / "faces"), "pairs": str(made / "pairs.csv")}


def lfw(folder: Path) -> dict[str, Any]:
    """FOLDER/faces/{train,val,test}/NAME/NAME_0001.jpg, and FOLDER/pairs.txt in LFW's format: ten folds of test."""

    def make(place: Path) -> None:
        for split, person, view in everybody():
            put(place / f"faces/{split}/{name(person)}/{name(person)}_{view + 1:04d}.jpg", content(person, view))
        same, other = ([pair for pair in judged() if (pair[0][0] == pair[1][0]) == one] for one in (True, False))
        each = len(same) // 10
        text = f"10\t{each}\n"
        for fold in range(10):
            one, two = same[fold::10][:each], other[fold::10][:each]
            text += "".join(f"{name(a)}\t{i + 1}\t{j + 1}\n" for (a, i), (_, j) in one)
            text += "".join(f"{name(a)}\t{i + 1}\t{name(b)}\t{j + 1}\n" for (a, i), (b, j) in two)
        put(place / "pairs.txt", text)
        write_new(place)

    made = once(folder, make)
    return {"data": str(made / "faces"), "pairs": str(made / "pairs.txt")}


def everybody() -> list[tuple[str, int, int]]:
    """(split, person, view) of each picture."""
    return [(split, person, view) for split, people in PEOPLE.items() for person in people for view in range(VIEWS)]


def judged() -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """((person, view), (person, view)): all pairs of one creature of test, and as many of two, evenly taken."""
    faces = [(person, view) for person in PEOPLE["test"] for view in range(VIEWS)]
    every = list(combinations(faces, 2))
    same = [pair for pair in every if pair[0][0] == pair[1][0]]
    other = [pair for pair in every if pair[0][0] != pair[1][0]]
    return [*same, *(other[number * len(other) // len(same)] for number in range(len(same)))]


@cache
def drawn(person: int, view: int) -> Portrait:
    return portrait(person, view, SIDE)


def content(person: int, view: int) -> bytes:
    return jpeg(drawn(person, view).image)


def write_new(place: Path) -> None:
    for person in KNOWN:
        for view in (0, 1):
            put(place / f"known/{name(person)}/{view}.jpg", content(person, view))
    for person in (*KNOWN, *STRANGERS):
        put(place / f"new/{name(person)}.jpg", content(person, 2))
