"""A disk that is full ends a command in words, or it waits; nothing that was written is lost, and no name is taken."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError

import visiontl
from tests.core.test_stopping import files
from visiontl import cli
from visiontl.config.resolve import resolve
from visiontl.config.write import to_yaml
from visiontl.engine import evaluate, saving
from visiontl.errors import CheckpointError, DataError, refused_by_disk
from visiontl.kit import example
from visiontl.runs import files as run_files
from visiontl.runs import folders, metrics, origin
from visiontl.runtime import written
from visiontl.testing.case import Case

SETTINGS = ["train.epochs=2", "train.checkpoint_every=1 step"]
IN_WORDS = r"cannot be written to: No space left on device, [\d,]+ bytes are free there; make room"


def full(*arguments, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def case(tmp_path):
    return Case("brightness", tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that met no fault."""
    folder = tmp_path_factory.mktemp("whole")
    visiontl.train(Case("brightness", folder).resolved(*SETTINGS, "run.name=run"))
    return folder / "runs/run"


@pytest.mark.parametrize("name", ["started.json", "config.yaml", "train.txt", "val.txt"])
def test_a_disk_that_fills_at_the_start_ends_in_words_and_leaves_the_name_free(case, tmp_path, monkeypatch, name):
    def until(path, text):
        full() if path.name == name else run_files.write_text(path, text)

    with monkeypatch.context() as patched:
        for module in (folders, origin):
            patched.setattr(module, "write_text", until)
        with pytest.raises(CheckpointError, match=rf"runs/run {IN_WORDS} and start it again"):
            visiontl.train(case.resolved("train.epochs=0", "run.name=run"))
    assert not (tmp_path / "runs/run").exists()
    assert visiontl.train(case.resolved("train.epochs=0", "run.name=run"))["status"] == "finished"


def test_a_disk_that_is_full_before_the_start_is_known_at_once(case, tmp_path, monkeypatch, capsys):
    resolved = case.resolved("run.name=run")
    (tmp_path / "c.yaml").write_text(to_yaml(resolved, comments=False))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1234, total=10**9))
    assert cli.main(["train", str(tmp_path / "c.yaml")]) == 2
    said = capsys.readouterr().err
    assert "runs cannot be written to: the disk is full, 1,234 bytes are free there; make room" in said
    assert not (tmp_path / "runs/run").exists()


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in one.items() if key not in ("images_per_second", "memory")} for one in found]


class Refusing:
    """In the place of a file that cannot be made, or cannot be written to, for `times` times."""

    def __init__(self, times: int):
        self.left = times

    def __call__(self, *arguments):
        if self.left:
            self.left -= 1
            full()
        return Lines(self, *arguments)


class Lines:
    def __init__(self, refusing: Refusing, path, mode):
        self.refusing, self.file = refusing, open(path, mode, buffering=0)  # noqa: SIM115

    def write(self, content):
        if self.refusing.left:
            self.refusing.left -= 1
            full()
        return self.file.write(content[: max(1, len(content) // 2)])  # a disk may take a part

    def close(self):
        self.file.close()


@pytest.mark.parametrize("times", [1, 5])
def test_numbers_wait_for_room_and_no_checkpoint_stands_without_them(case, whole, tmp_path, monkeypatch, times):
    refusing, saved = Refusing(times), []
    monkeypatch.setattr(metrics.io, "FileIO", refusing)
    real = folders.store.write_folder

    def watched(folder, content):
        if folder.name.startswith("step-"):
            saved.append(len(lines(tmp_path / "runs/run")))
        real(folder, content)

    monkeypatch.setattr(folders.store, "write_folder", watched)
    report = visiontl.train(case.resolved(*SETTINGS, "run.name=run"))
    said = [note for note in report["notes"] if "its lines wait in memory" in note]
    assert len(said) == 1
    assert lines(tmp_path / "runs/run") == lines(whole)
    assert files(tmp_path / "runs/run") == files(whole)
    steps = [line["step"] for line in lines(whole)]
    assert saved
    assert all(steps.count(steps[count - 1]) for count in saved)
    assert saved == sorted(saved)
    assert saved[0] >= 1


def test_a_table_that_cannot_be_written_is_made_when_the_run_goes_on(case, whole, tmp_path, monkeypatch):
    def until(path, text):
        full() if path.name == "metrics.csv" else run_files.write_text(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(metrics, "write_text", until)
        with pytest.raises(CheckpointError, match=IN_WORDS.replace("make room", "all weights are kept: make room")):
            visiontl.train(case.resolved(*SETTINGS, "run.name=run"))
    assert visiontl.train(case.resolved(*SETTINGS, "run.name=run", "resume=auto"))["status"] == "finished"
    assert files(tmp_path / "runs/run") == files(whole)
    assert (tmp_path / "runs/run/metrics.csv").is_file()


@pytest.mark.parametrize("before", [0, 2])
def test_predictions_keep_what_is_written(whole, tmp_path, monkeypatch, before):
    photos = sorted(whole.parent.rglob("*.png"))[:4]
    real, done = written.append_whole, []

    def until(path, content):
        if content and len(done) == before:
            full()
        real(path, content)
        done.append(content)

    monkeypatch.setattr(written, "append_whole", until)
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match=rf"out {IN_WORDS}, then predict again into another --out"):
        visiontl.engine.predict.predict_files(whole, photos, out)
    assert out.exists() == bool(before)
    if before:
        assert len((out / "predictions.jsonl").read_text().splitlines()) == before
        assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_an_evaluation_ends_in_words(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "write_rows", full)
    with pytest.raises(CheckpointError, match=rf"out {IN_WORDS}, then evaluate again"):
        visiontl.evaluate(whole, out=tmp_path / "out")


def test_sample_data_that_find_no_room_end_in_words_and_leave_nothing(tmp_path):
    with pytest.raises(DataError, match=r"world cannot be made: No space left on device, [\d,]+ bytes are free there"):
        example.once(tmp_path / "world", full)
    assert not any(tmp_path.iterdir())


def test_the_words_of_safetensors_for_a_full_disk_are_known():
    assert refused_by_disk(SafetensorError("I/O error: No space left on device (os error 28)")) == os.strerror(28)
    assert refused_by_disk(SafetensorError("Error while deserializing header")) is None
    assert refused_by_disk(FileNotFoundError(errno.ENOENT, "no such file")) is None


def test_a_gallery_without_room_is_said_and_leaves_nothing(tmp_path, monkeypatch):
    from visiontl_face import gallery

    def refuse(*arguments):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    one = gallery.Gallery(np.eye(2, dtype=np.float32), ["a", "b"], [1, 1], "m")
    gallery.write_gallery(one, tmp_path / "old")
    before = {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()}
    monkeypatch.setattr(gallery, "save_file", refuse)
    with pytest.raises(DataError, match="No space left"):
        gallery.write_gallery(one, tmp_path / "new")
    with pytest.raises(DataError, match="No space left"):
        gallery.change_gallery(one, tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "old").iterdir()} == before


def test_a_run_folder_that_vanishes_is_said_and_not_made_anew(case, whole, tmp_path, monkeypatch):
    run, real = tmp_path / "runs/run", saving.write_checkpoint

    def gone(*arguments):
        real(*arguments)
        if run.exists():
            run.rename(tmp_path / "gone")

    with monkeypatch.context() as patched:
        patched.setattr("visiontl.engine.ledger.write_checkpoint", gone)
        patched.setattr(saving, "PAUSE", 0.0)
        with pytest.raises(CheckpointError, match="the end of the run could not be saved; make room and continue it"):
            visiontl.train(case.resolved(*SETTINGS, "run.name=run"))
    (tmp_path / "gone").rename(run)
    visiontl.train(case.resolved(*SETTINGS, "run.name=run", "resume=auto"))
    assert files(run) == files(whole)
    assert lines(run) == lines(whole)


def test_errors_of_the_system_are_told_with_what_to_do():
    for number, words in ((errno.ENOSPC, "make room"), (errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "train.batch_size")):
        told, code = cli.explained(OSError(number, os.strerror(number)))
        assert told.startswith(f"error: {os.strerror(number)}; ")
        assert words in told
        assert code == 2
    assert cli.explained(OSError("odd"))[1] == 1
    told, code = cli.explained(
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    )
    assert told.startswith("error: no memory is left (DefaultCPUAllocator: can't allocate")
    assert code == 1
    for words in ("could not create a primitive", "can't start new thread"):
        assert cli.explained(RuntimeError(words))[0].startswith(f"error: no memory is left ({words})")


@pytest.mark.skipif(not shutil.which("mount") or os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_small_disk_as_it_is(whole, tmp_path):
    """No function replaced: a disk of 3 MB with 4 kB left, for each thing that writes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=3m none '{disk}' 2>/dev/null"):
        pytest.skip("this system mounts nothing here")
    try:
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 4096))
        photos = sorted(whole.parent.rglob("*.png"))[:4]
        there = Case("brightness", whole.parents[1]).resolved()
        with pytest.raises((CheckpointError, DataError), match=r"[\d,]+ bytes are free there; make room"):
            visiontl.train(resolve(there, [f"run.folder={disk}/runs", "run.name=run"]))
        for use in (
            lambda out: visiontl.engine.predict.predict_files(whole, photos, out),
            lambda out: visiontl.evaluate(whole, out=out),
        ):
            with pytest.raises(CheckpointError, match=IN_WORDS):
                use(disk / "out")
            shutil.rmtree(disk / "out", ignore_errors=True)
    finally:
        os.system(f"umount -l '{disk}'")
