"""The fault campaign in small, in a process of its own: it forks, which a process with threads must not."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.shared import ROOT
from tools.campaigns.faults import Result, faults, table

FAMILIES = ("printing", "clock", "refusal")
CHOSEN = ("closed", "goes back twice", "from its first checkpoint on", "once, at its report")
SOME = f"""
import sys
from tools.campaigns import faults
every = faults.faults
faults.faults = lambda tasks: [one for one in every(tasks) if one.what in {CHOSEN}]
sys.exit(faults.main())
"""


def test_runs_end_in_words_or_go_on_and_resume_to_the_same_bits(tmp_path):
    command = [sys.executable, "-c", SOME, str(tmp_path), "--task", "brightness"]
    command += [word for family in FAMILIES for word in ("--family", family)]
    paths = os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = [Result(**json.loads(line)) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert {result.family for result in results} == set(FAMILIES)
    assert sorted(result.what for result in results) == sorted(CHOSEN)
    assert not [result.problems for result in results if result.problems]
    ended = [result for result in results if result.code]
    assert len(ended) == 2
    assert all(result.ended.startswith("error: ") and result.resumed for result in ended)
    assert table(results) in done.stdout


def test_there_are_many_faults_and_each_has_its_own_name():
    found = faults(["a", "b", "c", "d", "e"])
    assert len(found) > 100
    assert len({fault.name for fault in found}) == len(found)
