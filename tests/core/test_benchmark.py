"""The benchmark command in small: tables are made, and both loops told the same losses. No time is asserted."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

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
