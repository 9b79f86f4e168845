"""A run writes to plain files and folders of its own alone, and goes on from what is whole."""

from __future__ import annotations

import os
import signal

import pytest

import visiontl
from tests.core.test_stopping import SETTINGS, files, stopped
from visiontl.errors import CheckpointError, WeightsError
from visiontl.kit import memory
from visiontl.report.console import Console
from visiontl.report.run import Report
from visiontl.runs import folders, origin, previews, store, unchanged
from visiontl.runs.files import write_text
from visiontl.runs.images import read_images
from visiontl.testing.case import Case


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path)


def begun(tmp_path):
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("task: {}\n")
    return run


@pytest.mark.parametrize(
    "name", [".lock", "splits", "pictures", "previews", "checkpoints", "metrics.jsonl", "report.html"]
)
@pytest.mark.parametrize("kind", ["file", "folder", "nothing", "pipe"])
def test_what_a_run_writes_to_is_neither_a_link_nor_a_pipe(tmp_path, name, kind):
    run, outside = begun(tmp_path), tmp_path / "outside"
    if kind == "pipe":
        os.mkfifo(run / name)
    else:
        if kind == "file":
            outside.write_text("precious")
        elif kind == "folder":
            outside.mkdir()
        (run / name).symlink_to(outside)
    for refuse in (folders.require_run, folders.lock):
        with pytest.raises(CheckpointError, match=rf"{name}: is (a link to .*outside|neither a file nor a folder)"):
            refuse(run)
    assert kind != "file" or outside.read_text() == "precious"
    assert kind != "folder" or not any(outside.iterdir())
    assert kind != "nothing" or not outside.exists()


def test_looking_whether_a_run_is_held_changes_no_file(tmp_path):
    run = begun(tmp_path)
    (run / ".lock").write_text("what an older version wrote")
    assert not folders.is_locked(run)
    assert (run / ".lock").read_text() == "what an older version wrote"


def test_a_file_that_is_half_written_is_no_way_out(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (tmp_path / ".writing-a.txt").symlink_to(outside)
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert outside.read_text() == "precious"


def test_a_name_whose_run_wrote_nothing_is_free(case, tmp_path):
    """The disk was full at the start, or the process was killed there."""
    run = tmp_path / "runs/run"
    run.mkdir(parents=True)
    (run / ".lock").touch()
    (run / ".writing-config.yaml").write_text("ta")
    report = visiontl.train(case.resolved("train.epochs=1", "run.name=run"))
    assert report["status"] == "finished"
    with pytest.raises(CheckpointError, match="exists already and is never overwritten"):
        folders.require_free(run.parent, "run")


LINES = [
    b"5\n",
    b"[]\n",
    b"{}\n",
    b"\xff\xfe\n",
    b'{"step": "x", "kind": "train"}\n',
    b'{"step": -1, "kind": "val"}\n',
    b"\n",
]


def test_numbers_that_were_damaged_end_no_resume_and_are_said(case, tmp_path):
    stopped(case, 5, signal.SIGTERM)
    run = tmp_path / "runs/run"
    whole = (run / "metrics.jsonl").read_bytes()
    first, rest = whole.split(b"\n", 1)
    (run / "metrics.jsonl").write_bytes(first + b"\n" + b"".join(LINES) + rest + b'{"step": 5, "ki')
    report = visiontl.train(case.resolved(*SETTINGS, "resume=auto"))
    said = [note for note in report["notes"] if "metrics.jsonl" in note]
    assert said == [f"warning: {run / 'metrics.jsonl'}: 7 lines that no run writes are left out"]
    assert (run / "metrics.jsonl").read_bytes().startswith(whole)
    assert files(run)


def test_a_pipe_in_place_of_weights_is_refused(tmp_path):
    from visiontl.backbones.files import read_file

    for name in ("w.pth", "w.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(WeightsError, match="is a pipe or a device"):
            read_file(tmp_path / name)


def recalled(run):
    memory.recall_from(run)
    try:
        return memory.recalled("masks.npz")
    finally:
        memory.recall_from(None)


def warned(run):
    (run / "splits/files.json").write_text(
        '{"format": 1, "splits": {"train": {"sizes": [], "times": [], "hashes": {}}}}'
    )
    console = Console()
    unchanged.compare(run, {}, console)
    return console.notes


READ = {  # by commands that look at a run which they do not continue
    "started.json": (origin.origins, []),
    "splits/train.txt": (lambda run: folders.listed_files(run, "train"), CheckpointError),
    "splits/val.txt": (lambda run: unchanged.names_in(run / "splits/val.txt"), OSError),
    "splits/labels.json": (lambda run: unchanged.beside(run, Console()), {}),
    "cache/masks.npz": (recalled, None),
    "images-val.csv": (lambda run: read_images(run, "val"), ValueError),
    "report.json": (lambda run: Report.read(run / "report.json"), CheckpointError),
    "previews/step-3-0.jpg": (previews.read_previews, []),
    "scores.json": (lambda run: store.read_json(run, "scores.json"), CheckpointError),
}


@pytest.mark.parametrize("kind", ["pipe", "endless"])
@pytest.mark.parametrize("name", READ)
def test_what_is_read_of_a_run_is_a_plain_file(tmp_path, name, kind):
    read, expected = READ[name]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(5)
    try:
        if isinstance(expected, type):
            with pytest.raises(expected, match="plain file"):
                read(tmp_path)
        else:
            assert read(tmp_path) == expected
    finally:
        signal.alarm(0)


def test_a_list_that_is_a_pipe_is_said_when_a_run_goes_on(tmp_path):
    (tmp_path / "splits").mkdir()
    os.mkfifo(tmp_path / "splits/train.txt")
    (warning,) = warned(tmp_path)
    assert "plain file" in warning
