"""The damage campaign in small: one task, and a sample of the resumed runs."""

from __future__ import annotations

from tools.campaigns.damage import campaign


def test_every_change_to_a_checkpoint_or_a_model_is_found(tmp_path):
    outcomes = campaign(tmp_path, ["brightness"], resumes=2, seed=0)
    assert len(outcomes) >= 500
    assert not [(one.place, one.file, one.what, one.said) for one in outcomes if not one.found]
