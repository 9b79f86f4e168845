"""The benchmark command in small: tables are made, and both loops told the same losses. No time is asserted."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure as Drawing
from PIL import Image
from torchvision import models

from tests.shared import ROOT


def test_the_benchmark_makes_its_tables(tmp_path):
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), "engine", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "benchmark_engine.md").read_text()
    for loop in ("| bare |", "| bare again |", "| engine |"):
        assert loop in page
    assert "median" in page
    assert (tmp_path / "benchmark_engine.jsonl").read_text().count("\n") >= 1


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return importlib.import_module("benchmarks.harness")


def test_each_case_is_first_in_turn_and_ratios_are_within_rounds(harness):
    """A machine that gets slower with every lap: what takes the same work has a ratio near 1 in the median."""
    ran = []

    def lap(name, work):
        ran.append(name)
        return work * (1 + len(ran) / 100)

    cases = [
        harness.Case(name, lambda name=name, work=work: lap(name, work))
        for name, work in (("a", 1), ("b", 1), ("c", 2))
    ]
    laps = harness.measure(cases, rounds=12, warmup=0)
    assert {tuple(sorted(ran[i : i + 3])) for i in range(0, 36, 3)} == {("a", "b", "c")}
    assert {name: ran[::3].count(name) for name in "abc"} == {"a": 4, "b": 4, "c": 4}
    assert harness.ratios(laps["b"], laps["a"]).median == pytest.approx(1, abs=0.02)
    assert harness.ratios(laps["c"], laps["a"]).median == pytest.approx(2, abs=0.04)


def test_losses_that_differ_are_seen(harness):
    same, other = harness.Lap(1.0, ((0.5).hex(), (0.25).hex())), harness.Lap(1.0, ((0.5).hex(), (0.26).hex()))
    assert harness.loss_difference({"a": [same], "b": [same]}, "a") == 0
    assert harness.loss_difference({"a": [same], "b": [other]}, "a") == pytest.approx(0.04)
    with pytest.raises(harness.BenchmarkError, match="told 0 losses"):
        harness.loss_difference({"a": [same], "b": [harness.Lap(1.0)]}, "a")


def test_a_table_that_was_measured_is_not_measured_again(harness, tmp_path, capsys):
    made = []

    def make(title):
        made.append(title)
        return harness.Table(["x"], [[title]])

    for titles in (["one"], ["one", "two"]):
        harness.run_section(
            "sample", "About.", [(title, lambda title=title: make(title)) for title in titles], tmp_path
        )
    assert made == ["one", "two"]
    page = (tmp_path / "benchmark_sample.md").read_text()
    assert page.index("## one") < page.index("## two")
    assert "measured before" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ features


@pytest.fixture
def features(harness):
    return importlib.import_module("benchmarks.features")


@pytest.fixture
def few_photos(features, tmp_path):
    """--data and --weights of the section: eight photos to train on and four to validate, weights of no training."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for name, shade in (("ants", 60), ("bees", 190)):
            folder = tmp_path / "data" / features.PHOTOS / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.normal(shade, 30, (40, 50, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.jpg")
    torch.manual_seed(0)
    weights = tmp_path / "weights" / features.WEIGHTS
    weights.parent.mkdir(parents=True)
    torch.save(models.mobilenet_v2().state_dict(), weights)
    return ["--data", str(tmp_path / "data"), "--weights", str(tmp_path / "weights")]


def test_a_sample_of_the_benchmark_of_features(features, few_photos, tmp_path, monkeypatch):
    """The command, with the loops of its processes in this one. The weights that it claims to be equal are."""
    loops = importlib.import_module("benchmarks.feature_loops")
    monkeypatch.setattr(Drawing, "savefig", lambda self, out, **more: out.write("<svg></svg>"))

    def child(spec, folder, **more):
        began = time.process_time()
        told = getattr(loops, more["loop"])({**spec, "folder": folder, **more})
        return features.Took(time.process_time() - began, 1.0, told)

    def tables(options, every=features.tables):  # but the one of an epoch, whose runs are the first one's again
        yield from (one for one in every(options) if one[0] != "An epoch and an update")

    monkeypatch.setattr(features, "child", child)
    monkeypatch.setattr(features, "tables", tables)
    monkeypatch.setattr(features, "BATCH", 4)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "features", "--quick", "--out", str(tmp_path), *few_photos])
    assert importlib.import_module("benchmark").main() == 0
    page = (tmp_path / "benchmark_features.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    heads = {row[0]: row[-1] for row in rows[2:8]}
    assert list(heads.values()).count("") == 1  # of scikit-learn, which trains another
    [head] = {head for head in heads.values() if head}
    assert len(bytes.fromhex(head)) == 6
    assert "visiontl, features.cache: off, by one and two epochs" in heads
    told = [float(cell) for row in [*rows[2:8], *rows[10:]] for cell in row[1:3]]
    assert len(told) == 2 * (6 + 4)
    assert np.isfinite(told).all()


@pytest.mark.parametrize("heads", ["aaabaa", "aaaaba", "aaaaab", "baaaaa"])
def test_weights_that_differ_make_no_table(heads, features, harness, monkeypatch):
    told = iter(heads)

    def child(spec, folder, **more):
        return features.Took(1.0, 1.0, {"head": next(told)} if more["loop"] == "run" else {})

    monkeypatch.setattr(features, "child", child)
    with pytest.raises(harness.BenchmarkError, match="heads differ"):
        features.whole_table({}, 2, with_peers=False)
