"""The kill campaign in small, in a process of its own: it forks, which a process with threads must not."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.shared import ROOT
from tools.campaigns.kills import Result, table


def test_killed_runs_resume_to_the_same_bits(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "tools/campaigns/kills.py"),
        str(tmp_path),
        "--number",
        "12",
        "--task",
        "brightness",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    results = [Result(**json.loads(line)) for line in (tmp_path / "kills.jsonl").read_text().splitlines()]
    assert sum(len(result.moments) for result in results) >= 12
    assert sum(result.inside for result in results) >= 2
    for place in ("evaluation", "report", "resume"):
        assert any(result.at(place) for result in results), place
    assert any(result.row >= 3 for result in results)  # kills of one run without another checkpoint between them
    assert {result.setting["processes"] for result in results} == {1, 2}
    assert {result.setting["workers"] for result in results} == {0, 2}
    assert not [result.problems for result in results if result.problems]
    assert table(results) in done.stdout
