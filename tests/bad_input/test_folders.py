"""Folders as people have them: each trains and says what it left out, or is refused in words."""

from __future__ import annotations

import json

import pytest

from tests.bad_input.conftest import CONFIG
from tests.bad_input.outcome import check_refused, check_served, check_written, command, finite
from tests.bad_input.sources import FOLDERS, NAMES, read, with_odd_names


@pytest.mark.parametrize("source", FOLDERS, ids=lambda one: one.name)
def test_folders(capsys, place, source):
    source.fill(place / ("photos" if source.data == "photo" else source.data))
    (place / "config.yaml").write_text(CONFIG.format(data=source.data))
    if source.words is not None:
        check_refused(command(capsys, place, "train", "config.yaml"), *source.words)
        return
    said = read(place / "config.yaml")
    for words in source.told:
        assert words in said


def test_names_are_data(capsys, place):
    """Trained, evaluated and predicted with: no name is run, leaves a folder, or steers a terminal or a page."""
    with_odd_names(place / "photos")
    (place / "config.yaml").write_text(CONFIG.format(data="photos"))
    done = command(capsys, place, "train", "config.yaml")
    check_served(done, ["runs/run"])
    check_output(done.out)
    assert sorted(json.loads((place / "runs/run/model/meta.json").read_text())["classes"]) == sorted(NAMES)
    lines = (place / "runs/run/splits/train.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert {json.loads(line) for line in lines} == {f"train/{name}/{name}.png" for name in NAMES}
    check_page((place / "runs/run/report.html").read_text(encoding="utf-8"))
    done = command(capsys, place, "evaluate", "runs/run")
    assert (done.code, done.err) == (0, "")
    assert "warning" not in done.out  # the lists that were saved are those that are there
    new = {path.split("/")[2] for path in done.new if path.startswith("runs/run/")}
    (folder,) = [name for name in new if name.startswith("evaluate-")]
    check_written(done, [f"runs/run/{folder}"])
    check_page((place / f"runs/run/{folder}/report.html").read_text(encoding="utf-8"))
    done = command(capsys, place, "predict", "runs/run", "photos/val", "--out", "answers", "top_k=100")
    check_served(done, ["answers"])
    check_output(done.out)
    lines = (place / "answers/predictions.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    records = [json.loads(line) for line in lines]
    assert {record["file"] for record in records} == {f"photos/val/{name}/{name}.png" for name in NAMES}
    assert finite(records)
    lists = "task.data={folder: photos, lists: runs/run/splits}"
    done = command(capsys, place, "train", "config.yaml", lists, "run.name=again", "train.epochs=0")
    check_served(done, ["runs/again"])


def check_output(text: str) -> None:
    assert not set(text) & {chr(i) for i in range(32) if chr(i) not in "\n\t"}
    assert "\u202e" not in text


def check_page(page: str) -> None:
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "\x1b" not in page
