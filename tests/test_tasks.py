"""Every installed task, ours and a stranger's, passes the same checks."""

from __future__ import annotations

import pytest

from visiontl import plugins, testing

TASKS = sorted(plugins.tasks())


def test_our_tasks_and_a_strangers_are_installed():
    assert {"brightness", "classification", "detection", "face", "segmentation", "ssl", "style"} <= set(TASKS)


@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("task", TASKS)
def test_contract(task, check, tmp_path):
    check(testing.Case(task, tmp_path))
