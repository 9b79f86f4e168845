"""Weights that overflow give an error in words, and no answer that means nothing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from visiontl_style.tiles import to_bytes

import visiontl
from tests.bad_input.outcome import command
from tools.campaigns.fuzzing.readers import signed, trained
from visiontl.backbones.matching import not_finite
from visiontl.engine.wrapping import load_model_state
from visiontl.errors import CheckpointError
from visiontl.kit.finite import require_finite
from visiontl.kit.statements import sound
from visiontl.runs.files import read_lines
from visiontl.spec import ImageSpec

NAN, INF = math.nan, math.inf


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("trained")
    trained(place)
    return place


@pytest.fixture
def place(whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def enlarged(place, factor: float) -> None:
    file = place / "run/model/model.safetensors"
    held = load_file(file)
    save_file({k: v * factor if k.endswith("weight") else v for k, v in held.items()}, file)
    signed(file.parent)


@pytest.mark.parametrize(
    ("factor", "words"), [(1e30, "or are too large to compute with"), (1e15, "answers with values that are no finite")]
)
def test_weights_that_overflow(capsys, place, factor, words):
    enlarged(place, factor)
    made = {*place.rglob("*")}
    for words_of in (["predict", "run", "photos"], ["evaluate", "run"]):
        done = command(capsys, place, *words_of)
        assert done.code == 2, done.out
        assert words in done.err
    left = {path for path in place.rglob("*") if path not in made and path.suffix in (".json", ".jsonl", ".csv")}
    assert not [path for path in left if "NaN" in path.read_text() or "null" in path.read_text()]
    with pytest.raises(CheckpointError, match="numbers"):
        visiontl.load(place / "run").predict(np.zeros((20, 24, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": torch.ones(2, 2)}, "w.safetensors: its weights do not fit .* Missing key"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "w.safetensors: its weights do not fit .* size mismatch"),
        ({"weight": torch.ones(2, 2), "bias": torch.full((2,), NAN)}, "w.safetensors: 1 of its 2 tensors hold values"),
    ],
)
def test_a_state_that_is_another_model_s_is_refused_in_words(state, words):
    with pytest.raises(CheckpointError, match=words):
        load_model_state(torch.nn.Linear(2, 2), state, Path("w.safetensors"))


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("nested", [lambda x: x, lambda x: {"a": [{"b": x}]}, lambda x: (torch.ones(2), x)])
def test_one_value_in_all_outputs_is_found(bad, nested):
    sound = nested(torch.tensor([[1.0, -INF], [0.0, 3.0]]))  # scores that are masked out
    assert require_finite(sound) is sound
    with pytest.raises(CheckpointError, match="no finite numbers"):
        require_finite(nested(torch.tensor([[1.0, -INF], [bad, 3.0]])))


def test_what_is_no_float_passes():
    for one in (torch.arange(3), torch.zeros(0), [], {}, "text", None):
        assert require_finite(one) is one


def test_a_painted_picture_is_not_made_of_what_is_no_number():
    assert to_bytes(torch.full((3, 2, 2), 0.5)).unique().tolist() == [128]
    with pytest.raises(CheckpointError, match="no finite numbers"):
        to_bytes(torch.full((3, 2, 2), NAN))


def test_an_explanation_that_is_stopped_leaves_no_folder_without_records(capsys, place, monkeypatch):
    from visiontl.engine import explanations

    monkeypatch.setattr(explanations.Explainer, "explain", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        explanations.explain_files("run", ["photos"], out="out")
    assert not (place / "out").exists()
    real, seen = explanations.Written.add, []

    def add(self, *given):
        if seen:
            raise OSError(28, "No space left on device")
        seen.append(real(self, *given))

    monkeypatch.undo()
    monkeypatch.chdir(place)
    monkeypatch.setattr(explanations.Written, "add", add)
    assert command(capsys, place, "explain", "run", "photos", "--out", "out").code == 2
    assert len((place / "out/explanations.jsonl").read_text().splitlines()) == 1


def test_complex_weights_in_the_place_of_real_ones_are_refused():
    assert not_finite({"a.running_var": torch.ones(2, dtype=torch.complex64)}, ()) == []
    state = {"weight": torch.ones(2, 2, dtype=torch.complex64), "bias": torch.ones(2)}
    with pytest.raises(CheckpointError, match=r"w\.safetensors: complex numbers in the place of real ones: weight"):
        load_model_state(torch.nn.Linear(2, 2), state, Path("w.safetensors"))


@pytest.mark.parametrize("classes", [["a", ["b"]], ["a", {"b": 1}], "ab", {"a": 1, "b": 2}, [1, 2], None])
def test_names_of_classes_that_are_none_are_refused_when_a_model_is_read(place, classes):
    file = place / "run/model/meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "classes": classes}))
    signed(file.parent)
    with pytest.raises(CheckpointError, match=r"meta\.json: is not what task classification builds a model from"):
        visiontl.load("run")


def test_what_the_third_fuzz_campaign_found_is_refused(tmp_path):
    """A hub's deviation of 1e300, weights of four bits, half of a surrogate pair as the name of a number."""
    one = (1.0, 1.0)
    for spec in (ImageSpec(std=(1e300, *one)), ImageSpec(mean=(1e300, *one)), ImageSpec(std=(1e-30, *one))):
        with pytest.raises(ValueError, match="1e6"):
            sound(spec)
    four_bits = torch.zeros(4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    assert not_finite({"a": four_bits, "b": torch.ones(2)}, {"a", "b"}) == ["a"]
    line = '{"step": 1, "kind": "train", "loss": 1.0}\n'
    (tmp_path / "metrics.jsonl").write_text(line + line.replace("loss", "\\ud83d"))
    records, lost = read_lines(tmp_path)
    assert (len(records), lost) == (1, 1)
