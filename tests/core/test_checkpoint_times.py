"""train.checkpoint_every: auto, which weighs what a checkpoint takes against the time since the last one."""

from __future__ import annotations

import pytest

from visiontl.engine import ledger, saving
from visiontl.engine.train import fit
from visiontl.testing import Case
from visiontl.testing.case import same, state


@pytest.fixture
def written(monkeypatch):
    """The steps of which a checkpoint is written."""
    steps, write = [], saving.write_checkpoint
    monkeypatch.setattr(ledger, "write_checkpoint", lambda run, at: (steps.append(at.step), write(run, at)))
    return steps


@pytest.mark.parametrize(
    ("share", "long", "expected"),
    [(1e9, 600, [4, 8, 12]), (0.0, 600, [4, 12]), (0.0, 0.0, [1, 2, 3, 5, 6, 7, 9, 10, 11, 12])],
    ids=["each epoch", "the first, whose cost is not known, and the end", "within epochs too"],
)
def test_checkpoints_take_their_share_of_the_time(tmp_path, monkeypatch, written, share, long, expected):
    monkeypatch.setattr(ledger, "SHARE", share)
    monkeypatch.setattr(ledger, "LONG", long)
    run = Case("brightness", tmp_path).run("train.epochs=3", "train.checkpoint_every=auto")
    assert run.steps_per_epoch == 4
    fit(run)
    assert written == expected


def test_a_run_that_goes_on_from_a_rare_checkpoint_ends_with_the_same_bits(tmp_path, monkeypatch, written):
    monkeypatch.setattr(ledger, "SHARE", 0.0)
    case = Case("brightness", tmp_path)
    settings = ("train.epochs=3", "train.checkpoint_every=auto")
    whole = case.run(*settings)
    fit(whole)
    cut = case.run(*settings)
    monkeypatch.setattr(ledger.Ledger, "save_the_end", lambda self: None)  # as a kill leaves it
    fit(cut)
    monkeypatch.undo()
    again = case.run(*settings, f"resume={cut.folder}")
    fit(again)
    assert written[:3] == [4, 12, 4]
    assert same(state(whole), state(again)) == []
