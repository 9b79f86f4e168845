"""visiontl.runtime alone: what it needs, what it says, and files that are not what they should be."""

from __future__ import annotations

import copy
import errno
import io
import json
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch.nn import functional

from tests.export.conftest import ABOUT, describe, graph
from tests.shared import ROOT
from visiontl.engine.resizing import resized
from visiontl.errors import CheckpointError, ConfigError, DataError
from visiontl.kit import depths
from visiontl.runtime import answers, description, load, pixels, written
from visiontl.runtime import model as runtime
from visiontl.runtime.__main__ import main
from visiontl.runtime.views import by_pillow, show
from visiontl.runtime.written import save_vectors


def test_it_runs_where_there_is_nothing_but_numpy_pillow_and_onnxruntime(tmp_path):
    """In a process in which every other package that is installed here cannot be imported."""
    Image.new("RGB", (9, 5), (0, 0, 250)).save(tmp_path / "blue.png")
    path = graph(tmp_path / "model")
    script = f"""
import importlib.abc, runpy, sys, sysconfig
site = sysconfig.get_paths()["purelib"]
allowed = {{"numpy", "PIL", "onnxruntime", "flatbuffers", "google", "packaging", "pillow_heif", "visiontl"}}

class Alone(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        first = name.partition(".")[0]
        if first in allowed or first in sys.stdlib_module_names or first.startswith("_"):
            return None
        raise ModuleNotFoundError(f"no module named {{name}}", name=name)

sys.meta_path.insert(0, Alone())
sys.argv = ["runtime", {str(path)!r}, {str(tmp_path / "blue.png")!r}, "--out", {str(tmp_path / "out")!r}]
try:
    runpy.run_module("visiontl.runtime", run_name="__main__", alter_sys=True)
finally:
    print(sorted(set(sys.modules) & {{"torch", "timm", "pydantic", "safetensors", "yaml", "rich", "pluggy"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    record = json.loads((tmp_path / "out/predictions.jsonl").read_text())
    assert record["label"] == "blue"
    share = np.exp(250 / 25.5) / (np.exp(250 / 25.5) + 2)
    assert record["probability"] == pytest.approx(share, abs=1e-6)


def test_its_command_prints_a_line_for_each_photo(tmp_path, capsys):
    Image.new("RGB", (4, 4), (0, 200, 0)).save(tmp_path / "green.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    path = graph(tmp_path / "model")
    assert main([str(path), str(tmp_path / "green.png"), str(tmp_path / "broken.png"), "top_k=1"]) == 1
    out, err = capsys.readouterr()
    [line] = out.splitlines()
    assert json.loads(line)["top"] == [{"label": "green", "probability": pytest.approx(0.9992, abs=1e-4)}]
    assert "broken.png: not a picture" in err
    assert main([str(path), str(tmp_path / "green.png"), "flip=true"]) == 2
    assert "no option 'flip'" in capsys.readouterr().err


class NoReader(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


def test_what_ends_it_in_the_middle_is_a_sentence_and_keeps_what_was_predicted(tmp_path, capsys, monkeypatch):
    for name in "ab":
        Image.new("RGB", (4, 4), (0, 200, 0)).save(tmp_path / f"{name}.png")
    path, pictures = graph(tmp_path / "model"), [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    predict = runtime.Model.predict
    endings = [
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "cannot be written to: No space left on device"),
        (MemoryError(), 1, "no memory is left"),
        (ZeroDivisionError("by zero"), 1, "ZeroDivisionError: by zero (test_runtime.py"),
    ]
    for number, (error, code, words) in enumerate(endings):
        ended = iter((None, error))

        def stopped(model, photo, ended=ended, **options):
            if (one := next(ended)) is not None:
                raise one
            return predict(model, photo, **options)

        monkeypatch.setattr(runtime.Model, "predict", stopped)
        out = tmp_path / f"out-{number}"
        assert main([str(path), *pictures, "--out", str(out)]) == code
        said = capsys.readouterr().err
        assert words in said
        assert f"1 of 2 are in {out}" in said
        assert "Traceback" not in said
        assert len((out / "predictions.csv").read_text().splitlines()) == 2  # the columns and one photo
    monkeypatch.setattr(runtime.Model, "predict", predict)
    monkeypatch.setattr(sys, "stdout", NoReader())
    assert main([str(path), *pictures]) == 141


def test_an_array_a_picture_and_a_file_give_the_same_answer(tmp_path):
    model = load(graph(tmp_path))
    pictured = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    Image.fromarray(pictured).save(tmp_path / "photo.png")
    answers = [model.predict(one) for one in (pictured, Image.fromarray(pictured), tmp_path / "photo.png")]
    assert answers[0] == answers[1] == answers[2]
    with pytest.raises(DataError, match=r"uint8 was expected; got float64 of shape \(7, 5, 3\)"):
        model.predict(pictured / 255)


def changed(place: str, value):
    about = copy.deepcopy(ABOUT)
    *above, last = place.split(".")
    inside = about
    for key in above:
        inside = inside[key]
    inside[last] = value
    return {place.partition(".")[0]: about[place.partition(".")[0]]}


HOSTILE = {
    "version": (2, "version 2"),
    "format": ("other", "not a description"),
    "file": ("../../etc/passwd", "the name of a file beside it"),
    "outputs": ([], "outputs: a list of 1"),
    "input": (None, "input: a mapping"),
    "input.size": ([0, 4], "input.size"),
    "input.multiple": (True, "input.multiple"),
    "depth": ("17", "depth: auto, range, a number of bits"),
    "meta": ([], "meta: a mapping"),
    "view.resize": ([], "view.resize: one of"),
    "view.size": ([32768, 32768], "view.size: at most 134,217,728 pixels"),
    "view.interpolation": ("__class__", "view.interpolation"),
    "view.pad": ({"multiple": 0, "least": [0, 0], "color": "mirror"}, "view.pad.multiple"),
    "answer.kind": ("clases", "did you mean 'classes'"),
    "answer": ({"kind": {}}, "answer.kind: one of"),
    "answer.output": ("other", "answer.output: one of logits"),
    "answer.classes": (["red", 5, "blue"], r"answer.classes\[1\]: a text"),
    "answer.top": (-1, "answer.top"),
    "answer.threshold": (10**400, "answer.threshold: a number"),
}
ANSWERS: dict[str, dict] = {
    "classes": {"activation": "sigmoid", "single": False},
    "mask": {"mode": "P", "values": [0, 1, 2], "palette": [0, 0, 0, 9, 9, 9], "reported": [0, 2]},
    "vector": {"key": "embedding"},
    "picture": {"key": "painted", "also": {"by": "waves"}},
    "boxes": {"boxes": "box", "scores": "score", "labels": "number", "most": 9, "reported": [1], "kept": 0.1},
    "values": {"keys": {"points": {"output": "points", "times": "width_height"}}},
}
OUTPUTS = {
    **{"classes": {"logits": np.zeros((1, 3))}, "mask": {"logits": np.zeros((1, 3, 2, 2))}},
    **{"vector": {"logits": np.ones((1, 5))}, "picture": {"logits": np.zeros((1, 3, 4, 4))}},
    "boxes": {"box": np.ones((1, 2, 4)), "score": np.ones((1, 2)), "number": np.array([[1, 2]])},
    "values": {"points": np.ones((1, 1, 2))},
}
VIEWS = (
    {"resize": "crop", "size": [4, 4], "crop": 0.9, "interpolation": "bicubic"},
    {"resize": "short", "short": 4, "long": 8, "pixels": 99, "interpolation": "bilinear",
     "pad": {"multiple": 4, "least": [0, 4], "color": [1, 2.5, 3]}},
)  # fmt: skip
STRANGE = [
    *(None, True, -1, 0, 1, 2.5, 70_000, 10**400, 1e308, "", "../x", "\0", "\ud800", "12"),
    *([], {}, [[]], [{}], [1], [5, 1], [1e308] * 2, [0] * 3, [256] * 3, {"": {}}, {"a": 1}),
]


def every_change(value, strange):
    """A description with each of its values replaced by each of the strange ones, or left out."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield {name: one for name, one in value.items() if name != key}
            yield from ({**value, key: one} for one in (*strange, *every_change(held, strange)))
    elif isinstance(value, list):
        for i, held in enumerate(value):
            yield from ([*value[:i], one, *value[i + 1 :]] for one in (*strange, *every_change(held, strange)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ANSWERS)
def test_whatever_a_description_holds_is_used_or_refused_in_words(kind, tmp_path):
    """No exception but the package's own, whatever is in the place of any of its values."""
    answer = {**ABOUT["answer"], "kind": kind, **ANSWERS[kind]}
    photo, used, refused = Image.new("RGB", (7, 5), (9, 200, 30)), 0, 0
    for view in VIEWS if kind == "boxes" else VIEWS[:1]:
        about = {**ABOUT, "view": view, "answer": answer, "outputs": list(OUTPUTS[kind])}
        assert description.unfit(about) is None
        for one in every_change(about, STRANGE):
            told = description.unfit(one)
            refused += told is not None
            if told is None:
                model = runtime.Model(tmp_path / "model.onnx", one, None)
                shown = model.show(photo)
                with depths.reading(model.depth), suppress(CheckpointError):  # an output of another shape
                    written.stored(answers.answered(one["answer"], OUTPUTS[kind], shown, {}, photo), tmp_path, "x", {})
                    used += 1
    assert used > 20
    assert refused > 500


def test_pictures_of_many_bits_are_read_as_the_run_read_them(tmp_path):
    """4095 is white in 12 bits, whatever else is in the picture."""
    Image.fromarray(np.full((4, 4), 2048, dtype=np.uint16)).save(tmp_path / "half.png")
    for depth, bits in (("12", 12), ("16", 16), ([0, 4096], 12)):
        path = graph(tmp_path / str(bits), depth=depth, answer={"kind": "vector", "output": "logits", "key": "mean"})
        found = load(path).predict(tmp_path / "half.png")["mean"]
        assert found == pytest.approx([10 * 2048 / 2**bits] * 3, abs=0.05)


def test_a_photo_that_would_fill_the_memory_is_named_and_the_others_are_answered(tmp_path, capsys):
    view = {"resize": "short", "short": 2048, "long": None, "interpolation": "bilinear"}
    path = graph(tmp_path / "model", view=view, input={"size": [None, None], "multiple": 1, "extent": False})
    Image.new("RGB", (1, 60)).save(tmp_path / "thin.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "square.png")
    assert main([str(path), str(tmp_path / "thin.png"), str(tmp_path / "square.png"), "top_k=1"]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert "a photo of 1 x 60 pixels would be shown to the model as 2048 x 122880" in err


@pytest.mark.parametrize("place", HOSTILE)
def test_a_description_that_is_none_is_named_with_its_key(place, tmp_path):
    value, words = HOSTILE[place]
    path = graph(tmp_path)
    describe(tmp_path, **changed(place, value))
    with pytest.raises(CheckpointError, match=words) as caught:
        load(path)
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"\xff\xfe", b'{"format": NaN}', b"[" * 100_000], ids=["", "list", "bytes", "NaN", "deep"]
)
def test_what_is_no_description_is_an_error_that_names_the_file(content, tmp_path):
    path = graph(tmp_path)
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.json"):
        load(path)


def test_a_model_file_that_is_another_one_is_refused(tmp_path):
    path = graph(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match="SHA-256"):
        load(path)
    describe(tmp_path)  # which states no checksum
    with pytest.raises(CheckpointError, match="no graph that onnxruntime can read"):
        load(path)
    path.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        load(path)


def test_a_graph_that_gives_something_else_is_refused(tmp_path):
    path = graph(tmp_path, outputs=["embedding"], answer={"kind": "vector", "output": "embedding", "key": "vector"})
    with pytest.raises(CheckpointError, match="takes image and gives logits"):
        load(path)
    path = graph(tmp_path, **changed("answer.classes", ["red", "green"]))
    with pytest.raises(CheckpointError, match=r"shape \(3,\) for a photo; 2 was expected"):
        load(path).predict(Image.new("RGB", (4, 4)))


def test_options_that_make_no_sense_are_refused(tmp_path):
    model = load(graph(tmp_path))
    for threads in (-1, 10**6):
        with pytest.raises(ConfigError, match="threads: 0 to 1024 was expected"):
            load(tmp_path, threads=threads)
    for options, words in [({"top_k": 0}, "whole number"), ({"threshold": 2}, "0 to 1"), ({"windows": 1}, "no option")]:
        with pytest.raises(ConfigError, match=words):
            model.predict(Image.new("RGB", (4, 4)), **options)


def test_pillow_resizes_as_the_training_does_but_for_rounding():
    coarse = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((400, 300), Image.Resampling.BICUBIC)
    for interpolation in ("bilinear", "bicubic"):
        for size in ((224, 298), (61, 97), (450, 500)):
            apart = np.abs(by_pillow(photo, size, interpolation).astype(int) - resized(photo, size, interpolation))
            assert apart.max() <= 2


def test_logits_are_resized_as_torch_resizes_them():
    logits = np.random.default_rng(1).normal(size=(5, 9, 7)).astype(np.float32)
    whole = functional.interpolate(torch.from_numpy(logits)[None], (72, 56), mode="bilinear")[0, :, :60, :50]
    assert (pixels.decided(logits, (72, 56), (60, 50), (60, 50)) == whole.argmax(0).numpy()).all()


def test_a_letterbox_keeps_the_shape_and_fills_the_rest():
    view = {"resize": "short", "short": 20, "long": 30, "interpolation": "bilinear"}
    view["pad"] = {"multiple": 8, "least": [0, 0], "color": [255, 0, 0]}
    shown = show(Image.new("RGB", (200, 100), (0, 0, 255)), view, None)
    assert (shown.extent, shown.image.shape, shown.photo) == ((15, 30), (1, 3, 16, 32), (100, 200))
    assert shown.image[0, :, :15, :30].reshape(3, -1).T.tolist() == [[0, 0, 1]] * 450
    assert shown.image[0, :, 15, :].T.tolist() == [[1, 0, 0]] * 32
    assert show(Image.new("RGB", (10, 90)), view, (16, 16)).extent == (16, 2)  # a graph of one size


def test_vectors_are_written_as_the_library_of_the_format_writes_them(tmp_path):
    for kind in (np.float32, np.float64, np.int64, np.uint8, np.bool_):
        values = np.arange(12).reshape(4, 3).astype(kind)
        save_vectors("embedding", values, tmp_path / "ours")
        save_file({"embedding": values}, tmp_path / "theirs")
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
        assert (load_file(tmp_path / "ours")["embedding"] == values).all()
