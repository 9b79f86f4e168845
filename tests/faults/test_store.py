"""A store of features that somebody else has laid hands on: nothing hangs, nothing outside of it is read for features,
written or removed, what is no longer whole is computed again, and a store that cannot be used is no reason to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from tests.core.test_features import Counting, photos  # noqa: F401 - a fixture
from visiontl.engine.features import features_of
from visiontl.engine.wanted import Ask, Wanted
from visiontl.features import sealed
from visiontl.features.store import OLD, Store


@pytest.fixture(autouse=True)
def _no_hang():
    def ended(*given):
        raise AssertionError("hangs")

    before = signal.signal(signal.SIGALRM, ended)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def filled(tmp_path, photos):  # noqa: F811
    """(a function that asks for the features anew, what it gave the first time)"""

    def ask(*overrides):
        source = Counting(tmp_path, *overrides)
        return features_of(source.source, Wanted("train", photos, Ask(pooled=True), 2)), source

    found, source = ask()
    assert source.images > 5  # a look at one, and passes of two
    return ask, found.pooled


def file_of(tmp_path, kind):
    (path,) = sorted((tmp_path / "store" / kind).rglob("*.safetensors"))[:1]
    return path


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()
    (path / "kept").write_text("somebody's")


def linked(path):
    whole = path.parent.parent.parent / "elsewhere"
    path.rename(whole)
    path.symlink_to(whole)


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def resealed(change):
    """As somebody who knows the format would write it: the checksum fits."""

    def spoil(path):
        tensors, text = sealed.read(path)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        told = change(tensors, json.loads(text) if text else {})
        sealed.write(path, tensors, json.dumps(told) if text else "")

    return spoil


def rows(**values):
    def change(tensors, told):
        tensors.update({name: value(tensors[name]) for name, value in values.items()})

    return resealed(change)


def told(**values):
    def change(tensors, about):
        tensors.update({key: one for key, one in values.items() if isinstance(one, torch.Tensor)})
        return {**about, **{key: one for key, one in values.items() if not isinstance(one, torch.Tensor)}}

    return resealed(change)


def columns(change):
    """What JSON says of the samples' columns, spoiled."""

    def spoil(tensors, about):
        shapes, found = json.loads(about["samples"])
        return {**about, "samples": json.dumps(change(shapes, found))}

    return resealed(spoil)


ANY = {"pipe": pipe, "folder": folder, "link": linked, "endless": endless, "a byte": flipped}
ROWS = {
    "no keys": resealed(lambda tensors, about: [tensors.pop("image")]),
    "no rows": resealed(lambda tensors, about: [tensors.pop("row")]),
    "fewer rows": rows(row=lambda one: one[:-1]),
    "a number": rows(row=lambda one: one[0, 0]),
    "wider": rows(row=lambda one: torch.cat([one, one], 1)),
    "another type": rows(row=lambda one: one.long()),
    "short keys": rows(image=lambda one: one[:, :5]),
    "keys of another type": rows(image=lambda one: one.float()),
}
PICTURES = {
    "no text": resealed(lambda tensors, about: []),
    "no samples": told(samples=None),
    "deep": told(samples="[" * 100_000),
    "no paths": told(paths=5),
    "fewer paths": told(paths=[]),
    "ends that go back": told(ends=torch.tensor([1, 0, 5, 4, -3])),
    "fewer ends": told(ends=torch.tensor([1])),
    "stamps of text": told(stamps=torch.zeros(5, 2)),
    "keys of one byte": told(keys=torch.zeros(5, 1, dtype=torch.uint8)),
    "no columns": columns(lambda shapes, found: [shapes, []]),
    "other columns": columns(lambda shapes, found: [shapes, [[{"kind": "array", "numpy": "O"} for _ in found[0]]]]),
    "a type that is none": columns(lambda shapes, found: [[{"image": ["load", [3, 64, 64]]}], [[]]]),
    "a shape of text": columns(lambda shapes, found: [["x"], found]),
    "places beyond the end": resealed(lambda t, about: (t.update({".place_of": t[".place_of"] + 99}), about)[1]),
}
CASES = [
    *(("rows", *one) for one in (ANY | ROWS).items()),
    *(("pictures", *one) for one in (ANY | PICTURES).items()),
]


@pytest.mark.parametrize(("kind", "name", "spoil"), CASES, ids=[f"{kind}, {name}" for kind, name, _ in CASES])
def test_what_is_no_longer_whole_is_computed_again(tmp_path, filled, kind, name, spoil):
    ask, first = filled
    path = file_of(tmp_path, kind)
    spoil(path)
    found, source = ask()
    assert not isinstance(found, str), found
    assert torch.equal(found.pooled, first)
    assert [float(found.samples[row]["truth"]) for row in range(5)] == [0, 1, 2, 3, 4]
    if name != "link":
        assert any(str(path) in note for note in source.console.notes), source.console.notes
    found, source = ask()
    assert torch.equal(found.pooled, first)
    assert source.images == 0 or name == "folder"  # which nobody removes


def test_what_lies_elsewhere_is_not_removed_for_want_of_room(tmp_path):
    outside, store = tmp_path / "outside", tmp_path / "store"
    (outside / "deep").mkdir(parents=True)
    for name in ("mine.safetensors", f"{sealed.WRITING}x", "deep/mine.safetensors"):
        (outside / name).write_bytes(bytes(2000))
        os.utime(outside / name, (time.time() - 9 * OLD,) * 2)
    for place in ("rows", "pictures", "rows/own"):
        (store / place).mkdir(parents=True, exist_ok=True)
        (store / place / "linked").symlink_to(outside)
        (store / place / "linked.safetensors").symlink_to(outside / "mine.safetensors")
    (store / "linked").symlink_to(outside)
    sealed.write(store / "rows/own/a.safetensors", {"row": torch.zeros(1000)})
    said: list[str] = []
    assert Store(store, 500, said.append).make_room(400) == ""
    assert not (store / "rows/own/a.safetensors").exists()
    assert sorted(path.name for path in outside.rglob("*")) == [
        ".writing-x", "deep", "mine.safetensors", "mine.safetensors",
    ]  # fmt: skip


def test_nothing_is_written_through_a_link(tmp_path, filled):
    ask, first = filled
    outside = tmp_path / "outside"
    outside.mkdir()
    (key,) = (tmp_path / "store/rows").rglob("key.json")
    key.unlink()
    key.symlink_to(outside / "key")
    file_of(tmp_path, "rows").unlink()
    for lock in (tmp_path / "store/locks").iterdir():
        lock.unlink()
        lock.symlink_to(outside / "lock")
    assert torch.equal(ask()[0].pooled, first)
    assert list(outside.iterdir()) == []


def as_file(store):
    shutil.rmtree(store)
    store.write_text("")


def as_pipe(store):
    shutil.rmtree(store)
    os.mkfifo(store)


def inside(kind, make):
    def spoil(store):
        shutil.rmtree(store / kind)
        make(store / kind)

    return spoil


UNUSABLE = {
    "a file": as_file,
    "a pipe": as_pipe,
    **{f"{kind} is a file": inside(kind, lambda path: path.write_text("")) for kind in ("rows", "pictures", "locks")},
    "locks is a pipe": inside("locks", os.mkfifo),
    "rows is nowhere": inside("rows", lambda path: path.symlink_to("/nowhere/at/all")),
}


@pytest.mark.parametrize("cache", ["auto", "disk"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_store_that_cannot_be_used_is_no_reason_to_end(tmp_path, filled, name, cache):
    ask, first = filled
    UNUSABLE[name](tmp_path / "store")
    found, _ = ask(f"features.cache={cache}")
    if isinstance(found, str):
        assert cache == "disk"
        assert str(tmp_path / "store") in found
    else:
        assert torch.equal(found.pooled, first)


@pytest.mark.parametrize("number", ["EROFS", "ENOSPC", "EACCES"])
def test_a_disk_that_takes_nothing(tmp_path, filled, monkeypatch, number):
    """Reading what is there still works; a damaged file that cannot be removed is passed over."""
    import errno

    ask, first = filled
    flipped(file_of(tmp_path, "rows"))
    code = getattr(errno, number)

    def refuse(*given, **named):
        raise OSError(code, os.strerror(code))

    for place, name in ((sealed, "write"), (os, "utime"), (os, "unlink")):
        monkeypatch.setattr(place, name, refuse)
    found, _ = ask("features.cache=auto")
    assert torch.equal(found.pooled, first)
    assert np.isfinite(first.numpy()).all()
