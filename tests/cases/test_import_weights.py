"""`visiontl import-weights`: tensors out of pickles that hold more, bit for bit, and nothing of the pickle is run."""

from __future__ import annotations

import argparse
import collections
import io
import os
import pathlib
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tests.bad_input.weights import RUNS_CODE
from visiontl.backbones import importing
from visiontl.backbones.importing import convert, import_weights
from visiontl.backbones.pickles import Unreadable
from visiontl.backbones.registry import find
from visiontl.backbones.weights import make_backbone
from visiontl.cli import main
from visiontl.errors import WeightsError


def layers():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2)
    )


def state():
    return layers().state_dict()


TENSORS = {
    "view": torch.arange(12.0).reshape(3, 4).T,
    "part": torch.arange(10.0)[3:5],
    "expanded": torch.arange(3.0)[:, None].expand(3, 4),
    "bfloat16": torch.linspace(-2, 2, 5).bfloat16(),
    "half": torch.linspace(-2, 2, 5).half(),
    "double": torch.linspace(-2, 2, 5).double(),
    "bool": torch.tensor([[True], [False]]),
    "byte": torch.arange(5, dtype=torch.uint8),
    "long": torch.arange(5),
    "scalar": torch.tensor(7.5),
    "empty": torch.zeros(0, 3),
    "eight": torch.linspace(-2, 2, 5).to(torch.float8_e4m3fn),
}


def dropping(name):
    return {key: value for key, value in TENSORS.items() if key != name}


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def under(prefix, table):
    return {prefix + key: value for key, value in table.items()}


def scripted():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(layers()), buffer)
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, kernel=np.arange(6, dtype=">f4").reshape(2, 3), odd=np.array([{}], dtype=object))
    return buffer.getvalue()


SIDE = {"best": np.float64(0.5), "path": pathlib.Path("a/b"), "args": argparse.Namespace(lr=1), "epoch": 3}
ARRAYS = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
}
PLAIN = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(6).reshape(2, 3)}
# what is written -> (the bytes, the tensors that must come out)
FILES = {
    "every kind": (lambda: saved(TENSORS), TENSORS),
    "every kind, the old format": (
        lambda: saved(dropping("eight"), _use_new_zipfile_serialization=False),
        dropping("eight"),
    ),
    "numbers, paths and options": (lambda: saved({"state_dict": state(), **SIDE}), under("state_dict.", state())),
    "a whole model": (lambda: saved(layers()), state()),
    "a whole model, the old format": (lambda: saved(layers(), _use_new_zipfile_serialization=False), state()),
    "a model in a checkpoint": (lambda: saved({"net": layers(), "epoch": 2}), under("net.", state())),
    "a TorchScript program": (scripted, state()),
    "NumPy, protocol 0": (lambda: pickle.dumps({"model": ARRAYS}, 0), under("model.", PLAIN)),
    "NumPy, protocol 2": (lambda: pickle.dumps({"model": ARRAYS}, 2), under("model.", PLAIN)),
    "NumPy, protocol 5": (lambda: pickle.dumps({"model": ARRAYS}, 5), under("model.", PLAIN)),
    "npz": (npz, {"kernel": torch.arange(6.0).reshape(2, 3)}),
    "parameters in other containers": (
        lambda: saved(
            {"l": [torch.nn.Parameter(torch.ones(2))], "d": collections.defaultdict(list, {"x": torch.ones(1)})}
        ),
        {"l.0": torch.ones(2), "d.x": torch.ones(1)},
    ),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.filterwarnings("ignore")
def test_tensors_come_out_bit_for_bit(tmp_path, kind):
    make, expected = FILES[kind]
    (tmp_path / "w").write_bytes(make())
    said = convert(tmp_path / "w", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    expected = {k: v.detach() for k, v in expected.items()}
    if "TorchScript" in kind:
        expected = {k: v for k, v in expected.items() if k in found or "tracked" not in k}
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name].float(), tensor.float()), name
    assert said["tensors"] == len(expected)


def test_the_optimizer_is_left_and_counted(tmp_path):
    net = layers()
    moments = {
        i: {"step": torch.ones(1), "exp_avg": p.detach(), "exp_avg_sq": p.detach()}
        for i, p in enumerate(net.parameters())
    }
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments)}]}
    torch.save({"model": net.state_dict(), "optimizer": optimizer, "scaler": {"a": torch.ones(1)}}, tmp_path / "w")
    said = convert(tmp_path / "w", tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors").keys() == under("model.", net.state_dict()).keys()
    assert said["training"] == 3 * len(list(net.parameters())) + 1


def test_the_command_and_loading_what_it_wrote(tmp_path, capsys, monkeypatch):
    """In its own process, from another folder; the loader finds the backbone in it."""
    monkeypatch.chdir(tmp_path)
    backbone = find("visiontl/tiny")[0].build()
    tensors = {theirs: backbone.state_dict()[own] for own, theirs in backbone.library_names().items()}
    torch.save({"ema": {"net": under("module.", tensors)}, **SIDE}, "check point.pth")
    with pytest.raises(WeightsError, match=r"visiontl import-weights 'check point\.pth' 'check point\.safetensors'"):
        make_backbone(find("visiontl/tiny")[0], "check point.pth")
    assert main(["import-weights", "check point.pth", "check point.safetensors"]) in (0, None)
    out = capsys.readouterr().out
    assert f"{len(tensors)} tensors" in out
    assert "pathlib.PosixPath" in out
    loaded, report = make_backbone(find("visiontl/tiny")[0], "check point.safetensors")
    assert report.fraction == 1.0
    assert all(torch.equal(v, backbone.state_dict()[k]) for k, v in loaded.state_dict().items())
    before = (tmp_path / "check point.safetensors").read_bytes()
    with pytest.raises(WeightsError, match="exists already"):
        import_weights(pathlib.Path("check point.pth"), pathlib.Path("check point.safetensors"))
    assert (tmp_path / "check point.safetensors").read_bytes() == before
    assert sorted(os.listdir()) == ["check point.pth", "check point.safetensors"]


@pytest.mark.parametrize("file", RUNS_CODE, ids=lambda one: one.name)
def test_nothing_of_a_file_is_run(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w").write_bytes(file.content())
    try:
        said = convert(tmp_path / "w", tmp_path / "out.safetensors")
    except Unreadable:
        assert os.listdir() == ["w"]
    else:
        assert said["tensors"] in (1, 2)
        assert said["left"] or file.name == "a whole model"
        assert sorted(os.listdir()) == ["out.safetensors", "w"]


def test_a_file_that_cannot_be_converted_leaves_nothing_and_says_why(tmp_path, monkeypatch):
    whole = saved({"a": torch.arange(400.0)})
    pickled = zipfile.ZipFile(io.BytesIO(whole)).read("archive/data.pkl")
    lacking = io.BytesIO()
    with zipfile.ZipFile(lacking, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
    short = io.BytesIO()
    with zipfile.ZipFile(short, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", b"\0" * 1599)
    old = saved({"a": torch.arange(400.0)}, _use_new_zipfile_serialization=False)
    wanted = {
        "web.pth": (b"<!DOCTYPE html>", "a web page"),
        "keras.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
        "lfs.pth": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "empty.pth": (b"", "damaged"),
        "none.pth": (pickle.dumps({"a": 1, "b": pathlib.Path("x")}), "no tensors, but pathlib.PosixPath"),
        "lacking.pth": (lacking.getvalue(), "storage '0' is not in the archive"),
        "short.pth": (short.getvalue(), r"reaches beyond its storage 0 \(1,600 of 1,599 bytes\)"),
        "cut.pth": (whole[:-300], "damaged"),
        "cut_old.pth": (old[:-300], "cut off within its storage"),
        "repeats.pth": (saved({"a": torch.zeros(1).expand(1 << 40)}), "repeats a storage of 4 bytes"),
        "twice.pth": (saved({"a": {"b": torch.zeros(1)}, "a.b": torch.ones(1)}), "both be called 'a.b'"),
    }
    for name, (content, words) in wanted.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Unreadable, match=words):
            convert(tmp_path / name, tmp_path / "out.safetensors")
    for name in ("web.pth", "short.pth"):
        words = re.compile(f"{name}: not converted: .*{wanted[name][1]}")
        with pytest.raises(WeightsError, match=words):
            import_weights(tmp_path / name, tmp_path / "out.safetensors")
    monkeypatch.setattr(importing, "SECONDS", 0.01)
    with pytest.raises(WeightsError, match=r"took more than 0\.01 seconds"):
        import_weights(tmp_path / "web.pth", tmp_path / "out.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        import_weights(tmp_path / "nowhere.pth", tmp_path / "out.safetensors")
    assert sorted(os.listdir(tmp_path)) == sorted(wanted)


SOUND = [
    saved({"a": torch.arange(4.0), "b": {"c": torch.ones(2, 3)}, "n": np.float64(1)}),
    saved({"a": torch.arange(4.0), "b": [torch.ones(2, 3)]}, _use_new_zipfile_serialization=False),
    pickle.dumps({"a": np.arange(4.0), "n": np.float32(1)}, 2),
    pickle.dumps({"a": np.arange(4.0), "n": pathlib.Path("x")}, 5),
]


@settings(max_examples=120, deadline=None)
@given(
    which=st.integers(0, len(SOUND) - 1),
    changes=st.lists(st.tuples(st.integers(0, 1 << 14), st.integers(0, 255)), max_size=5),
    end=st.one_of(st.none(), st.integers(0, 1 << 11)),
)
def test_damaged_files_are_refused_or_read_and_raise_nothing_else(tmp_path_factory, which, changes, end):
    content = bytearray(SOUND[which][:end])
    for place, value in changes:
        if content:
            content[place % len(content)] = value
    folder = tmp_path_factory.getbasetemp()
    target = folder / "fuzzed.safetensors"
    target.unlink(missing_ok=True)
    (folder / "fuzzed").write_bytes(content)
    try:
        convert(folder / "fuzzed", target)
    except Unreadable:
        assert not target.exists()
    else:
        load_file(target)
