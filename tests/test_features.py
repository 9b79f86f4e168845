"""Heads on stored features against heads on images, of every task that can have them."""

from __future__ import annotations

import pytest

from visiontl.engine.train import fit
from visiontl.features import opened
from visiontl.testing import Case
from visiontl.testing.case import same, state

# How each leaves its training images as they are
STILL = {"classification": {"augment": "none"}, "segmentation": {"augment": "none"}, "face": {"augment": "none"}}


@pytest.mark.parametrize("task", sorted(STILL))
def test_the_head_is_the_same_to_the_bit(task, tmp_path, monkeypatch):
    """Batches of two, of which there is never a smaller one; on the images, from a new store, from the same again."""
    monkeypatch.setattr(opened, "FRESH", 0)  # the example's pictures are as young as the test
    case = Case(task, tmp_path, STILL[task])
    settings = ["freeze.policy=all", "train.batch_size=2", "train.epochs=2"]
    kept = [*settings, "features.cache=disk", f"features.folder={tmp_path / 'store'}"]
    runs = [case.run(*settings), case.run(*kept), case.run(*kept)]
    assert [sorted(run.caches) for run in runs] == [[], ["train", "val"], ["train", "val"]], runs[1].console.notes
    assert sum("found in" in note for note in runs[2].console.notes) == 2
    scores = []
    for run in runs:
        scores.append(fit(run).scores)
    assert same(state(runs[0]), state(runs[1])) == []
    assert same(state(runs[0]), state(runs[2])) == []
    assert scores[0] == scores[1] == scores[2]
