"""Loader processes where shared memory or open files are few, and where one dies."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import visiontl
from visiontl.engine import train as training
from visiontl.engine import workers
from visiontl.engine.loader import load
from visiontl.report.console import Console
from visiontl.testing import Case


class Numbers(Dataset):
    """Answers a number with a batch of it, after some seconds."""

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds

    def __getitem__(self, key: int) -> dict[str, Any]:
        time.sleep(self.seconds)
        boxes = [{"boxes": torch.full((2, 4), float(key))} for _ in range(3)]
        return {"image": torch.full((4, 3, 8, 8), key, dtype=torch.uint8), "targets": boxes, "id": [key]}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(workers, "_failed", "")
    workers._slow.clear()


def fetched(**given) -> list[float]:
    found = [(float(one["image"].float().mean()), float(one["targets"][2]["boxes"].mean()), one["id"]) for one in
             load(Numbers(), range(6), given.get("count", 2), False, Console())]  # fmt: skip
    assert found == [(i, i, [i]) for i in range(6)]
    return found


def shm(*given: Any) -> bytes:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")


def files(*given: Any) -> bytes:
    raise OSError(errno.EMFILE, "Too many open files")


@pytest.mark.parametrize(("fails", "words"), [(shm, "/dev/shm is full"), (files, "Too many open files")])
def test_batches_come_through_pipes_where_they_cannot_be_shared(monkeypatch, capsys, fails, words):
    monkeypatch.setattr(workers, "shared", fails)  # in the processes too, for they are forked
    fetched()
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("batches come from the loader processes through pipes") == 1
    assert f"slower: {words}; give more of it" in said


def test_a_batch_of_more_tensors_than_open_files_is_not_shared(monkeypatch, capsys):
    """4 tensors take up to 32 files; 40 may be open, of which 16 are for the rest."""
    monkeypatch.setattr(
        workers, "start", lambda batches, keys, wanted, pin, console: iter(workers.loader(batches, keys, 1, pin))
    )
    monkeypatch.setattr(workers, "open_files", lambda: 40)
    assert workers.tensors(Numbers()[0]) == 4
    fetched(count=1)
    assert "at most 40 files may be open (ulimit -n)" in " ".join(capsys.readouterr().out.split())


def test_another_error_of_a_process_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def shared(*given: Any) -> bytes:
        raise RuntimeError("something else")

    monkeypatch.setattr(workers, "shared", shared)
    with pytest.raises(RuntimeError, match="something else"):
        workers.pack({})


def test_few_open_files_mean_fewer_processes(monkeypatch, capsys):
    """6 files a process and 16 for the rest."""
    monkeypatch.setattr(workers, "ask_for_files", lambda: None)
    for more, made in ((0, 0), (7, 1), (13, 2)):
        capsys.readouterr()
        limit = workers.psutil.Process().num_fds() + workers.SPARE + more
        monkeypatch.setattr(workers, "open_files", lambda limit=limit: limit)
        asked = []
        plain = workers.loader

        def loader(batches, keys, count, pin, asked=asked, plain=plain):
            asked.append(count)
            return plain(batches, keys, count, pin)

        monkeypatch.setattr(workers, "loader", loader)
        monkeypatch.setattr(workers, "tensors", lambda batch: 0)
        fetched()
        monkeypatch.setattr(workers, "loader", plain)
        assert asked == [made]
        said = " ".join(capsys.readouterr().out.split())
        assert (f"loader.workers: {made} in place of 2, for the system gives no more: at most {limit}" in said) == (
            made < 2
        )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EMFILE, errno.EAGAIN, errno.ENOENT])
def test_processes_that_cannot_be_started_are_done_without(monkeypatch, capsys, code):
    """No /dev/shm for their locks, no file, no process more."""
    plain = DataLoader.__iter__

    def iterate(self):
        if self.num_workers:
            raise OSError(code, os.strerror(code))
        return plain(self)

    monkeypatch.setattr(DataLoader, "__iter__", iterate)
    fetched()
    said = " ".join(capsys.readouterr().out.split())
    assert f"loader.workers: 0 in place of 2, for the system gives no more: {os.strerror(code)}" in said


def test_a_killed_process_is_told_in_words_within_seconds():
    def kill() -> None:
        while not (children := multiprocessing.active_children()):
            time.sleep(0.05)
        time.sleep(0.3)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    began = time.monotonic()
    with pytest.raises(visiontl.TrainingError, match=r"a loader process died \(Killed\); .*loader\.workers=0"):
        list(load(Numbers(0.1), range(300), 1, False, Console()))
    thread.join()
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "DataLoader worker (pid 12) is killed by signal: Killed. ",
            r"\(Killed\); killed by somebody, or by the system",
        ),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", "ended without a word"),
        (
            "DataLoader worker (pid 12) is killed by signal: Bus error. It is possible ...",
            "/dev/shm is full: give more",
        ),
    ],
)
def test_a_run_whose_loader_dies_says_how_to_go_on(tmp_path, monkeypatch, text, words):
    def fit(run):
        raise RuntimeError(text)

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(visiontl.TrainingError, match=words) as caught:
        visiontl.train(Case("brightness", tmp_path).resolved("train.epochs=1"))
    assert "to go on from the last checkpoint: " in str(caught.value)
    assert "resume=" in str(caught.value)
    with pytest.raises(RuntimeError, match="something else"), workers.explained():
        raise RuntimeError("something else")


def test_what_is_packed_is_the_same_when_unpacked():
    batch = {**Numbers()[3], "view": torch.arange(12).reshape(3, 4).t(), "words": ["a"], "none": None}
    for packed in (workers.pack(batch), workers.Packed(pickle.dumps(batch))):
        found = packed.unpacked()
        assert found["words"] == ["a"]
        assert found["none"] is None
        assert torch.equal(found["view"], batch["view"])
        assert found["view"].stride() == batch["view"].stride()
