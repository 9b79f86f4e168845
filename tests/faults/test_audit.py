"""What a run writes, starts and connects to, as Python's audit hooks see it, for all tasks in one process."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.shared import ROOT


def test_nothing_is_written_elsewhere_started_or_connected_to(tmp_path):
    command = [sys.executable, str(ROOT / "tests/faults/audited.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    spoiled = {task: codes for task, codes in told["codes"].items() if task.endswith("spoiled")}
    assert {task: codes for task, codes in told["codes"].items() if task not in spoiled} == {
        task: [0, 0, 0, 0] for task in ("classification", "detection", "segmentation", "face", "style")
    }, done.stderr[-3000:]
    assert len(spoiled) == 5
    assert {code for codes in spoiled.values() for code in codes} <= {0, 2}, spoiled  # 2: refused in words
    assert told["found"] == []
    assert told["changed"] == []
    assert {event for event, _ in told["broken"]} >= {"open", "os.remove", "subprocess.Popen", "socket.connect"}
