"""The contract, as checks that name no task: every installed task must pass them.

    import pytest
    from visiontl import testing

    @pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
    def test_my_task(check, tmp_path):
        check(testing.Case("my_task", tmp_path))

A check raises AssertionError with a sentence. They train the bundled `visiontl/tiny` on the task's `example`
data for a few steps on the CPU. `python -m visiontl.testing.ranks` holds the checks for several processes.
"""

from __future__ import annotations

from visiontl.testing.case import Case
from visiontl.testing.checks import CHECKS, LONG

__all__ = ["CHECKS", "LONG", "Case"]
