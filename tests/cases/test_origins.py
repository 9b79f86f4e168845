"""Runs and exported models somewhere else: from which folder paths are read, and what is never changed."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

import visiontl
from visiontl import cli
from visiontl.errors import CheckpointError
from visiontl.runs import folders, store
from visiontl.runs.origin import _absolute, lost_data, relative_paths
from visiontl.testing import Case

TINY = """
task: {name: brightness, data: photos, dropout: 0.0}
backbone: {name: visiontl/tiny, weights: none, image_size: 64}
train: {epochs: 2, batch_size: 4, precision: fp32, channels_last: false}
features: {cache: off}
loader: {workers: 0}
"""


def said(*words: str) -> tuple[int, str]:
    """(exit code, what is printed) of a command."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = cli.main(list(words))
    return code, text.getvalue()


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project with `photos` and a finished run `runs/one` of 8 updates, started in it with relative paths."""
    place = tmp_path_factory.mktemp("project")
    shutil.copytree(Case("brightness", place / "made").resolved().config.task["data"], place / "photos")
    (place / "tiny.yaml").write_text(TINY)
    with contextlib.chdir(place):
        code, text = said("train", "tiny.yaml", "run.name=one")
    assert code == 0, text
    return place


def scores(text: str) -> list[str]:
    return re.findall(r"mae +([\d.]+)", text)


def digest(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_is_evaluated_from_any_folder(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    code, at_home = said("evaluate", "runs/one")
    assert code == 0
    assert "was started in" not in at_home
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()  # of the same name, and another data set: not the run's
    (tmp_path / "other").mkdir()
    for file in sorted((project / "photos").iterdir())[:6]:
        shutil.copy(file, tmp_path / "other")
    code, away = said("evaluate", str(project / "runs/one"))
    assert (code, scores(away)) == (0, scores(at_home)), away
    assert (
        f"the run was started in {project}: the relative paths of its config (photos ...) are read from there" in away
    )
    assert Path.cwd() == tmp_path  # and back
    relative = os.path.relpath(project / "runs/one/model")
    code, model = said("evaluate", relative)
    assert (code, scores(model)) == (0, scores(at_home)), model
    code, other = said("evaluate", relative, "other")  # what is given now is of the folder that one is in
    assert code == 0, other
    assert "test: 6 images" in other
    code, other = said("evaluate", relative, "task.data=other", "--out", "mine")
    assert "report: " + str(tmp_path / "mine") in other


def test_a_run_is_resumed_from_any_folder_with_the_same_bits(project, tmp_path, monkeypatch):
    for name in ("runs", "photos"):  # the whole project is copied: the copy's own photos are read
        shutil.copytree(project / name, tmp_path / "copy" / name)
    run = tmp_path / "copy/runs/one"
    for gone in ("report.json", "report.html"):
        (run / gone).unlink()
    shutil.rmtree(run / "checkpoints/step-00000008")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    code, text = said("train", "../copy/runs/one/config.yaml", "resume=../copy/runs/one")
    assert code == 0, text
    assert f"the run was started in {tmp_path / 'copy'}" in text
    assert digest(run / "model") == digest(project / "runs/one/model")
    assert not any(Path().iterdir())  # nothing is left where one stands
    # the run alone is taken elsewhere: the photos are still where they were called then
    alone = tmp_path / "elsewhere/deep/one"
    shutil.copytree(project / "runs/one", alone)
    code, text = said("evaluate", str(alone))
    assert code == 0, text
    assert f"the run was started in {project}" in text


def test_the_message_shows_both_places_where_the_data_is_gone(project, tmp_path, monkeypatch):
    shutil.copytree(project / "runs", tmp_path / "copy/runs")
    said_in = json.loads((tmp_path / "copy/runs/one/started.json").read_text())
    assert said_in == {"folder": str(project), "from_run": "../.."}
    (tmp_path / "gone").mkdir()
    (tmp_path / "copy/runs/one/started.json").write_text(
        json.dumps({"folder": str(tmp_path / "gone"), "from_run": "../.."})
    )
    monkeypatch.chdir(tmp_path)
    code, text = said("evaluate", "copy/runs/one")
    assert code == 2
    looked = [str(tmp_path / "copy/photos"), str(tmp_path / "gone/photos"), str(tmp_path / "photos")]
    assert f"photos is not there: looked for as {' and '.join(looked)}" in text
    for junk in ("", "[]", '{"folder": 5, "from_run": []}', '{"folder": "/nowhere", "from_run": "../../.."}', "\0"):
        (tmp_path / "copy/runs/one/started.json").write_text(junk)
        assert "Traceback" not in said("evaluate", "copy/runs/one")[1]


def test_paths_are_those_of_the_task_the_weights_and_the_run_before(tmp_path):
    assert relative_paths(tmp_path) == []
    text = TINY.replace("data: photos", 'data: "sets/a"') + "init: runs/before\n"
    (tmp_path / "config.yaml").write_text(text.replace("weights: none", "weights: w.pth"))
    assert relative_paths(tmp_path) == ["sets/a", "w.pth", "runs/before"]
    (tmp_path / "config.yaml").write_text("task: [")
    assert relative_paths(tmp_path) == []


def test_only_data_that_can_be_a_path_is_said_to_be_lost(tmp_path):
    (tmp_path / "here").mkdir()
    for data, lost in (
        ("photos", "photos"),
        ("here", None),
        ("example", None),
        ("{folder: here, format: auto}", None),
        (f"{{format: auto, folder: {tmp_path / 'gone'}}}", None),
        ("{format: auto, folder: sets/a}", "sets/a"),
    ):
        text = TINY.replace("brightness, data: photos, dropout: 0.0", f"classification, data: {data}")
        (tmp_path / "config.yaml").write_text(text)
        assert lost_data(tmp_path, tmp_path) == lost, data


def test_only_what_can_be_a_path_becomes_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("coco", "photos", "sets/a"):
        (tmp_path / name).mkdir(parents=True)
    assert _absolute("task.data.format=coco") == "task.data.format=coco"
    assert _absolute("task.data=photos") == f"task.data={tmp_path / 'photos'}"
    assert _absolute("task.data.val=sets/a") == f"task.data.val={tmp_path / 'sets/a'}"
    assert _absolute("task.data=gone") == "task.data=gone"


def test_an_exported_model_is_never_changed(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "hub/model"
    shutil.copytree(project / "runs/one/model", model)
    (model / "README.md").write_text("# a model card")
    (model / "LICENSE").write_text("as you like")
    (model / "pictures").mkdir()
    before, photo = digest(model), str(sorted((project / "photos").iterdir())[0])
    assert store.damage(model) is None
    code, text = said("predict", str(model), photo)
    assert code == 0, text
    code, text = said("evaluate", str(model), str(project / "photos"))
    assert code == 0, text
    made = sorted(re.sub(r"-\d+", "", path.name) for path in (tmp_path / "hub").iterdir())
    assert made == ["evaluate", "model", "predict"]
    monkeypatch.chdir(model)  # and from within it
    assert said("predict", ".", photo, "--out", "../mine")[0] == 0
    assert said("predict", ".", photo)[0] == 0
    for command in (("predict", ".", photo), ("evaluate", ".", str(project / "photos"))):
        for inside in ("answers", "pictures/more", str(model / "x")):
            code, text = said(*command, "--out", inside)
            assert code == 2
            assert "is an exported model and is never changed; choose a folder beside it" in text
    with pytest.raises(CheckpointError, match="never changed"):
        visiontl.save_model("changed", visiontl.load(model).built)
    assert digest(model) == before
    assert store.damage(model) is None
    assert sorted(path.name for path in model.iterdir() if path.is_dir()) == ["pictures"]


def test_what_would_be_read_must_still_be_listed(project, tmp_path):
    shutil.copytree(project / "runs/one/model", tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / store.MANIFEST).read_text())
    for name in sorted(store.OWN - manifest["files"].keys()):
        (tmp_path / "model" / name).write_text("{}")
        assert store.damage(tmp_path / "model") == f"manifest.json does not list {name}"
        (tmp_path / "model" / name).unlink()
    del manifest["files"]["scores.json"]
    (tmp_path / "model" / store.MANIFEST).write_text(json.dumps(manifest))
    assert store.damage(tmp_path / "model") == "manifest.json does not list scores.json"


def test_evaluation_leaves_a_row_for_each_image(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    code, text = said("evaluate", "runs/one", "--out", str(tmp_path / "rows"))
    assert code == 0, text
    lines = [json.loads(line) for line in (tmp_path / "rows/rows.jsonl").read_text(encoding="utf-8").splitlines()]
    report = json.loads((tmp_path / "rows/report.json").read_text())
    for split in ("val", "test"):
        rows = [line for line in lines if line["split"] == split]
        assert [line["id"] for line in rows] == list(range(report["data"][split]))
        listed = (project / f"runs/one/splits/{split}.txt").read_text().splitlines()
        assert [line["file"] for line in rows] == [json.loads(line) for line in listed]
        error = sum(abs(guess - truth) for guess, truth in (line["row"] for line in rows)) / len(rows)
        assert error == pytest.approx(report["scores"][split]["mae"])


def test_a_list_of_files_that_is_damaged_is_said(tmp_path):
    from visiontl.report.console import Console

    (tmp_path / "splits").mkdir()
    for content in (b"no json", b"\xff\xfe", b"[[" * 5000):
        (tmp_path / "splits/val.txt").write_bytes(content)
        console = Console(main=False)
        folders.compare_lists(tmp_path, {"val": ["a"]}, console)
        assert "cannot be read" in console.notes[0]
