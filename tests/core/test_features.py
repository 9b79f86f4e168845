"""Features on disk: found again by whoever asks for the same, computed again where anything is another."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visiontl import plugins
from visiontl.engine import filling
from visiontl.engine.device import place
from visiontl.engine.features import features_of
from visiontl.engine.prepare import set_up
from visiontl.engine.train import fit
from visiontl.engine.wanted import Ask, Source, Wanted
from visiontl.errors import ConfigError
from visiontl.features import columns, keys, opened, sealed
from visiontl.features.store import Store
from visiontl.report.console import Console
from visiontl.testing import Case
from visiontl.testing.case import same, state


class Folder:
    """Photos in a folder, read by Pillow."""

    def __init__(self, root: Path, count: int):
        self.root, self.names = root, [f"{i}.png" for i in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key):
        pixels = np.asarray(self.image(key[0]))
        return {"image": torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous(), "truth": np.float32(key[0])}

    def image(self, id):
        with Image.open(self.root / self.names[id]) as image:
            return image.convert("RGB")


def paint(path: Path, seed: int) -> None:
    """A photo that was last changed an hour ago, as it seems."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    os.utime(path, (time.time() - 3600 + seed, time.time() - 3600 + seed))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setattr(opened, "FRESH", 0)  # the change of a file's name is as young as the test
    (tmp_path / "photos").mkdir()
    for i in range(5):
        paint(tmp_path / "photos" / f"{i}.png", i)
    return Folder(tmp_path / "photos", 5)


class Counting:
    """A source of features that counts the images that went through its backbone."""

    def __init__(self, folder: Path, *overrides: str):
        case = Case("brightness", folder)
        self.resolved = case.resolved("features.cache=disk", f"features.folder={folder / 'store'}", *overrides)
        torch.manual_seed(0)
        self.backbone = plugins.backbone_entry("visiontl/tiny")[0].build().eval()
        self.console, self.images = Console(main=False), 0
        placed = place(self.resolved.config.train, self.backbone, self.backbone, self.console)
        self.source = Source(self.resolved, self.backbone, placed, self.console)
        self.backbone.register_forward_pre_hook(self.count)

    def count(self, module, given):
        self.images += len(given[0])

    def of(self, split, ask=None, **more):
        self.images, ask = 0, ask or Ask(pooled=True)
        return features_of(self.source, Wanted("train", split, ask, batch_size=2, **more))


def test_they_are_the_backbones_own_and_are_found_again(photos, tmp_path):
    source = Counting(tmp_path)
    found = source.of(photos, Ask((0, 1), True, ("stem",)))
    images = torch.stack([photos[i, 0]["image"] for i in range(5)])
    with torch.no_grad():
        oracle = source.backbone(images, (0, 1), True, ("stem",))
    torch.testing.assert_close(found.pooled, oracle.pooled)
    torch.testing.assert_close(found.maps[1], oracle.maps[1])
    torch.testing.assert_close(found.layers["stem"], oracle.layers["stem"])
    again = Counting(tmp_path)
    same = again.of(photos, Ask((0, 1), True, ("stem",)))
    assert again.images == 0
    assert torch.equal(same.pooled, found.pooled)
    assert [one["truth"] for one in same.samples] == [one["truth"] for one in found.samples]
    assert type(same.samples[0]["truth"]) is np.float32
    assert same.samples[0]["image"].shape == (3, 64, 64)
    only = Counting(tmp_path)  # less than what is there
    assert torch.equal(only.of(photos, Ask((1,))).maps[0], found.maps[1])
    assert only.images == 0


def test_no_photo_is_opened_when_all_is_there(photos, tmp_path, monkeypatch):
    Counting(tmp_path).of(photos)
    monkeypatch.setattr(Folder, "image", lambda self, id: pytest.fail("a photo was opened"))
    assert len(Counting(tmp_path).of(photos).samples) == 5


def test_a_changed_photo_is_computed_again_and_the_others_are_not(photos, tmp_path):
    before = Counting(tmp_path).of(photos).pooled
    paint(photos.root / "3.png", 77)
    again = Counting(tmp_path)
    after = again.of(photos).pooled
    assert again.images == 1 + 2  # one to see how large they are, and one pass that is filled up
    assert (before != after).any(1).tolist() == [False, False, False, True, False]
    paint(photos.root / "3.png", 3)  # as it was, under another time
    back = Counting(tmp_path)
    assert torch.equal(back.of(photos).pooled, before)
    assert back.images == 1


@pytest.mark.parametrize("change", ["weights", "mean", "size of a pass", "precision", "structure"])
def test_what_moves_a_feature_is_part_of_its_name(photos, tmp_path, change):
    source = Counting(tmp_path)
    source.of(photos)
    other = Counting(tmp_path, *(["features.precision=half"] if change == "precision" else []))
    with torch.no_grad():
        if change == "weights":
            next(other.backbone.parameters()).view(-1)[0] += 1e-3
        elif change == "mean":
            other.backbone.mean += 0.01
        elif change == "structure":
            other.backbone.add_module("more", torch.nn.Identity())
    other.of(photos, **({"chunks": True} if change == "size of a pass" else {}))
    assert other.images == 1 + (1 if change == "size of a pass" else 6)  # the last chunk has one image


def test_views_are_kept_and_drawn_from_the_seed(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Folder, "__getitem__", mirrored(Folder.__getitem__))
    source = Counting(tmp_path)
    found = source.of(photos, views=3, drawn=True)
    assert found.pooled.shape[0] == 15
    assert source.of(photos, views=3, drawn=True).views == 3
    assert source.images == 0
    other = Counting(tmp_path, "train.seed=1")  # draws other views of the same photos, of which half are known
    other.of(photos, views=3, drawn=True)
    assert other.images < 10


def mirrored(get):
    def view(self, key):
        sample = get(self, key)
        return {**sample, "image": sample["image"].flip(2) if key[1] % 2 else sample["image"]}

    return view


def test_damaged_files_are_computed_again_and_it_is_said(photos, tmp_path):
    first = Counting(tmp_path).of(photos).pooled
    for path in (tmp_path / "store").glob("*/**/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    again = Counting(tmp_path)
    assert torch.equal(again.of(photos).pooled, first)
    assert sum("does not match its checksum" in note for note in again.console.notes) == 2
    for path in (tmp_path / "store").glob("*/**/*.safetensors"):
        path.write_bytes(path.read_bytes()[:40])
    cut = Counting(tmp_path)
    assert torch.equal(cut.of(photos).pooled, first)
    assert sum("cannot be read" in note for note in cut.console.notes) == 2


def test_a_kill_leaves_what_was_written(photos, tmp_path, monkeypatch):
    """With nothing but the images' own features left, none is computed again."""
    first = Counting(tmp_path).of(photos).pooled
    (place,) = (tmp_path / "store/pictures").glob("*")
    place.unlink()
    (tmp_path / "store/rows/.writing-abc-x.safetensors").write_bytes(b"half")
    again = Counting(tmp_path)
    assert torch.equal(again.of(photos).pooled, first)
    assert again.images == 1


def test_two_runs_do_not_compute_the_same_at_once(photos, tmp_path):
    source = Counting(tmp_path)
    first = source.of(photos).pooled
    (lock,) = (tmp_path / "store/locks").iterdir()
    for path in (tmp_path / "store").glob("*/**/*.safetensors"):
        path.rename(path.with_suffix(".aside"))
    waiting, found = Counting(tmp_path), []
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run = threading.Thread(target=lambda: found.append(waiting.of(photos)))
        run.start()
        until = time.monotonic() + 20
        while not any("waits" in note for note in waiting.console.notes) and time.monotonic() < until:
            time.sleep(0.01)
        for path in (tmp_path / "store").glob("*/**/*.aside"):  # what the other run has written meanwhile
            path.rename(path.with_suffix(".safetensors"))
    run.join(20)
    assert torch.equal(found[0].pooled, first)
    assert waiting.images == 1


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    said: list[str] = []
    store = Store(tmp_path, 3 * 1400, said.append)
    image = np.zeros((1, 32), np.uint8)
    for name in ("a", "b", "c"):
        store.add({"set": name}, image, torch.zeros(1, 256))
    sizes = {path.stat().st_size for path in tmp_path.rglob("*.safetensors")}
    assert max(sizes) < 1400
    for age, name in enumerate(("b", "a", "c")):
        (path,) = (tmp_path / "rows" / keys.key_of({"set": name})).glob("*.safetensors")
        os.utime(path, (1e9 + age, 1e9 + age))
    fresh = Store(tmp_path, 3 * 1400, said.append)
    fresh.look({"set": "a"}, image)  # is used, and so the newest
    assert fresh.make_room(1300) == ""
    left = [name for name in ("a", "b", "c") if store_has(tmp_path, name, image)]
    assert left == ["a", "c"]
    assert "2001-09-09" in said[0]
    assert "limit" in fresh.make_room(10_000)


def store_has(folder: Path, name: str, image: np.ndarray) -> bool:
    return bool(Store(folder, 1, lambda text: None).look({"set": name}, image).there.all())


def test_too_large_for_the_limit_is_said_before_it_is_computed(photos, tmp_path):
    source = Counting(tmp_path, "features.limit=1e-7")
    assert "features.limit is 107 bytes" in source.of(photos)
    assert source.images == 1
    kept = Counting(tmp_path, "features.limit=1e-7", "features.cache=auto").of(photos)
    assert kept.pooled.shape[0] == 5


def test_half_precision_says_its_error(photos, tmp_path):
    full = Counting(tmp_path).of(photos)
    source = Counting(tmp_path, "features.precision=half")
    half = source.of(photos)
    assert half.pooled.dtype == torch.float16
    at = half.at(torch.arange(5), 0, torch.device("cpu")).pooled
    assert at.dtype == torch.float32
    error = float((at - full.pooled).abs().max())
    assert any(f"moved them by {error:.2g} at most" in note for note in source.console.notes)


def test_features_that_do_not_fit_into_memory_are_read_from_the_files(photos, tmp_path, monkeypatch):
    whole = Counting(tmp_path).of(photos, Ask((0,), True))
    monkeypatch.setattr(filling, "allowed_memory", lambda: 10)
    mapped = Counting(tmp_path).of(photos, Ask((0,), True))
    ids, cpu = torch.tensor([4, 0, 0, 2]), torch.device("cpu")
    assert not isinstance(mapped.pooled, torch.Tensor)
    assert torch.equal(mapped.at(ids, 0, cpu).pooled, whole.at(ids, 0, cpu).pooled)
    assert torch.equal(mapped.at(ids, 0, cpu).maps[0], whole.at(ids, 0, cpu).maps[0])


def test_files_that_escape_python_are_read_again(photos, tmp_path, monkeypatch):
    """A data set that decodes in C, or hands out what it holds, cannot be told to be unchanged."""
    pixels = [photos.image(i) for i in range(5)]
    monkeypatch.setattr(Folder, "image", lambda self, id: pixels[id])
    source = Counting(tmp_path)
    source.of(photos)
    assert any("their files cannot be told" in note for note in source.console.notes)
    pixels[2] = Image.new("RGB", (64, 64), "red")
    source.of(photos)
    assert source.images == 1 + 2


def test_a_file_changed_just_now_is_not_trusted(tmp_path):
    path = tmp_path / "young.txt"
    path.write_text("a")
    assert opened.stamp(str(path)) is None
    with opened.watched() as files:
        path.read_text()
        (tmp_path / "other.txt").write_text("b")
    assert list(files) == [str(path)]


def test_samples_come_back_as_they_were():
    samples = [
        {"image": torch.zeros(3, 2, 2, dtype=torch.uint8), "size": (3, 4), "label": np.int64(i), "ok": True, "no": None,
         "boxes": torch.rand(i, 4), "mask": np.full((2, i + 1), i, np.uint16), "inner": [{"x": 0.1 * i}, "text"]}
        for i in range(3)
    ]  # fmt: skip
    samples.append({"image": torch.zeros(3, 2, 2, dtype=torch.uint8), "other": np.float32(2.5)})
    made = columns.decode(*columns.encode(samples))
    for was, now in zip(samples, made, strict=True):
        assert list(was) == list(now)
        assert str({**was, "image": 0}) == str({**now, "image": 0})
        assert now["image"].shape == (3, 2, 2)
        assert {name: type(was[name]) for name in was if name != "image"} == {
            name: type(now[name]) for name in now if name != "image"
        }
        assert torch.equal(torch.stack([now["image"]] * 2), torch.zeros(2, 3, 2, 2, dtype=torch.uint8))
    assert made[2]["mask"].dtype == np.uint16
    with pytest.raises(columns.Unstorable, match="label is a object"):
        columns.encode([{"label": object()}])


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    sealed.write(path, {"a": torch.arange(3)}, "first")
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="full"):
        sealed.write(path, {"a": torch.arange(9)}, "second")
    assert sealed.read(path)[1] == "first"
    assert [one.name for one in tmp_path.iterdir()] == ["x.safetensors"]


def full_disk(self, content):
    raise OSError(28, "disk full")


def test_the_old_keys_name_the_new_ones(tmp_path):
    for old, new in (("train.cache=true", "features.cache"), ("train.cache_views=2", "features.views")):
        with pytest.raises(ConfigError, match=new):
            Case("brightness", tmp_path).resolved(old)


def test_a_head_trained_on_the_store_is_the_same_to_the_bit(tmp_path, monkeypatch):
    """In batches of one size."""
    monkeypatch.setattr(opened, "FRESH", 0)
    case = Case("brightness", tmp_path)

    def still(*arguments):
        found = case.resolved().task.data(*arguments)
        found.train.train = False  # no mirroring
        return found

    def run(*overrides):
        resolved = case.resolved("freeze.policy=all", *overrides)
        return set_up(replace(resolved, task=replace(resolved.task, data=still)))

    kept = [f"features.folder={tmp_path / 'store'}", "features.cache=disk"]
    runs = [run(), run(*kept), run(*kept)]
    assert [sorted(one.caches) for one in runs] == [[], ["train", "val"], ["train", "val"]]
    assert sum("found in" in note for note in runs[2].console.notes) == 2
    states = [state(fit_and_close(one)) for one in runs]
    for end in states[1:]:
        assert same(states[0], end) == []


def fit_and_close(run):
    fit(run)
    return run


@pytest.mark.parametrize(("cache", "lead"), [("auto", ""), ("disk", "warning: "), ("memory", "warning: ")])
def test_what_was_asked_for_and_cannot_be_is_a_warning(cache, lead, tmp_path):
    run = Case("brightness", tmp_path).run("freeze.policy=all", f"features.cache={cache}", limit=1)
    told = f"{lead}features of the frozen backbone are not cached: the images are augmented anew in each epoch"
    assert any(note.startswith(told) for note in run.console.notes), run.console.notes
