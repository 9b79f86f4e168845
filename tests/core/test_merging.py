"""`visiontl merge`: averages of weights and the path between two runs, against NumPy and plain loops."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import visiontl
from visiontl import cli
from visiontl.config.merging import MergeOptions
from visiontl.engine.averages import average, between
from visiontl.engine.evaluate import evaluate
from visiontl.engine.merging import merge
from visiontl.errors import CheckpointError, DataError
from visiontl.testing import Case

RUNNING = ("running_mean", "running_var")


def trained(case: Case, name: str, *overrides: str) -> Path:
    return Path(visiontl.train(case.resolved(f"run.name={name}", "train.epochs=1", *overrides))["run"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of one start, which have other statistics in their normalization layers."""
    case = Case("classification", tmp_path_factory.mktemp("merge"), {"augment": "none"})
    first = trained(case, "a", "freeze.policy=none")
    rest = [trained(case, name, f"init={first}", f"train.seed={i}") for i, name in enumerate("bc", start=5)]
    return SimpleNamespace(case=case, paths=[first, *rest])


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model" / "model.safetensors")


def val(folder: Path | str, **given) -> float:
    return evaluate(folder, splits=["val"], **given)["scores"]["val"]["accuracy"]


def test_a_uniform_soup_is_the_mean_and_its_statistics_are_those_of_the_training_images(runs, tmp_path):
    merge(runs.paths, tmp_path / "out", MergeOptions(how="uniform"))
    found, parts = weights(tmp_path / "out"), [weights(run) for run in runs.paths]
    for name, value in found.items():
        if np.issubdtype(value.dtype, np.floating) and not name.endswith(RUNNING):
            wanted = np.mean([part[name].astype(np.float64) for part in parts], axis=0).astype(np.float32)
            np.testing.assert_array_equal(value, wanted, err_msg=name)

    # what the first normalization layer is given, image by image, in a model that is loaded anew
    built = visiontl.load(tmp_path / "out").built
    place, layer = next((n, m) for n, m in built.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d))
    given: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].double()))
    data = built.resolved.task.data(built.resolved.cfg, built.backbone.spec, None)
    split = data.still or data.train
    with torch.no_grad():
        for start in range(0, len(split), 4):
            ids = range(start, min(start + 4, len(split)))
            samples = [split[i, 0] for i in ids]
            built.model(built.resolved.task.collate(built.resolved.cfg, samples, None, built.meta))
    mean = torch.stack([one.mean((0, 2, 3)) for one in given]).mean(0)  # (C,)
    np.testing.assert_allclose(found[f"{place}.running_mean"], mean, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found[f"{place}.running_mean"], np.mean([p[f"{place}.running_mean"] for p in parts], axis=0))


def test_a_greedy_soup_takes_what_makes_it_better_and_is_never_worse_on_val(runs, tmp_path):
    report = merge([run / "model" for run in runs.paths], tmp_path / "out")  # the runs that these are of
    scores = [val(run) for run in runs.paths]
    assert report["scores"]["val"]["accuracy"] >= max(scores)
    assert val(tmp_path / "out" / "model", out=tmp_path / "again") == report["scores"]["val"]["accuracy"]
    assert visiontl.load(tmp_path / "out").scores["accuracy"] == report["scores"]["val"]["accuracy"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "in the mean" in page
    assert not [note for note in report["notes"] if "not known" in note]


def test_a_path_is_measured_at_its_points_and_its_ends_are_the_runs(runs, tmp_path, capsys):
    report = merge(runs.paths[:2], tmp_path / "out", MergeOptions(how="path", points=3))
    said = capsys.readouterr().out
    values = [
        float(line.split()[2]) for line in said.splitlines() if line.startswith("val accuracy") and "share" in line
    ]
    assert [values[0], values[-1]] == pytest.approx([val(run) for run in runs.paths[:2]], abs=1e-4)
    assert report["scores"]["val"]["accuracy"] == pytest.approx(max(values), abs=1e-4)


def test_means_are_computed_in_float64_and_whole_numbers_are_the_first_ones():
    rng = np.random.default_rng(0)
    states = [
        {"w": torch.tensor(rng.normal(size=5) * 10.0**i, dtype=torch.float16), "n": torch.tensor(i)}
        for i in range(-2, 3)
    ]
    found = average(iter(states))
    wanted = np.mean([state["w"].double().numpy() for state in states], axis=0).astype(np.float16)
    np.testing.assert_array_equal(found["w"].numpy(), wanted)
    assert found["n"].item() == -2
    half = between(states[0], states[4], 0.25)["w"].numpy()
    wanted = 0.75 * states[0]["w"].double().numpy() + 0.25 * states[4]["w"].double().numpy()
    np.testing.assert_array_equal(half, wanted.astype(np.float16))
    assert torch.equal(between(states[0], states[4], 1.0)["w"], states[4]["w"])


@pytest.mark.parametrize("task", ["detection", "style"])
def test_runs_of_another_task_are_merged_too(task, tmp_path):
    case = Case(task, tmp_path)
    policy = case.policies(["none", "norm_and_bias", "all"])[0]
    first = trained(case, "a", f"freeze.policy={policy}")
    second = trained(case, "b", f"freeze.policy={policy}", f"init={first}", "train.seed=5")
    report = merge([first, second], tmp_path / "out", MergeOptions(how="uniform"))
    assert set(report["scores"]) >= {"val"}
    assert (tmp_path / "out" / "report.html").exists()
    visiontl.load(tmp_path / "out")


def test_what_cannot_be_merged_is_refused_before_anything_is_measured(runs, tmp_path, capsys):
    a, b, _ = runs.paths
    link, copy = a.with_name("link"), a.with_name("copy")
    link.symlink_to(a)
    shutil.copytree(a, copy)
    for given, words in [
        (["merge", a], "2 or more runs are merged; got 1"),
        (["merge", a, a], "named twice"),
        (["merge", a, a.parent / ".." / a.parent.name / a.name], "named twice"),
        (["merge", a, a / "model"], "named twice"),
        (["merge", a, link], "named twice"),
        (["merge", a, b, copy, "how=uniform"], "a and copy hold the same weights, to the bit"),
        (["merge", a, b, "points=5"], "points=5 is of how=path alone"),
        (["merge", a, b, "how=path", "points=2"], "points"),
        (["merge", a, b, "how=pth"], "greedy"),
        (["merge", *runs.paths, "how=path"], "two runs are merged; got 3"),
        (["merge", a, a.with_name("ab")], "did you mean"),
        (["merge", a, b, "--out", a], "is not empty"),
    ]:
        assert cli.main([str(word) for word in given]) == 2
        assert words in capsys.readouterr().err
    assert not list(a.parent.glob("merge*"))

    other = tmp_path / "other"
    shutil.copytree(b, other)
    names = [json.dumps(name) for name in json.loads(f"[{','.join((a / 'splits' / 'val.txt').read_text().split())}]")]
    (other / "splits" / "train.txt").write_text((b / "splits" / "train.txt").read_text() + names[0] + "\n")
    with pytest.raises(DataError, match="was trained on 1 image of val"):
        merge([a, other], tmp_path / "out")
    face = trained(Case("brightness", tmp_path), "face")
    with pytest.raises(CheckpointError, match="differ in their task: classification and brightness"):
        merge([a, face], tmp_path / "out2")
