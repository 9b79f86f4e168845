"""A checkpoint whose files fit its manifest and whose values do not: words, no trace and no wrong run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from visiontl import cli
from visiontl.engine.state import read_state, require_end
from visiontl.engine.train import fit
from visiontl.errors import CheckpointError
from visiontl.runs import store
from visiontl.testing import Case

LAST = "step-00000008"
SCORES = ["mae"]


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Path:
    """A run that was cut off after its last checkpoint: 8 updates."""
    case = Case("brightness", tmp_path_factory.mktemp("state"))
    run = case.run("run.name=one", "train.ema={decay: 0.9}")
    fit(run)
    assert store.step_folders(run.folder / "checkpoints")[0].name == LAST
    return run.folder


def fitting(folder: Path) -> None:
    """The manifest says what now lies there."""
    files = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in folder.iterdir()
        if path.name != store.MANIFEST
    }
    (folder / store.MANIFEST).write_text(json.dumps({"format": store.FORMAT, "files": files}))
    assert store.damage(folder) is None


def changed(begun: Path, place: Path, **values: Any) -> Path:
    """A copy of the newest checkpoint whose state says something else."""
    shutil.copytree(begun / "checkpoints" / LAST, place)
    state = json.loads((place / "state.json").read_text())
    (place / "state.json").write_text(json.dumps({**state, **values}))
    return place


BEST = {"score": "mae", "value": 0.3, "step": 4, "epoch": 1.0}
WRONG = [
    ("step", float("nan"), "valid integer"),
    ("step", "6", "valid integer"),
    ("step", 2.5, "valid integer"),
    ("step", -3, "greater than or equal to 0"),
    ("step", True, "valid integer"),
    ("step", 10**12, "the run has 8 updates"),
    ("best", "x", "dictionary"),
    ("best", [], "dictionary"),
    ("best", {**BEST, "value": "high"}, "best.value is 'high'"),
    ("best", {**BEST, "value": float("inf")}, "best.value is inf"),
    ("best", {**BEST, "score": "mao"}, "best.score is 'mao': the task's scores are mae"),
    ("best", {**BEST, "step": 9}, "best.step is 9: it lies behind"),
    ("best", {"score": "mae"}, "best.value"),
    ("window", [{"loss": ["a", None]}], "window.0.loss.0"),
    ("window", [{"loss": [1.0]}], "window.0.loss"),
    ("window", [{}, {}], "one entry for each of 1 processes"),
    ("window", "x", "window is 'x'"),
    ("seconds", "x", "valid number"),
    ("seconds", -1.0, "greater than or equal to 0"),
    ("due", "no", "valid boolean"),
    ("start", {"val": 3}, "start.val"),
    ("without_gain", None, "valid integer"),
    ("ema_updates", "many", "valid integer"),
    ("scaler", {"scale": "x"}, "scaler.scale"),
    ("processes", 0, "greater than or equal to 1"),
    ("cached", "train", "valid list"),
    ("config_hash", 5, "valid string"),
    ("data_fingerprint", None, "valid string"),
    ("preprocessing", {"size": "x", "mean": [0.5], "std": [0.5]}, "preprocessing is"),
    ("preprocessing", {"size": [64, 64]}, "states no mean, std"),
    ("preprocessing", {"size": [64, 64], "mean": [0.5], "std": [0.5], "more": 1}, "preprocessing is"),
]


@pytest.mark.parametrize(("key", "value", "said"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_value_of_another_kind_is_named_with_what_was_expected(begun, tmp_path, key, value, said):
    folder = changed(begun, tmp_path / "c", **{key: value})
    with pytest.raises(CheckpointError) as raised:
        require_end(folder, read_state(folder), 8, SCORES)
    text = str(raised.value)
    assert said in text
    assert key in text
    assert "Remove " in text


def test_what_a_run_writes_is_accepted_and_a_lacking_value_is_named(begun, tmp_path):
    folder = changed(begun, tmp_path / "c", window=[{"loss": [float("nan"), 4]}], start={"val": {"mae": float("nan")}})
    state = read_state(folder)
    require_end(folder, state, 8, SCORES)
    for key in json.loads((begun / "checkpoints" / LAST / "state.json").read_text()).keys() - {"visiontl"}:
        (folder / "state.json").write_text(json.dumps({name: state[name] for name in state if name != key}))
        with pytest.raises(CheckpointError, match=f"has no {key}"):
            read_state(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_value_whatever_makes_a_trace(begun, tmp_path_factory, data):
    state = json.loads((begun / "checkpoints" / LAST / "state.json").read_text())
    key = data.draw(st.sampled_from(sorted(state)))
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "state.json").write_text(json.dumps({**state, key: data.draw(JSON)}))
    with contextlib.suppress(CheckpointError):
        found = read_state(folder)
        require_end(folder, found, 8, SCORES)
        assert 0 <= found["step"] <= 8
        assert not isinstance(found["step"], bool | float)


def resumed(run: Path) -> tuple[int, str]:
    """(exit code, what `visiontl train` says) of going on with a run."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = cli.main(["train", str(run / "config.yaml"), f"resume={run}"])
    return code, said.getvalue()


def tensors(folder: Path, name: str, change) -> None:
    found = load_file(folder / name)
    change(found)
    (folder / name).unlink()
    save_file(found, folder / name)


def first(found: dict, ending: str = "") -> str:
    return next(name for name in found if name.endswith(ending))


FILES = {
    "model.safetensors: does not fit the model (lacks": ("model.safetensors", lambda found: found.pop(first(found))),
    "model.safetensors: does not fit the model (has strange": (
        "model.safetensors",
        lambda found: found.update(strange=torch.zeros(1)),
    ),
    "expected (": ("ema.safetensors", lambda found: found.update({first(found): torch.zeros(7)})),
    "optimizer.safetensors: does not fit the model (has strange|exp_avg": (
        "optimizer.safetensors",
        lambda found: found.update({"strange|exp_avg": torch.zeros(1)}),
    ),
    "optimizer.safetensors: does not fit the model (lacks": (
        "optimizer.safetensors",
        lambda found: found.pop(first(found, "|exp_avg_sq")),
    ),
    "optimizer.safetensors: does not fit the model (head": (
        "optimizer.safetensors",
        lambda found: found.update({"head.1.weight|exp_avg": torch.zeros(2, 3)}),
    ),
}


@pytest.mark.parametrize("said", FILES)
def test_tensors_that_do_not_fit_are_named(begun, tmp_path, said):
    name, change = FILES[said]
    run = tmp_path / "one"
    shutil.copytree(begun, run)
    tensors(run / "checkpoints" / LAST, name, change)
    fitting(run / "checkpoints" / LAST)
    code, text = resumed(run)
    assert code == CheckpointError.exit_code, text
    assert name in text
    assert said in text
    assert "Traceback" not in text


@pytest.mark.parametrize("state", [{"step": 2.5}, {"best": "x"}, {"window": [{"loss": ["a", None]}], "seconds": "x"}])
def test_the_command_says_it_too(begun, tmp_path, state):
    run = tmp_path / "one"
    shutil.copytree(begun, run)
    shutil.rmtree(run / "checkpoints" / LAST)
    changed(begun, run / "checkpoints" / LAST, **state)
    fitting(run / "checkpoints" / LAST)
    code, text = resumed(run)
    assert (code, "Traceback" in text, "internal" in text) == (CheckpointError.exit_code, False, False), text
    assert f"{next(iter(state))}" in text
    shutil.rmtree(run / "checkpoints" / LAST)  # as the message says
    assert resumed(run)[0] == 0
