"""The conformance checks leave out the policies that a task refuses, and at least one must remain."""

from __future__ import annotations

import pytest

from tools.campaigns.kills import VARIANTS, Setting, variant
from visiontl.testing import Case
from visiontl.testing.checks import POLICIES
from visiontl.testing.ranks import NotApplicable, check_policy


@pytest.fixture
def refusing(tmp_path) -> Case:
    """The tests' own task, whose `refuse` says no to `all` where dropout is high."""
    return Case("brightness", tmp_path, {"dropout": 0.95})


def test_refused_policies_are_left_out(refusing, tmp_path):
    assert refusing.policies(POLICIES) == [policy for policy in POLICIES if policy != "all"]
    assert Case("brightness", tmp_path).policies(POLICIES) == list(POLICIES)


def test_a_task_that_refuses_everything_fails_the_checks(refusing):
    with pytest.raises(AssertionError, match="brightness refuses every freeze policy of all"):
        refusing.policies(["all"])


def test_on_several_processes_a_refused_policy_is_not_applicable_and_the_reason_is_said(refusing):
    with pytest.raises(NotApplicable, match="its dropout needs a moving head"):
        check_policy(refusing, "all")


def test_the_kill_campaign_drops_a_refused_policy_alone(refusing, monkeypatch):
    setting = Setting("brightness", 1, 0, "sgd, gradual, accumulated")
    assert variant(refusing, setting) == VARIANTS[setting.variant]
    monkeypatch.setattr(Case, "refusal", lambda self, policy: "no" if "gradual" in policy else None)
    assert variant(refusing, setting) == [text for text in VARIANTS[setting.variant] if "freeze" not in text]
