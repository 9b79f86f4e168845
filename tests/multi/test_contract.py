"""A stranger's task beside one of ours, unchanged, on one partly labelled set: the checks of the contract hold."""

from __future__ import annotations

import pytest

from tests.multi.made import arrows, installed, keypoints
from visiontl import testing
from visiontl.testing.checks import LONG, caches_features_without_changing_the_head


@pytest.fixture
def case(tmp_path):
    with installed(keypoints()):
        yield testing.Case("multi", tmp_path / "case", arrows(tmp_path / "set"))


QUICK = [one for one in testing.CHECKS if one not in LONG]


@pytest.mark.parametrize("check", [*QUICK, caches_features_without_changing_the_head], ids=lambda one: one.__name__)
def test_two_tasks_of_two_authors_are_a_task(case, check):
    check(case)


def test_features_are_cached_where_one_view_serves_all(case, tmp_path):
    """The stranger's task mirrors photos by itself; shown its pictures, the other part needs no view of its own."""
    settings = ["freeze.policy=all", "features.cache=memory", "features.views=2"]
    apart = case.run(*settings)
    assert not apart.caches
    assert any("not fed the batch's images as they are" in note for note in apart.console.notes)
    together = case.run(*settings, "task.views.side=point")
    assert set(together.caches) == {"train", "val"}
    assert len(together.caches["train"].maps) == 1  # the heat map's
    assert together.caches["train"].pooled is not None  # the class's
