"""The benchmark command in small: tables are made, and both loops told the same losses. No time is asserted."""

from __future__ import annotations

import subprocess
import sys

from tests.shared import ROOT


def test_the_benchmark_makes_its_tables(tmp_path):
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), "engine", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "benchmark_engine.md").read_text()
    for loop in ("| bare |", "| bare again |", "| engine |"):
        assert loop in page
    assert "median" in page
    assert (tmp_path / "benchmark_engine.jsonl").read_text().count("\n") >= 1
