"""A picture that is another one when a run goes on is noticed and said; a copy of the same is not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import visiontl
from visiontl.errors import DataError
from visiontl.report.console import Console
from visiontl.runs import labels, opened, unchanged
from visiontl.testing.case import Case

TASKS = ["classification", "detection", "segmentation", "face", "style", "brightness"]


class Split:
    """Files of a folder as a split: what a data set answers, and no more."""

    def __init__(self, base: Path, names: list[str]):
        self.base, self.names = base, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key):
        raise NotImplementedError

    def image(self, id: int) -> Image.Image:
        image = Image.new("RGB", (1, 1))
        image.info["file"] = str(self.base / self.names[id])
        return image


@pytest.fixture
def begun(tmp_path):
    """(run folder, its train split of 300 files, as its beginning left them)"""
    names = [f"{number:03}.png" for number in range(300)]
    for name in names:
        (tmp_path / name).write_bytes(f"picture {name}".encode())
    run, split = tmp_path / "run", Split(tmp_path, names)
    (run / "splits").mkdir(parents=True)
    (run / "splits/train.txt").write_text("".join(json.dumps(name) + "\n" for name in names))
    unchanged.keep(run, {"train": split}, 0)
    return run, split


def said(run, split, capsys):
    """(warnings, the other lines)"""
    console = Console()
    capsys.readouterr()
    unchanged.compare(run, {"train": split}, console)
    printed = " ".join(capsys.readouterr().out.split())
    return console.notes, printed


def sampled(run):
    """Names whose content was kept, and those whose was not."""
    kept = json.loads((run / "splits/files.json").read_text())["splits"]["train"]
    names = [json.loads(line) for line in (run / "splits/train.txt").read_text().splitlines()]
    known = {names[int(id)] for id in kept["hashes"]}
    return sorted(known), sorted(set(names) - known)


def later(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 2_000_000_000))


def test_nothing_is_said_of_files_that_stayed(begun, capsys):
    assert said(*begun, capsys) == ([], "")
    assert [len(names) for names in sampled(begun[0])] == [200, 100]


def test_what_changed_is_counted_and_named(begun, capsys):
    run, split = begun
    known, unknown = sampled(run)
    for name in unknown[:4]:
        (split.base / name).write_bytes(b"longer than it was before")
    flipped, before = split.base / known[0], (split.base / known[0]).stat()
    flipped.write_bytes(b"q" + flipped.read_bytes()[1:])
    os.utime(flipped, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time say nothing
    later(split.base / known[1])  # touched, and equal
    later(split.base / unknown[5])
    (split.base / unknown[6]).unlink()
    renamed = [name if name != unknown[7] else "other.png" for name in split.names]
    (split.base / unknown[7]).rename(split.base / "other.png")
    notes, _ = said(run, Split(split.base, renamed), capsys)
    (warning,) = notes
    changed = sorted([*unknown[:4], known[0]])
    assert f"train: 5 changed: {', '.join(changed[:3])} and 2 more; " in warning
    assert f"1 written anew at the same size (whether with the same content is not known): {unknown[5]}; " in warning
    assert f"2 gone: {unknown[6]}, {unknown[7]}; 1 new: other.png. It goes on" in warning
    assert known[1] not in warning


def test_a_copy_of_all_is_told_from_changes(begun, capsys, tmp_path):
    run, split = begun
    known, _ = sampled(run)
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    for name in split.names:
        shutil.copyfile(split.base / name, copied / name)
        later(copied / name)
    assert said(run, Split(copied, split.names), capsys) == (
        [],
        "train: 300 files with other times, of the same sizes and contents: a copy",
    )
    (copied / known[7]).write_bytes(b"x" * (copied / known[7]).stat().st_size)
    (warning,), _ = said(run, Split(copied, split.names), capsys)
    assert f"1 changed: {known[7]}; 100 written anew at the same size" in warning


@pytest.mark.parametrize(
    "content",
    ["", "[", "[]", "{}", '{"format": 2}', '{"format": 1, "splits": 5}', "[" * 100_000, "\ud800"]
    + [f'{{"format": 1, "splits": {{"train": {split}}}}}' for split in ("3", '{"sizes": []}')]
    + [
        json.dumps({"format": 1, "splits": {"train": {"sizes": sizes, "times": [1], "hashes": hashes}}})
        for sizes, hashes in (([1], {}), (["1"], {}), ([1.5], {}), ([1], {"7": "a"}), ([1], {"x": "a"}), ([1], [3]))
    ],
)
def test_a_damaged_record_ends_nothing(begun, capsys, content):
    (begun[0] / "splits/files.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    (warning,), _ = said(*begun, capsys)
    assert "files.json cannot be read (" in warning
    assert "whether files changed since the run began is not known" in warning


def test_a_run_of_an_older_version_goes_on_and_a_pipe_is_not_waited_for(begun, capsys):
    run, split = begun
    (run / "splits/files.json").unlink()
    notes, printed = said(run, split, capsys)
    assert notes == []
    assert "keeps no sizes and times of its files" in printed
    os.mkfifo(run / "splits/files.json")
    (warning,), _ = said(run, split, capsys)
    assert "no plain file" in warning


@pytest.mark.parametrize("task", TASKS)
def test_the_files_of_every_task_are_known(tmp_path, capsys, task):
    """By what the contract says of a split alone."""
    splits = Case(task, tmp_path).resolved()
    found = splits.task.data(splits.cfg, visiontl.ImageSpec(), None).splits()
    (tmp_path / "run/splits").mkdir(parents=True)
    for name, split in found.items():
        lines = "".join(json.dumps(one) + "\n" for one in split.names)
        (tmp_path / f"run/splits/{name}.txt").write_text(lines)
    unchanged.keep(tmp_path / "run", found, 0)
    kept = unchanged.read(tmp_path / "run/splits/files.json")
    assert {name: len(one.sizes) for name, one in kept.items()} == {name: len(one) for name, one in found.items()}
    assert all(size > 0 for one in kept.values() for size in one.sizes)
    split = found["train"]
    id = len(split) // 3
    with open(split.image(id).info["file"], "ab") as file:
        file.write(b" ")
    console = Console()
    unchanged.compare(tmp_path / "run", found, console)
    assert split.names[id] in console.notes[0]


def test_it_is_said_when_a_run_goes_on(tmp_path, capsys):
    case = Case("brightness", tmp_path)
    run = Path(visiontl.train(case.resolved("train.epochs=1", "run.name=one"))["run"])
    (run / "report.json").unlink()  # as a kill would leave it
    names = [json.loads(line) for line in (run / "splits/train.txt").read_text().splitlines()]
    (changed,) = tmp_path.rglob(names[0])
    with changed.open("ab") as file:
        file.write(b" ")
    before = (run / "splits/files.json").read_bytes()
    report = visiontl.train(case.resolved("train.epochs=1", f"resume={run}"))
    assert any(f"train: 1 changed: {names[0]}. It goes on" in note for note in report["notes"])
    assert (run / "splits/files.json").read_bytes() == before
    (run / "report.json").unlink()
    (run / "splits/files.json").unlink()
    capsys.readouterr()
    report = visiontl.train(case.resolved("train.epochs=1", f"resume={run}"))
    assert not any("files" in note for note in report["notes"])
    assert "keeps no sizes and times" in " ".join(capsys.readouterr().out.split())


BESIDE = {"detection": "annotations/train.json", "segmentation": "masks/train/000.png", "style": "styles/dots.png"}


@pytest.mark.parametrize("task", BESIDE)
def test_what_is_read_beside_the_pictures_is_known(tmp_path, capsys, task):
    splits = Case(task, tmp_path).resolved()
    data = opened.noted(lambda: splits.task.data(splits.cfg, visiontl.ImageSpec(), None)).splits()
    (tmp_path / "run/splits").mkdir(parents=True)
    unchanged.keep(tmp_path / "run", data, 0)
    kept = json.loads((tmp_path / "run/splits/read.json").read_text())["names"]
    (listed,) = (path for path in map(Path, kept) if str(path).endswith(BESIDE[task]))
    assert not {split.image(0).info["file"] for split in data.values()} & {*kept}
    assert not [name for name in kept if name.endswith(".py")]
    assert unchanged.beside(tmp_path / "run", Console())[unchanged.BESIDE] == unchanged.Changes()
    with listed.open("ab") as file:
        file.write(b" ")
    found = unchanged.beside(tmp_path / "run", Console())[unchanged.BESIDE]
    assert (found.changed, found.gone, found.new) == ([str(listed)], [], [])
    listed.unlink()
    assert unchanged.beside(tmp_path / "run", Console())[unchanged.BESIDE].gone == [str(listed)]


def test_a_file_that_was_looked_for_and_is_there_now_is_new(tmp_path):
    (tmp_path / "splits").mkdir()

    def read():
        with contextlib.suppress(FileNotFoundError):
            (tmp_path / "classes.txt").read_text()
        (tmp_path / "written.txt").write_text("no file that is read")

    opened.noted(read)
    unchanged.keep(tmp_path, {}, 0)
    assert unchanged.beside(tmp_path, Console())[unchanged.BESIDE] == unchanged.Changes()
    (tmp_path / "classes.txt").write_text("a\nb\n")
    (tmp_path / "written.txt").write_text("another")
    assert unchanged.beside(tmp_path, Console()) == {
        unchanged.BESIDE: unchanged.Changes(new=[str(tmp_path / "classes.txt")])
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 1, "names": ["a"]}',
        '{"format": 1, "names": 3, "sizes": [1], "times": [1], "hashes": {}}',
    ],
)
def test_a_damaged_record_of_what_was_read_ends_nothing(tmp_path, content):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/read.json").write_text(content)
    console = Console()
    assert unchanged.beside(tmp_path, console) == {}
    assert "read.json cannot be read (" in console.notes[0]


@pytest.mark.parametrize(
    ("picture", "label", "other", "of_other"),
    [
        ("/d/images/train/1.jpg", "/d/masks/train/1_mask.png", "/d/images/val/a/2.jpg", "/d/masks/val/a/2_mask.png"),
        ("/d/a/images/1.jpg", "/d/a/labels/deep/1.txt", "/d/b/images/2.png", "/d/b/labels/deep/2.txt"),
        ("/d/images/a/1.jpg", "/d/labels/a/1.txt", "/d/images/b/2.png", "/d/labels/b/2.txt"),
        ("/d/1.jpg", "/d/1.xml", "/d/2.jpeg", "/d/2.xml"),
        ("/d/1.jpg", "/x/1.xml", "/e/2.jpeg", None),
        ("/d/a.b.jpg", "/d/labels/a.b.json", "/d/c.jpg", "/d/labels/c.json"),
    ],
)
def test_the_place_of_a_label_follows_from_that_of_another(picture, label, other, of_other):
    rule = labels.rule_of(picture, label)
    assert rule is not None
    assert rule.path(picture) == label
    assert rule.path(other) == of_other
    assert labels.rule_of(picture, "/d/classes.txt") is None


class Labelled(Split):
    """Reads a label, and for all the same list, with each sample; draws from global generators."""

    def __getitem__(self, key):
        name = self.names[key[0]]
        random.random(), np.random.rand(), torch.rand(1)
        (self.base / "all.txt").read_text()
        if name.startswith("7"):
            raise DataError("cannot be read")
        return (self.base / "labels" / name).with_suffix(".txt").read_text()


def test_labels_that_are_read_with_the_samples_are_known(tmp_path):
    names = [f"{number}.png" for number in range(250)]
    (tmp_path / "labels").mkdir()
    (tmp_path / "all.txt").write_text("a\nb\n")
    for name in names:
        (tmp_path / name).write_bytes(b"p")
        if name != "9.png":
            (tmp_path / "labels" / name).with_suffix(".txt").write_text(name)
    run, before = tmp_path / "run", (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state())
    (run / "splits").mkdir(parents=True)
    split = Labelled(tmp_path, names)
    opened.noted(lambda: None)
    unchanged.keep(run, {"train": split}, 0)
    assert before[:2] == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(before[2], torch.get_rng_state())
    kept = json.loads((run / "splits/labels.json").read_text())
    assert len(kept["names"]) == 250  # and the list, and no picture
    assert len(kept["hashes"]) == 200
    assert unchanged.beside(run, Console())[unchanged.WITH_SAMPLES] == unchanged.Changes()
    (tmp_path / "labels/211.txt").write_text("another one")
    (tmp_path / "all.txt").unlink()
    found = unchanged.beside(run, Console())[unchanged.WITH_SAMPLES]
    assert (found.changed, found.gone) == ([f"{tmp_path}/labels/211.txt"], [f"{tmp_path}/all.txt"])


def test_changed_annotations_are_said_when_a_run_goes_on(tmp_path):
    case, listed = Case("brightness", tmp_path), tmp_path / "labels.csv"
    listed.write_text("a,1\n")

    def resolved(*words):
        """Of a task that reads a table with its data."""
        found = case.resolved("train.epochs=1", *words)
        data = found.task.data
        return replace(found, task=replace(found.task, data=lambda *given: (listed.read_text(), data(*given))[1]))

    run = Path(visiontl.train(resolved("run.name=one"))["run"])
    (run / "report.json").unlink()  # as a kill would leave it
    listed.write_text("a,12\n")
    report = visiontl.train(resolved(f"resume={run}"))
    assert any(f"read with the data: 1 changed: {listed}. It goes on" in note for note in report["notes"])
