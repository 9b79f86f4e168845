"""Data sets that people have: folders, lists and tables, each made by a function that fills one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bad_input.pictures import encoded, scene
from visiontl import ImageSpec
from visiontl.config.resolve import resolve


def photo(path: Path, turned: int = 0) -> Path:
    """A small sound picture; `turned` makes another one of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded("PNG", scene().rotate(turned)))
    return path


def sound(root: Path) -> Path:
    """root/{train,val}/{a,b} with two pictures each, all different."""
    for number, split in enumerate(("train", "val")):
        for letter in "ab":
            for i in range(2):
                photo(root / split / letter / f"{i}.png", 90 * number + 40 * i + 7 * "ab".index(letter))
    return root


@dataclass(frozen=True)
class Source:
    """name: of the case. fill: makes the folder. words: what the error says; None: it trains.
    told: what is said of one that trains. data: the value of task.data, seen from the folder above."""

    name: str
    fill: Callable[[Path], Any]
    words: tuple[str, ...] | None = None
    told: tuple[str, ...] = ()
    data: str = "photos"


def classes(counts: Mapping[str, int]) -> Callable[[Path], Any]:
    """{"train/a": 2} -> so many different pictures in each folder; 0 makes an empty one."""

    def fill(root: Path) -> None:
        for number, (folder, count) in enumerate(counts.items()):
            (root / folder).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                photo(root / folder / f"{i}.png", 17 * number + 3 * i)

    return fill


def with_more(more: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda root: more(sound(root))


def file_only(content: bytes = b"") -> Callable[[Path], Any]:
    return lambda root: root.write_bytes(content)


def loop(root: Path) -> None:
    (root / "train/a/again").symlink_to("..")


def itself(root: Path) -> None:
    root.symlink_to(root.name)


def litter(root: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "notes.txt"):
        (root / "train/a" / name).write_bytes(b"\0\0")
    (root / "train/.ipynb_checkpoints").mkdir()
    (root / "README").write_text("words")


def pipe(root: Path) -> None:
    os.mkfifo(root / "train/a/pipe")


def folder_with_a_pictures_name(root: Path) -> None:
    photo(root / "train/a/album.jpg/9.png", 77)


def linked_class(store: str) -> Callable[[Path], None]:
    """store: where the photos of a class are to which its folder in train is a link, seen from the set."""

    def more(root: Path) -> None:
        for i in range(2):
            photo(root / store / f"{i}.png", 100 + i)
            photo(root / "val/c" / f"{i}.png", 110 + i)
        (root / "train/c").symlink_to(root / store)

    return more


FOLDERS = [
    Source("absent", lambda root: None, ("photos: no such folder",)),
    Source("a misspelt name", sound, ("did you mean 'photos'",), data="photo"),
    Source("a file", file_only(b"x"), ("photos: is a file",)),
    Source("a link to itself", itself, ("photos",)),
    Source("empty", lambda root: root.mkdir(), ("photos: holds no class folders",)),
    Source("only hidden folders", lambda root: (root / ".git").mkdir(parents=True), ("holds no class folders",)),
    Source("pictures without classes", classes({"": 3}), ("holds 3 pictures but no class folders",)),
    Source("pictures of val without classes", classes({"train/a": 2, "train/b": 2, "val": 2}), ("photos/val",)),
    Source("one class", classes({"train/a": 2, "val/a": 2}), ("has 1 class (a)",)),
    Source("empty classes", classes({"a": 0, "b": 0}), ("photos: no pictures found",)),
    Source("a class empty in train", classes({"train/a": 2, "train/b": 0, "val/a": 1}), ("1 class: b",)),
    Source(
        "a class only in val",
        classes({"train/a": 2, "train/b": 2, "val/a": 1, "val/c": 1}),
        ("no training image of 1 class: c (only in val)",),
    ),
    Source("an empty val", classes({"train/a": 2, "train/b": 2, "val/a": 0}), ("val holds no pictures",)),
    Source("no train", classes({"val/a": 2, "val/b": 2}), ("and no train",)),
    Source("val and valid", classes({"train/a": 2, "train/b": 2, "val/a": 1, "valid/a": 1}), ("both mean val",)),
    Source("Train and train", classes({"train/a": 2, "train/b": 2, "Train/a": 1}), ("both mean train",)),
    Source("a split or a class", classes({"train/x": 2, "bus": 2, "car": 2}), ("a split or a class",)),
    Source(
        "only texts",
        with_more(lambda root: [f.rename(f.with_suffix(".txt")) for f in root.rglob("*.png")]),
        ("photos",),
    ),
    Source(
        "a table of JSON lines", file_only(b'{"path": "x"}\n'), ("photos.jsonl", "a .csv file"), data="photos.jsonl"
    ),
    Source("a loop of links", with_more(loop), None, ("train: 4", "a link to a folder above: train/a/again/")),
    Source(
        "litter of systems and editors", with_more(litter), None, ("passed over: hidden: ", ".DS_Store", "no picture: ")
    ),
    Source("a pipe", with_more(pipe), None, ("train/a/pipe",)),
    Source("a folder named like a picture", with_more(folder_with_a_pictures_name), None, ("train: 5",)),
    Source("a class behind a link", with_more(linked_class(".store")), None, ("train: 6",)),
    Source("a class behind a link that leads out", with_more(linked_class("../out")), None, ("train: 6",)),
    Source(
        "names that differ in case", classes({"train/Cat": 2, "train/cat": 2, "val/cat": 1}), None, ("val: no image",)
    ),
    Source(
        "one picture of a class",
        classes({"train/a": 2, "train/b": 1, "val/a": 1}),
        None,
        ("one image only of 1 class: b",),
    ),
    Source("two pictures in all", classes({"a": 1, "b": 1}), None, ("train: 2",)),
]

# Names of classes and of files that some file system allows. They are data: nothing may read more into them.
NAMES = [
    "with space",
    " leading",
    "trailing ",
    "new\nline",
    "tab\there",
    "carriage\rreturn",
    'quote"double',
    "quote'single",
    "<script>alert(1)<",
    "<img src=x onerror=alert(1)>",
    "&amp;",
    "{{7*7}}",
    "{% raise %}",
    "${HOME}",
    "$(touch ran)",
    "`touch ran`",
    "; touch ran",
    "| touch ran",
    "%s%n",
    "%2e%2e%2f",
    "-rf",
    "--help",
    "a=b",
    "*",
    "?",
    "[a]",
    "#5",
    "~",
    "null",
    "true",
    "1e-3",
    "nan",
    "CON",
    "back\\slash",
    "a..\\..\\x",
    "comma,semi;colon",
    "a|b",
    "=1+1",
    "@x",
    "ünïcödé",
    "u\u0308mlaut",
    "日本語",
    "عربى",
    "\u202egnp.exe",
    "\U0001f600",
    "\x1b[31mred\x1b[0m",
    "bell\x07",
    "next\x85line",
    "line\u2028separator",
    "zero\u200bwidth",
    "not\udcffutf8",
    "x" * 200,
    "$formula$",
    "\\frac{1}{0}",
]


def with_odd_names(root: Path) -> None:
    """Each name is a class, and the name of a picture in it."""
    for number, name in enumerate(NAMES):
        photo(root / "train" / name / f"{name}.png", number)
        photo(root / "val" / name / f"{name}.png", 180 + number)


def read(config: Path) -> str:
    """Read every image of a config's data, as training would; what is said of it, and how many are in each split."""
    resolved = resolve(config)
    data = resolved.task.data(resolved.cfg, ImageSpec(size=(32, 32)), None)
    for split in data.splits().values():
        for i in range(len(split)):
            assert split[i, 0]["image"].shape == (3, 32, 32)
    return "\n".join([*data.notes, *(f"{name}: {len(split)}" for name, split in data.splits().items())])
