"""Every installed task, ours and a stranger's, passes the same checks."""

from __future__ import annotations

import subprocess
import sys

import pytest

from visiontl import plugins, testing
from visiontl.testing.checks import POLICIES

TASKS = sorted(plugins.tasks())


def test_our_tasks_and_a_strangers_are_installed():
    assert {"brightness", "classification"} <= set(TASKS)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", TASKS)
def test_contract(task, check, tmp_path):
    check(testing.Case(task, tmp_path))


def test_contract_on_two_processes(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, "-m", "visiontl.testing.ranks", str(tmp_path), *TASKS], capture_output=True, text=True, timeout=600
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("ok", "FAILED"))]
    assert done.returncode == 0, "\n".join([*lines, done.stderr[-2000:]])
    assert len(lines) == (len(POLICIES) + 1) * len(TASKS)
    assert all(line.startswith("ok  2 processes") for line in lines)
