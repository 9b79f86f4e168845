"""Folders that are whole or not there."""

from __future__ import annotations

import shutil

import pytest
import torch

from visiontl.runs import store


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "step-00000004"
    store.write_folder(made, {"model.safetensors": {"w": torch.arange(12.0).view(3, 4)}, "state.json": '{"step": 4}'})
    return made


def test_what_is_written_reads_back(folder):
    assert store.damage(folder) is None
    assert torch.equal(store.read_tensors(folder, "model.safetensors")["w"], torch.arange(12.0).view(3, 4))
    assert store.read_json(folder, "state.json") == {"step": 4}


def test_transposed_and_channels_last_tensors_keep_their_values(tmp_path):
    tensors = {
        "t": torch.arange(6.0).view(2, 3).t(),
        "c": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }
    store.write_folder(tmp_path / "x", {"m.safetensors": tensors})
    back = store.read_tensors(tmp_path / "x", "m.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", store.MANIFEST])
@pytest.mark.parametrize("how", ["cut", "flip", "empty", "remove"])
def test_every_damage_is_found(folder, name, how):
    path = folder / name
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    assert store.damage(folder)


def test_newest_whole_one_is_taken_and_the_damaged_is_named(folder):
    newer = folder.parent / "step-00000010"
    shutil.copytree(folder, newer)
    (newer / "state.json").write_text("{}")
    said = []
    assert store.newest_whole(folder.parent, said.append) == folder
    assert "step-00000010" in said[0]
    assert "bytes" in said[0]


def test_pruning_keeps_the_newest_whole_ones(folder):
    for step in (5, 6, 7):
        shutil.copytree(folder, folder.parent / f"step-{step:08d}")
    (folder.parent / "step-00000007" / "state.json").write_text("{}")
    store.prune(folder.parent, keep=2)
    assert [path.name for path in store.step_folders(folder.parent)] == [f"step-{s:08d}" for s in (7, 6, 5)]


def test_a_failed_write_leaves_the_old_folder(folder):
    with pytest.raises(RuntimeError):
        store.write_folder(folder, {"model.safetensors": {"w": torch.empty(2, device="meta")}})
    assert store.damage(folder) is None
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_manifest_cannot_name_files_elsewhere(folder, tmp_path):
    (tmp_path / "outside.txt").write_text("x")
    text = (folder / store.MANIFEST).read_text().replace('"state.json"', '"../outside.txt"')
    (folder / store.MANIFEST).write_text(text)
    assert "missing" in (store.damage(folder) or "")


def test_another_format_is_named(folder):
    text = (folder / store.MANIFEST).read_text().replace('"format": 1', '"format": 99')
    (folder / store.MANIFEST).write_text(text)
    assert "format 99" in (store.damage(folder) or "")
