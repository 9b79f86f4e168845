"""Run folders and checkpoints: a damaged one is named, and nothing of it is changed."""

from __future__ import annotations

import shutil

import pytest

from tests.bad_input.outcome import check_refused, command
from tests.bad_input.run_folders import CHECKPOINTS, MODELS
from tests.bad_input.sources import photo


@pytest.fixture
def run(place, trained):
    return shutil.copytree(trained, place / "run", copy_function=shutil.copyfile)


@pytest.mark.parametrize("damage", MODELS, ids=lambda one: one.name)
@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_models(capsys, place, run, damage, verb):
    damage.do(run / "model")
    photo(place / "photo.png")
    arguments = ["photo.png", "--out", "answers"] if verb == "predict" else []
    check_refused(command(capsys, place, verb, "run", *arguments), "model", *damage.words)


@pytest.mark.parametrize("damage", CHECKPOINTS, ids=lambda one: one.name)
def test_checkpoints(capsys, place, run, damage):
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    damage.do(checkpoint)
    (run / "report.json").unlink()  # the run is unfinished, then
    before = (run / "metrics.jsonl").read_bytes()
    done = command(capsys, place, "train", "run/config.yaml", "resume=run")
    assert done.code == 2, done.err
    check_refused(done, "run", allowed=["run/.lock"])
    for word in damage.words:
        assert word in done.err + done.out
    assert (run / "metrics.jsonl").read_bytes() == before


PLACES = {
    "a file in the way": ("blocked", lambda place: (place / "blocked").write_text("x")),
    "a file above": ("blocked/deep/er", lambda place: (place / "blocked").write_text("x")),
    "a system that cannot be written": ("/proc/visiontl", lambda place: None),
    "a link to nothing": ("gone", lambda place: (place / "gone").symlink_to("/proc/nowhere/x")),
    "a name too long": ("x" * 300, lambda place: None),
}


@pytest.mark.parametrize("name", PLACES)
def test_places_where_no_run_folder_can_be_made(capsys, place, trained, name):
    folder, prepare = PLACES[name]
    prepare(place)
    config = trained / "config.yaml"
    check_refused(command(capsys, place, "train", config, f"run.folder={folder}"), "cannot be made")
    done = command(capsys, place, "train", config, f"run.folder={folder}", "run.name=null")
    check_refused(done, "cannot be made")
    photo(place / "photo.png")
    check_refused(command(capsys, place, "predict", trained, "photo.png", "--out", folder), "cannot be made")


NO_RUNS = {
    "absent": lambda path: None,
    "an empty folder": lambda path: path.mkdir(),
    "a file": lambda path: path.write_text("x"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "an empty model": lambda path: (path / "model").mkdir(parents=True),
    "a model that is a file": lambda path: (path.mkdir(), (path / "model").write_text("x")),
}


@pytest.mark.parametrize("name", NO_RUNS)
@pytest.mark.parametrize("verb", ["predict", "evaluate", "resume"])
def test_what_is_no_run_folder(capsys, place, trained, name, verb):
    NO_RUNS[name](place / "run")
    photo(place / "photo.png")
    arguments = {
        "predict": ["predict", "run", "photo.png"],
        "evaluate": ["evaluate", "run"],
        "resume": ["train", trained / "config.yaml", "resume=run"],
    }[verb]
    check_refused(command(capsys, place, *arguments), "run")
    assert not (place / "runs").exists()
